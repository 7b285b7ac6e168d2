//! Characters without their accents, in tables small enough for a page.
//!
//! To strip accents is to decompose a text (NFD) and to drop what has category Mn. What that makes of
//! a single character is nothing, another character, or, for Hangul syllables, two or three letters,
//! which are counted. The tables are strings of numbers, seven bits to a byte and the eighth set
//! where a number goes on; they become sorted lists once a tokenizer needs them.
//!
//! ```text
//! MARKS    (gap to the range before, length - 1) ...       what becomes nothing
//! BASES    (gap to the character before, base - base before, zigzag) ...
//! ```

use super::accent_tables::{BASES, HIDDEN, MARKS};
use super::unicode::within;

/// What accents are, and what letters are without them.
#[derive(Clone, Debug)]
pub(super) struct Accents {
    /// First and last of each range, sorted.
    marks: Vec<(u32, u32)>,
    /// A character, and what is left of it; sorted.
    bases: Vec<(u32, u32)>,
}

impl Accents {
    pub(super) fn new() -> Self {
        let mut after = 0;
        let marks = pairs(MARKS).map(|(gap, length)| {
            let first = after + gap;
            after = first + length + 1;
            (first, first + length)
        });
        let marks = marks.collect();
        let (mut from, mut base) = (0, 0_u32);
        let bases = pairs(BASES).map(|(gap, zigzag)| {
            from += gap;
            base = base.wrapping_add((zigzag >> 1) ^ (zigzag & 1).wrapping_neg());
            (from, base)
        });
        Self {
            marks,
            bases: bases.collect(),
        }
    }

    /// Calls `push` with what is left of `c`.
    pub(super) fn without(&self, c: char, mut push: impl FnMut(char)) {
        let code = u32::from(c);
        if let Some(syllable) = code.checked_sub(0xac00).filter(|&s| s < 19 * 21 * 28) {
            let (vowel, last) = (syllable / 28, syllable % 28);
            let letters = [0x1100 + vowel / 21, 0x1161 + vowel % 21, 0x11a7 + last];
            let count = 2 + usize::from(last > 0);
            letters[..count]
                .iter()
                .filter_map(|&code| char::from_u32(code))
                .for_each(push);
        } else if let Ok(at) = self.bases.binary_search_by_key(&code, |&(from, _)| from) {
            push(char::from_u32(self.bases[at].1).unwrap_or(c));
        } else if !within(&self.marks, c) {
            push(c);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        8 * (self.marks.capacity() + self.bases.capacity())
    }
}

/// Whether `c` is a format character or one of private use: BERT's tokenizers drop both.
pub(super) fn is_hidden(c: char) -> bool {
    within(&HIDDEN, c)
}

/// The numbers in `bytes`, two at a time.
fn pairs(bytes: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    let mut bytes = bytes.iter();
    let mut number = move || {
        let (mut number, mut shift) = (0, 0);
        loop {
            let &byte = bytes.next()?;
            number |= u32::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return Some(number);
            }
        }
    };
    std::iter::from_fn(move || Some((number()?, number()?)))
}
