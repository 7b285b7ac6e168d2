//! What went wrong with a file or a request, where, and what to do about it.

use alloc::string::String;
use core::fmt;

/// The longest name or key that a message repeats; the rest becomes `...`.
const SUBJECT_CHARS_MAX: usize = 64;

/// What to match on. The message in [`Error`] is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes handed in end before the header does, but the file is longer: fetch at
    /// least `bytes` bytes from the file's start and parse again. `bytes` is a lower bound,
    /// always more than was handed in.
    NeedMore {
        /// How many bytes from the start of the file are known to be needed.
        bytes: u64,
    },
    /// The file itself ends too early.
    Truncated,
    /// The file does not begin with `GGUF`.
    NotGguf,
    /// Another version, or another byte order.
    UnsupportedVersion,
    /// A tensor or value type that this crate has no code for.
    UnsupportedType,
    /// A field's content breaks a rule of the format.
    Malformed,
    /// A count, length or size past the limits this reader sets.
    TooLarge,
    /// A metadata value is there, but its type is not the one asked for.
    WrongType,
    /// The caller's arguments do not fit one another (lengths, shapes, types).
    InvalidArgument,
    /// The allocator refused.
    OutOfMemory,
}

/// An error of this crate: a kind to match on, and a message that says what was found
/// where and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// What to match on.
    pub kind: ErrorKind,
    /// The metadata key or the tensor name that it is about, when it is about one.
    pub subject: Option<String>,
    /// Byte offset in the file, when the error is about a place in a file.
    pub offset: Option<u64>,
    message: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: String) -> Self {
        Self {
            kind,
            subject: None,
            offset: None,
            message,
        }
    }

    pub(crate) fn at(mut self, offset: u64) -> Self {
        self.offset.get_or_insert(offset);
        self
    }

    /// Names the key or tensor, unless a deeper call has done so. What `subject` says comes
    /// from a file that may be hostile, so it is cut short and escaped.
    pub(crate) fn about(mut self, subject: &str) -> Self {
        if self.subject.is_none() {
            let mut shown: String = subject
                .chars()
                .take(SUBJECT_CHARS_MAX)
                .flat_map(char::escape_debug)
                .collect();
            if subject.chars().nth(SUBJECT_CHARS_MAX).is_some() {
                shown.push_str("...");
            }
            self.subject = Some(shown);
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.subject, self.offset) {
            (Some(subject), Some(offset)) => write!(f, "`{subject}` at byte {offset}: ")?,
            (Some(subject), None) => write!(f, "`{subject}`: ")?,
            (None, Some(offset)) => write!(f, "at byte {offset}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.message)
    }
}

/// `error!(Kind, "text {}", x)` builds an [`Error`] with a formatted message.
macro_rules! error {
    ($kind:expr, $($text:tt)*) => {
        $crate::error::Error::new($kind, alloc::format!($($text)*))
    };
}
pub(crate) use error;
