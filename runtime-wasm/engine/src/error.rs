//! The one error type of the engine.
//!
//! A message says what was wrong, where, and what to do about it. It carries
//! names, ids, lengths and shapes, never a word that a user typed.

use std::borrow::Cow;

/// What went wrong, in kinds that a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file is damaged, or contradicts itself.
    InvalidModel,
    /// The file is sound, but asks for something the engine does not have.
    UnsupportedModel,
    /// A parameter or an argument of a call is out of its range.
    InvalidRequest,
    /// The schema or grammar that a reply is to follow cannot be used.
    InvalidConstraint,
    /// The prompt does not fit the context.
    ContextOverflow,
    /// Memory that the model or the session needs could not be had.
    OutOfMemory,
    /// The chat template of the model could not be read or rendered.
    Template,
    /// A fault of the engine itself.
    Internal,
}

impl ErrorKind {
    /// The kind as a stable word in snake case, for JSON and for logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::InvalidModel => "invalid_model",
            Self::UnsupportedModel => "unsupported_model",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidConstraint => "invalid_constraint",
            Self::ContextOverflow => "context_overflow",
            Self::OutOfMemory => "out_of_memory",
            Self::Template => "template",
            Self::Internal => "internal",
        }
    }
}

/// An error of the engine: a kind to match on and a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What a caller can act on.
    pub kind: ErrorKind,
    /// What was wrong, where, and what to do.
    message: Cow<'static, str>,
}

/// The result of everything in the engine that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` whose message is `message`.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The kind's stable word in snake case.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// The sentence for a person.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// [`ErrorKind::InvalidModel`].
    #[must_use]
    pub fn invalid_model(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidModel, message)
    }

    /// [`ErrorKind::UnsupportedModel`].
    #[must_use]
    pub fn unsupported_model(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::UnsupportedModel, message)
    }

    /// [`ErrorKind::InvalidRequest`].
    #[must_use]
    pub fn invalid_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message)
    }

    /// [`ErrorKind::ContextOverflow`].
    #[must_use]
    pub fn context_overflow(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::ContextOverflow, message)
    }

    /// [`ErrorKind::OutOfMemory`].
    #[must_use]
    pub fn out_of_memory(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::OutOfMemory, message)
    }

    /// [`ErrorKind::Template`].
    #[must_use]
    pub fn template(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Template, message)
    }

    /// [`ErrorKind::Internal`].
    #[must_use]
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }
}

impl From<meetara_format::Error> for Error {
    /// What went wrong with a file: its message says where.
    fn from(error: meetara_format::Error) -> Self {
        use meetara_format::ErrorKind as Format;
        let kind = match error.kind {
            Format::UnsupportedVersion | Format::UnsupportedType => ErrorKind::UnsupportedModel,
            Format::OutOfMemory => ErrorKind::OutOfMemory,
            _ => ErrorKind::InvalidModel,
        };
        Self::new(kind, error.to_string())
    }
}
