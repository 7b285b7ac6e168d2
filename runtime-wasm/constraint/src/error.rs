//! What can be wrong with a rule.

use std::borrow::Cow;

/// Why there is no constraint, or none any more. No message quotes a schema or a grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The rule cannot be used; the message says where and why.
    #[error("{0}")]
    Rule(Cow<'static, str>),
    /// A limit was reached in the middle of a reply.
    #[error("{0}")]
    Limit(&'static str),
    /// The vocabulary is of no use.
    #[error("{0}")]
    Vocabulary(&'static str),
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn rule(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Rule(message.into())
    }
}
