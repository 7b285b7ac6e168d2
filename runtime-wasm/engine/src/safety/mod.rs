//! Noticing that somebody may need help at once, and what is said then.
//!
//! Rules ([`Gate`]) and help texts ([`help`]) are compiled in from `models/safety`. The rules are one half: the other is
//! a classifier, which [`crate::reader::Reader`] puts beside them.

mod help;
mod pattern;
mod plain;
mod rules;

use serde::Serialize;

pub use help::{Help, help, regions};

/// What may be the matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Somebody may harm or kill themselves, or somebody else.
    MentalHealth,
    /// Somebody's life or health is in danger.
    Medical,
    /// Somebody is hurt, threatened or controlled by somebody else.
    Abuse,
    /// None of them.
    None,
}

impl Category {
    /// Those that call for help, in the order of the classifier's labels.
    pub const ALL: [Self; 3] = [Self::MentalHealth, Self::Medical, Self::Abuse];

    /// Its name in files and replies.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MentalHealth => "mental_health",
            Self::Medical => "medical",
            Self::Abuse => "abuse",
            Self::None => "none",
        }
    }
}

/// The phrase rules.
#[derive(Debug)]
pub struct Gate {
    rules: rules::Rules,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// The rules of `models/safety/rules.toml`. A pattern is compiled when a text comes that it may match.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rules: rules::Rules::new(),
        }
    }

    /// Which categories a text belongs to, in the order of [`Category::ALL`]. The whole text is read, however long, in
    /// time that grows with its length.
    #[must_use]
    pub fn check(&self, text: &str) -> [bool; 3] {
        self.rules.check(text)
    }
}
