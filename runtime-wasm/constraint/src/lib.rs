//! Which tokens may come next: a JSON schema or a grammar as a mask over a vocabulary.
//!
//! ```text
//! Vocabulary   the bytes of every token, as a tree; made once for a model
//! Constraint   one reply: mask -> choose a token among those -> accept it -> mask ...
//!              close: what brings a reply that was cut off to its nearest valid end
//! ```
//!
//! The grammars' engine is llguidance: an Earley parser over lexemes whose regular expressions are
//! derived lazily (Brzozowski's derivatives), walked along the tree of all tokens. This crate gives it
//! limits, since schemas are strangers' bytes, and errors that say where without quoting.
//!
//! It knows tokens by their bytes and ids alone, and nothing of models.

mod close;
mod error;
mod grammar;
mod schema;
mod vocabulary;

use llguidance::Matcher;

pub use error::{Error, Result};
pub use grammar::GRAMMAR_BYTES_MAX;
pub use schema::{SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, SCHEMA_NODES_MAX};
pub use vocabulary::{Token, Vocabulary};

/// What a reply must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule<'a> {
    /// A JSON object of any shape.
    JsonObject,
    /// A JSON value that this schema, itself JSON, accepts.
    JsonSchema(&'a str),
    /// A text of this grammar, in llguidance's dialect of Lark.
    Lark(&'a str),
}

/// A rule over a vocabulary, and how far a reply has come in it.
pub struct Constraint {
    matcher: Matcher,
    /// Of the next token: one bit for each id, the lowest bit of a word first.
    mask: Vec<u32>,
    /// The bytes from which an end is built, with their tokens.
    alphabet: std::sync::Arc<[(u8, u32)]>,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").finish_non_exhaustive()
    }
}

impl Constraint {
    /// Compiles `rule` for `vocabulary`.
    ///
    /// # Errors
    /// [`Error::Rule`] when it is not one, is beyond the limits or cannot be met; it says where.
    pub fn new(vocabulary: &Vocabulary, rule: Rule<'_>) -> Result<Self> {
        let matcher = match rule {
            Rule::JsonObject => schema::compile(vocabulary, r#"{"type":"object"}"#)?,
            Rule::JsonSchema(text) => schema::compile(vocabulary, text)?,
            Rule::Lark(text) => grammar::compile(vocabulary, text)?,
        };
        let mut constraint = Self {
            matcher,
            mask: Vec::new(),
            alphabet: vocabulary.alphabet(),
        };
        // A rule that refers to itself alone, say, compiles, but no text begins as it wants.
        constraint.mask().map_err(|_| {
            Error::rule("no text meets the rule, or not with this model's vocabulary")
        })?;
        Ok(constraint)
    }

    /// The tokens that may come next, as bits by id; the tokens that end a reply are among them where
    /// it may end. Only these once the rule allows nothing more.
    ///
    /// # Errors
    /// [`Error::Limit`] when the rule is too ambiguous to go on.
    pub fn mask(&mut self) -> Result<&[u32]> {
        let mask = self
            .matcher
            .compute_mask_or_eos()
            .map_err(|_| TOO_COMPLEX)?;
        self.mask.clear();
        self.mask.extend_from_slice(mask.as_slice());
        Ok(&self.mask)
    }

    /// Goes on by one token of the mask; not by one that ends the reply.
    ///
    /// # Errors
    /// [`Error::Limit`] when the rule is too ambiguous to go on.
    pub fn accept(&mut self, token: u32) -> Result<()> {
        self.matcher.consume_token(token).map_err(|_| TOO_COMPLEX)
    }

    /// The bytes of a token, as the vocabulary has them.
    #[must_use]
    pub fn bytes_of(&self, token: u32) -> Vec<u8> {
        let tree = self.matcher.tok_env();
        tree.map_or_else(|_| Vec::new(), |tree| tree.tok_trie().decode(&[token]))
    }

    /// Whether nothing but the end may follow.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.matcher.is_stopped()
    }

    /// Bytes after which the reply is valid: none when it is already, and few where few will do. The
    /// constraint stays where it was.
    ///
    /// # Errors
    /// [`Error::Limit`] when no end was found within [`close::END_BYTES_MAX`] bytes.
    pub fn close(&self) -> Result<Vec<u8>> {
        close::end(&self.matcher, &self.alphabet)
    }
}

const TOO_COMPLEX: Error = Error::Limit(
    "the schema or grammar is too ambiguous at this place of the reply; make its alternatives begin differently",
);

/// The clock of llguidance's counters, which nobody reads: a module that imports nothing has none.
// SAFETY: no other symbol of the modules that link this crate is called `now`: those of wasm-bindgen
// have names of their own.
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
#[unsafe(no_mangle)]
extern "C" fn now() -> f64 {
    0.0
}
