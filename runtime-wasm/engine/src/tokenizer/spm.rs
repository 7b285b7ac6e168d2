//! SentencePiece-style merging by score (`tokenizer.ggml.model = llama`).
//!
//! Spaces become U+2581. The text starts as one symbol per character; while
//! the text of any two neighbours is a token, those whose token has the highest
//! score become one, the leftmost of equal ones first. Characters that are no
//! token in the end become one token `<0xNN>` for each of their bytes.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::vocab::{EMPTY, Vocab};
use crate::error::{Error, Result};

/// How SentencePiece writes a space.
pub(super) const SPACE: char = '\u{2581}';

/// No neighbour.
const NONE: u32 = u32::MAX;

/// The scores and the tokens of single bytes.
#[derive(Clone, Debug)]
pub(super) struct Spm {
    /// `[n_tokens]`, no NaN among them.
    scores: Vec<f32>,
    /// Whether a text begins with a space that it does not have.
    add_space_prefix: bool,
    /// The token of each byte; `EMPTY` where there is none.
    byte_tokens: [u32; 256],
    /// Stands for a byte without a token.
    unknown: Option<u32>,
}

/// One symbol: bytes of the text, and its neighbours. Length 0: merged into the one before.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    start: u32,
    len: u32,
    previous: u32,
    next: u32,
}

/// Two neighbours that can merge: the score of the result, the position of the
/// left one, the length of both.
#[derive(Clone, Copy, Debug)]
struct Pair {
    score: f32,
    left: u32,
    len: u32,
}

impl Pair {
    fn key(&self) -> (f32, Reverse<u32>, u32) {
        (self.score, Reverse(self.left), self.len)
    }
}

impl Ord for Pair {
    /// The greatest pair merges next.
    fn cmp(&self, other: &Self) -> Ordering {
        let ((a, a_left, a_len), (b, b_left, b_len)) = (self.key(), other.key());
        a.total_cmp(&b)
            .then(a_left.cmp(&b_left))
            .then(a_len.cmp(&b_len))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

/// Memory that texts share.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    text: String,
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Pair>,
}

impl Spm {
    /// `scores`: `[n_tokens]`.
    pub(super) fn new(
        scores: &[f32],
        add_space_prefix: bool,
        unknown: Option<u32>,
        vocab: &Vocab,
    ) -> Result<Self> {
        if let Some(id) = scores.iter().position(|score| score.is_nan()) {
            return Err(Error::invalid_model(format!(
                "tokenizer.ggml.scores[{id}] is NaN; the file is damaged"
            )));
        }
        let mut byte_tokens = [EMPTY; 256];
        for (byte, token) in (0..=u8::MAX).zip(&mut byte_tokens) {
            let named = vocab.find(format!("<0x{byte:02X}>").as_bytes());
            *token = named.or_else(|| vocab.find(&[byte])).unwrap_or(EMPTY);
        }
        Ok(Self {
            // Adding zero makes -0.0 equal to 0.0 in the total order.
            scores: scores.iter().map(|score| score + 0.0).collect(),
            add_space_prefix,
            byte_tokens,
            unknown,
        })
    }

    /// Appends the ids of `text`. `begins`: nothing, or a special token, stands before it.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        begins: bool,
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let Scratch {
            text: escaped,
            symbols,
            heap,
        } = scratch;
        escaped.clear();
        if begins && self.add_space_prefix {
            escaped.push(SPACE);
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        if u32::try_from(escaped.len()).is_err() {
            return Err(Error::invalid_request(
                "the text is longer than 4 GiB; shorten it",
            ));
        }
        let bytes = escaped.as_bytes();
        symbols.clear();
        for (index, (start, c)) in escaped.char_indices().enumerate() {
            let (start, len) = (start as u32, c.len_utf8() as u32);
            let previous = (index as u32).checked_sub(1).unwrap_or(NONE);
            symbols.push(Symbol {
                start,
                len,
                previous,
                next: index as u32 + 1,
            });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        heap.clear();
        heap.extend(
            (0..symbols.len() as u32).filter_map(|left| self.pair(vocab, bytes, symbols, left)),
        );
        while let Some(Pair { left, len, .. }) = heap.pop() {
            let Symbol {
                len: left_len,
                next: right,
                previous,
                ..
            } = symbols[left as usize];
            if left_len == 0 || right == NONE || left_len + symbols[right as usize].len != len {
                continue; // one of the two has merged with another meanwhile
            }
            let after = symbols[right as usize].next;
            symbols[right as usize].len = 0;
            symbols[left as usize].len = len;
            symbols[left as usize].next = after;
            if after != NONE {
                symbols[after as usize].previous = left;
            }
            for left in [previous, left] {
                if left != NONE {
                    heap.extend(self.pair(vocab, bytes, symbols, left));
                }
            }
        }
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            let text = &bytes[symbol.start as usize..(symbol.start + symbol.len) as usize];
            match vocab.find(text) {
                Some(id) => ids.push(id),
                None => self.push_bytes(text, ids)?,
            }
        }
        Ok(())
    }

    /// How many bytes of memory this takes, the vocabulary not counted.
    pub(super) fn memory_bytes(&self) -> usize {
        4 * (self.scores.capacity() + self.byte_tokens.len())
    }

    /// The pair that begins at `left`, if it can merge.
    fn pair(&self, vocab: &Vocab, bytes: &[u8], symbols: &[Symbol], left: u32) -> Option<Pair> {
        let Symbol {
            start, len, next, ..
        } = symbols[left as usize];
        let len = len + symbols.get(next as usize)?.len;
        if len as usize > vocab.longest() {
            return None;
        }
        let id = vocab.find(&bytes[start as usize..(start + len) as usize])?;
        Some(Pair {
            score: *self.scores.get(id as usize)?,
            left,
            len,
        })
    }

    fn push_bytes(&self, bytes: &[u8], ids: &mut Vec<u32>) -> Result<()> {
        for &byte in bytes {
            match (self.byte_tokens[usize::from(byte)], self.unknown) {
                (EMPTY, None) => {
                    return Err(Error::invalid_model(format!(
                        "the vocabulary has neither a token <0x{byte:02X}> nor an unknown token for what it does not hold"
                    )));
                }
                (EMPTY, Some(unknown)) => ids.push(unknown),
                (token, _) => ids.push(token),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::vocab::Kind;
    use super::*;

    fn encode(
        tokens: &[(&str, f32)],
        unknown: Option<u32>,
        text: &str,
        begins: bool,
    ) -> Result<Vec<u32>> {
        let texts: meetara_format::Strings = tokens.iter().map(|(text, _)| text).collect();
        let scores: Vec<f32> = tokens.iter().map(|(_, score)| *score).collect();
        let vocab = Vocab::new(&texts, vec![Kind::Normal; texts.len()])?;
        let spm = Spm::new(&scores, true, unknown, &vocab)?;
        let mut ids = Vec::new();
        spm.encode(&vocab, text, begins, &mut Scratch::default(), &mut ids)?;
        Ok(ids)
    }

    #[test]
    fn the_highest_score_merges_first_and_then_the_leftmost() {
        let tokens = [
            ("a", 0.0),
            ("b", 0.0),
            ("ab", -1.0),
            ("ba", -0.5),
            ("aa", -0.0),
            ("▁", 0.0),
            ("▁a", -9.0),
            ("bb", 0.0),
        ];
        assert_eq!(encode(&tokens, None, "aba", false), Ok(vec![0, 3]));
        assert_eq!(encode(&tokens, None, "aaa", false), Ok(vec![4, 0]));
        assert_eq!(
            encode(&tokens, None, "aabb", false),
            Ok(vec![4, 7]),
            "-0.0 and 0.0 are equal"
        );
        assert_eq!(encode(&tokens, None, "a", true), Ok(vec![6]));
        assert_eq!(encode(&tokens, None, " a", false), Ok(vec![6]));
        assert_eq!(encode(&tokens, None, " a", true), Ok(vec![5, 6]));
    }

    #[test]
    fn characters_without_a_token_become_bytes_or_unknown() {
        let tokens = [("a", 0.0), ("<0xC3>", 0.0), ("<0xA9>", 0.0), ("<unk>", 0.0)];
        assert_eq!(encode(&tokens, None, "aé", false), Ok(vec![0, 1, 2]));
        assert_eq!(encode(&tokens, Some(3), "ê", false), Ok(vec![1, 3]));
        let error = encode(&tokens, None, "ê", false).unwrap_err();
        assert!(error.message().contains("<0xAA>"), "{error}");
    }

    #[test]
    fn a_score_that_is_no_number_is_an_error_that_names_it() {
        let error = encode(&[("a", 0.0), ("b", f32::NAN)], None, "", false).unwrap_err();
        assert!(error.message().contains("scores[1]"), "{error}");
    }
}
