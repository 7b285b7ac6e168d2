//! A list of strings in two pieces of memory.
//!
//! ```text
//! text   <unk><s></s>the ...     one string
//! ends   [5, 8, 12, 15, ...]     string i is text[ends[i - 1]..ends[i]]
//! ```
//!
//! A vocabulary has tens of thousands of short ones. One by one they would take three times the
//! memory, and most of the time in which a header is read.

use alloc::string::String;
use alloc::vec::Vec;

/// Strings in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    text: String,
    ends: Vec<usize>,
}

impl Strings {
    /// An empty list with room for `len` strings of `text_bytes` bytes together; `None` when memory is refused.
    pub(crate) fn with_room(len: usize, text_bytes: usize) -> Option<Self> {
        let mut strings = Self::default();
        strings.ends.try_reserve_exact(len).ok()?;
        strings.text.try_reserve_exact(text_bytes).ok()?;
        Some(strings)
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The string at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(start..end)
    }

    /// All of them in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }

    /// Adds one at the end.
    pub fn push(&mut self, string: &str) {
        self.text.push_str(string);
        self.ends.push(self.text.len());
    }

    /// Bytes of all of them together.
    #[must_use]
    pub const fn text_bytes(&self) -> usize {
        self.text.len()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut list = Self::default();
        for string in strings {
            list.push(string.as_ref());
        }
        list
    }
}

impl From<Vec<String>> for Strings {
    fn from(strings: Vec<String>) -> Self {
        strings.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Strings;

    #[test]
    fn they_come_back_as_they_went_in() {
        let texts = ["", "a", "\u{120}the", "", "z"];
        let strings: Strings = texts.iter().collect();
        assert_eq!((strings.len(), strings.text_bytes()), (5, 7));
        assert!(strings.iter().eq(texts));
        assert_eq!((strings.get(2), strings.get(5)), (Some("\u{120}the"), None));
        assert!(Strings::default().is_empty() && Strings::default().iter().next().is_none());
    }
}
