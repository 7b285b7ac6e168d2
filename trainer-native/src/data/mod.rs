//! From files of examples to batches of tokens.
//!
//! ```text
//! reader  JSON lines -> Example (a chat or a text)
//! mix     which files, how often, how many
//! split   held out by hash; leaks dropped
//! encode  Example -> Piece: ids and what each counts as in the loss
//! pack    Pieces -> rows of T + 1 tokens -> Batch
//! template what a base's own chat template puts around turns
//! prepare all of these in one call
//! ```
//!
//! The same files, settings and seed give the same batches.

pub mod encode;
pub mod mix;
pub mod pack;
pub mod prepare;
pub mod reader;
pub mod split;
pub mod template;

use serde::{Deserialize, Serialize};

/// Who speaks in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sets the scene.
    System,
    /// Asks.
    User,
    /// Answers; what the model learns to say.
    Assistant,
}

impl Role {
    /// The name used in files and in the chat template.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// What a line of a data file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Turns, at least one of them the assistant's.
    Chat(Vec<Turn>),
    /// Plain text.
    Text(String),
}

/// One example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The chat or the text.
    pub body: Body,
    /// The line's `"domain"`, where it has one.
    pub domain: Option<String>,
}

impl Example {
    /// Every text in the example, in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let (turns, text) = match &self.body {
            Body::Chat(turns) => (turns.as_slice(), None),
            Body::Text(text) => (&[][..], Some(text.as_str())),
        };
        turns.iter().map(|turn| turn.content.as_str()).chain(text)
    }

    /// Bytes of all its texts; markers not counted.
    pub fn text_bytes(&self) -> usize {
        self.texts().map(str::len).sum()
    }
}
