//! The texts of all tokens, in one piece of memory, and the way back from a text to its id.
//!
//! ```text
//! texts  |<unk>|<s>|</s>|the|Ġcat| ...     one string
//! ends   [5, 8, 12, 15, ...]               [n_symbols] u32: text i is texts[ends[i-1]..ends[i]]
//! kinds  [unknown, control, ...]           [n_tokens] u8
//! slots  [-, 2, -, 0, ...]                 hash table of ids, a power of two, open addressing
//! ```
//! Symbols from `n_tokens` on are texts that BPE needs on the way but that are
//! no tokens; most vocabularies have none.

use meetara_format::Strings;

use crate::error::{Error, Result};

/// What a token is for, as `tokenizer.ggml.token_type` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    /// The kind with the number `id` in the file; 0, "undefined", counts as normal.
    pub(super) fn from_id(id: i64) -> Option<Self> {
        Some(match id {
            0 | 1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// An empty place of a hash table.
pub(super) const EMPTY: u32 = u32::MAX;

/// The longest search in a hash table. In a table at most three quarters full
/// even millions of texts stay far below it; only a file made to collide gets there.
const PROBES_MAX: usize = 4096;

/// The multiplier of FxHash: an odd number near 2^64 / pi.
const HASH_FACTOR: u64 = 0x517c_c1b7_2722_0a95;

/// Mixes one word into a hash.
pub(super) const fn hash_word(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(HASH_FACTOR)
}

/// Lets every bit of a hash decide about the place in a table (the last step of MurmurHash3).
pub(super) const fn hash_finish(hash: u64) -> usize {
    ((hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd) >> 32) as usize
}

fn hash(text: &[u8]) -> usize {
    let word = |chunk: &[u8]| {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(bytes)
    };
    let words = text.chunks(8).map(word);
    hash_finish(words.fold(text.len() as u64, hash_word))
}

/// A table size, a power of two, that `len` entries fill to at most two thirds.
pub(super) fn table_size(len: usize) -> usize {
    (len + len / 2 + 4).next_power_of_two()
}

/// The error for a file whose texts collide too often.
pub(super) fn degenerate_table(what: &str) -> Error {
    Error::invalid_model(format!(
        "the {what} of the vocabulary collide in the hash table more than chance allows; the file is damaged or hostile"
    ))
}

/// The tokens of a model.
#[derive(Clone, Debug)]
pub(super) struct Vocab {
    texts: String,
    ends: Vec<u32>,
    kinds: Vec<Kind>,
    slots: Vec<u32>,
    /// The longest text, in bytes.
    longest: usize,
    /// Whether each text stands once.
    distinct: bool,
}

impl Vocab {
    /// Of tokens with the same text the last one is found, as in llama.cpp.
    ///
    /// `kinds`: `[n_tokens]`.
    pub(super) fn new(tokens: &Strings, kinds: Vec<Kind>) -> Result<Self> {
        let bytes = tokens.text_bytes();
        if u32::try_from(bytes).is_err() || u32::try_from(tokens.len()).is_err() {
            return Err(Error::invalid_model(format!(
                "tokenizer.ggml.tokens holds {} tokens in {bytes} bytes, more than 32-bit offsets reach",
                tokens.len()
            )));
        }
        let mut vocab = Self {
            texts: String::with_capacity(bytes),
            ends: Vec::with_capacity(tokens.len()),
            kinds,
            slots: vec![EMPTY; table_size(tokens.len())],
            longest: 0,
            distinct: true,
        };
        for (id, token) in tokens.iter().enumerate() {
            vocab.append(token);
            vocab.index(id as u32, token)?;
        }
        Ok(vocab)
    }

    /// How many tokens there are.
    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// The longest text, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// What token `id` is for; `None` when there is no such token.
    pub(super) fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(id as usize).copied()
    }

    /// The text of symbol `id`, or nothing when there is none.
    pub(super) fn text(&self, id: u32) -> &str {
        let id = id as usize;
        let start = id
            .checked_sub(1)
            .map_or(Some(0), |before| self.ends.get(before).copied());
        match (start, self.ends.get(id)) {
            (Some(start), Some(&end)) => self
                .texts
                .get(start as usize..end as usize)
                .unwrap_or_default(),
            _ => "",
        }
    }

    /// The symbol whose text is `text`.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        self.slots
            .get(self.slot(text)?)
            .copied()
            .filter(|&id| id != EMPTY)
    }

    /// The token whose text is `text`.
    pub(super) fn find_token(&self, text: &[u8]) -> Option<u32> {
        self.find(text).filter(|&id| (id as usize) < self.len())
    }

    /// The symbol whose text is `text`; a new one when there is none.
    pub(super) fn intern(&mut self, text: &str) -> Result<u32> {
        if let Some(id) = self.find(text.as_bytes()) {
            return Ok(id);
        }
        let id = self.ends.len();
        if id >= EMPTY as usize || u32::try_from(self.texts.len() + text.len()).is_err() {
            return Err(Error::invalid_model(
                "tokenizer.ggml.merges needs more symbols than 32-bit offsets reach",
            ));
        }
        self.append(text);
        if id + id / 4 >= self.slots.len() {
            self.slots = vec![EMPTY; table_size(2 * id)];
            for id in 0..id as u32 {
                let slot = self
                    .slot(self.text(id).as_bytes())
                    .ok_or_else(|| degenerate_table("tokens"))?;
                self.slots[slot] = id;
            }
        }
        self.index(id as u32, text)?;
        Ok(id as u32)
    }

    /// [`Self::intern`], quicker where the symbol is likely to be `guess`.
    pub(super) fn intern_near(&mut self, guess: u32, text: &str) -> Result<u32> {
        if self.distinct && self.text(guess) == text && !text.is_empty() {
            return Ok(guess);
        }
        self.intern(text)
    }

    /// How many bytes of memory this takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.texts.capacity()
            + 4 * (self.ends.capacity() + self.slots.capacity())
            + self.kinds.capacity()
    }

    fn append(&mut self, text: &str) {
        self.texts.push_str(text);
        self.ends.push(self.texts.len() as u32);
        self.longest = self.longest.max(text.len());
    }

    fn index(&mut self, id: u32, text: &str) -> Result<()> {
        let slot = self
            .slot(text.as_bytes())
            .ok_or_else(|| degenerate_table("tokens"))?;
        self.distinct &= self.slots[slot] == EMPTY;
        self.slots[slot] = id;
        Ok(())
    }

    /// Where `text` stands in the table, or the empty place where it would stand.
    fn slot(&self, text: &[u8]) -> Option<usize> {
        let mask = self.slots.len() - 1;
        let start = hash(text);
        (0..PROBES_MAX)
            .map(|step| start.wrapping_add(step) & mask)
            .find(|&slot| {
                let id = self.slots[slot];
                id == EMPTY || self.text(id).as_bytes() == text
            })
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Strings, Vocab};

    fn vocab(tokens: &[&str]) -> Vocab {
        let tokens: Strings = tokens.iter().collect();
        Vocab::new(&tokens, vec![Kind::Normal; tokens.len()]).unwrap()
    }

    #[test]
    fn texts_and_ids_lead_to_each_other() {
        let vocab = vocab(&["a", "", "longer than eight bytes", "é", "a"]);
        assert_eq!(vocab.find(b"a"), Some(4), "the last of two equal texts");
        assert_eq!(vocab.find("é".as_bytes()), Some(3));
        assert_eq!(vocab.find(b"longer than eight bytes"), Some(2));
        assert_eq!(vocab.find(b"longer than eight"), None);
        assert_eq!(
            (0..6).map(|id| vocab.text(id)).collect::<Vec<_>>(),
            ["a", "", "longer than eight bytes", "é", "a", ""]
        );
        assert_eq!((vocab.len(), vocab.longest()), (5, 23));
    }

    #[test]
    fn symbols_are_added_once_and_are_no_tokens() {
        let mut vocab = vocab(&["a", "b"]);
        assert_eq!(vocab.intern("b").unwrap(), 1);
        for number in 0..1000 {
            assert_eq!(vocab.intern(&format!("new {number}")).unwrap(), 2 + number);
        }
        for number in 0..1000 {
            assert_eq!(vocab.intern(&format!("new {number}")).unwrap(), 2 + number);
        }
        assert_eq!(vocab.find(b"new 999"), Some(1001));
        assert_eq!(vocab.find_token(b"new 999"), None);
        assert_eq!(vocab.find_token(b"a"), Some(0));
        assert_eq!(vocab.len(), 2);
        assert_eq!(vocab.kind(2), None);
    }
}
