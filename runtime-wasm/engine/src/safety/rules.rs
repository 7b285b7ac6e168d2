//! The phrase rules of `models/safety/rules.toml`, compiled in: no file, host or prompt can leave them out.

use std::sync::OnceLock;

use super::pattern::{Literals, Program, Runs, Scratch};
use super::plain::{self, SPACE, STOP};

/// The rules as build.rs writes them.
mod tables {
    /// The rules of one category.
    pub(super) struct Texts {
        pub(super) certain: &'static [&'static str],
        pub(super) unless: &'static [&'static str],
        pub(super) patterns: &'static [&'static str],
    }

    include!(concat!(env!("OUT_DIR"), "/rules.rs"));
}

/// Longer texts are looked through in windows of so many signs, cut at spaces ...
const WINDOW: usize = 1_200;
/// ... of which each begins so many signs before the last one's end.
const OVERLAP: usize = 300;

/// All rules.
#[derive(Debug)]
pub(super) struct Rules {
    unless: Vec<Rule>,
    /// In the order of [`Category::ALL`](super::Category::ALL).
    categories: [CategoryRules; 3],
}

#[derive(Debug)]
struct CategoryRules {
    certain: Vec<Rule>,
    unless: Vec<Rule>,
    patterns: Vec<Rule>,
}

/// One pattern, compiled when a text comes that it may match.
#[derive(Debug)]
struct Rule {
    text: &'static str,
    literals: Literals,
    program: OnceLock<Option<Program>>,
}

impl Rule {
    fn new(text: &'static str) -> Self {
        Self {
            text,
            literals: Literals::of(text, tables::PARTS),
            program: OnceLock::new(),
        }
    }

    /// The first find in `text` from `from` on.
    fn find(
        &self,
        text: &[u8],
        from: usize,
        runs: &Runs,
        scratch: &mut Scratch,
    ) -> Option<(usize, usize)> {
        if !runs.may_hold(&self.literals) {
            return None;
        }
        let program = self
            .program
            .get_or_init(|| Program::compile(self.text, tables::PARTS));
        program.as_ref()?.find(text, from, scratch)
    }

    /// Puts a full stop in the place of every find.
    fn take_out(&self, text: &mut Vec<u8>, runs: &Runs, scratch: &mut Scratch) {
        let Some(first) = self.find(text, 0, runs, scratch) else {
            return;
        };
        let mut rest = Vec::with_capacity(text.len());
        let mut from = 0;
        let mut found = Some(first);
        while let Some((start, end)) = found {
            rest.extend_from_slice(&text[from..start]);
            rest.extend([SPACE, STOP, SPACE]);
            from = end;
            found = self.find(text, from, runs, scratch);
        }
        rest.extend_from_slice(&text[from..]);
        *text = rest;
    }
}

fn rules(texts: &[&'static str]) -> Vec<Rule> {
    texts.iter().map(|text| Rule::new(text)).collect()
}

impl Rules {
    pub(super) fn new() -> Self {
        Self {
            unless: rules(tables::UNLESS),
            categories: [&tables::MENTAL_HEALTH, &tables::MEDICAL, &tables::ABUSE].map(|texts| {
                CategoryRules {
                    certain: rules(texts.certain),
                    unless: rules(texts.unless),
                    patterns: rules(texts.patterns),
                }
            }),
        }
    }

    /// Which categories a text belongs to, in the order of [`Category::ALL`](super::Category::ALL). All of it is read, in time that grows
    /// with its length.
    pub(super) fn check(&self, text: &str) -> [bool; 3] {
        let signs = plain::signs(text);
        let mut held = [false; 3];
        let mut scratch = Scratch::default();
        for window in windows(&signs) {
            let runs = Runs::new(window);
            let mut rest = None;
            for (held, rules) in held.iter_mut().zip(&self.categories) {
                *held = *held || rules.hold(window, &self.unless, &runs, &mut rest, &mut scratch);
            }
        }
        held
    }
}

impl CategoryRules {
    /// Whether the category holds; `rest` is the text without the finds of `unless`, once it is known.
    fn hold(
        &self,
        text: &[u8],
        unless: &[Rule],
        runs: &Runs,
        rest: &mut Option<Vec<u8>>,
        scratch: &mut Scratch,
    ) -> bool {
        let certain = |rule: &Rule| rule.find(text, 0, runs, scratch).is_some();
        if self.certain.iter().any(certain) {
            return true;
        }
        let rest = rest.get_or_insert_with(|| {
            let mut rest = text.to_vec();
            for rule in unless {
                rule.take_out(&mut rest, runs, scratch);
            }
            rest
        });
        let mut rest = rest.clone();
        for rule in &self.unless {
            rule.take_out(&mut rest, runs, scratch);
        }
        let found = |rule: &Rule| rule.find(&rest, 0, runs, scratch).is_some();
        self.patterns.iter().any(found)
    }
}

/// A text in windows that overlap; a short one is one window.
fn windows(signs: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = Some(0);
    std::iter::from_fn(move || {
        let from = start?;
        let rest = signs.get(from..)?;
        if rest.len() <= WINDOW {
            start = None;
            return Some(rest);
        }
        let is_space = |sign: &u8| *sign == SPACE;
        // A word longer than the overlap is cut.
        let window = &rest[..WINDOW];
        let end = window
            .iter()
            .rposition(is_space)
            .filter(|end| *end > OVERLAP * 2)
            .unwrap_or(WINDOW);
        let back = end - OVERLAP;
        let step = rest[back..end].iter().position(is_space);
        start = Some(from + back + step.map_or(0, |step| step + 1));
        Some(&rest[..end])
    })
}

#[cfg(test)]
mod tests;
