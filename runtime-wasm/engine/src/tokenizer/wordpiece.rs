//! WordPiece (`tokenizer.ggml.model = bert`), as BERT's uncased and cased models use it.
//!
//! A text is cleaned (control characters away, every white space a space, CJK ideographs on their
//! own), then, where the file says so, its accents are taken off and its capitals made small. It is
//! cut at white space and around every punctuation mark, and of each word the longest beginning
//! that is a token is taken, again and again; a word that cannot be cut so is the unknown token.
//!
//! The vocabulary is written as llama.cpp writes it: [`ggml_token`]. The ids are those of Hugging
//! Face's `tokenizers`, but for the texts of special tokens, which are text like any other here, and
//! for CJK compatibility ideographs and the two-part vowel signs of Indic scripts, which stay as
//! they are. Unicode tables: [`accents`](super::accents).

use meetara_format::Gguf;

use super::accents::{Accents, is_hidden};
use super::spm::SPACE;
use super::unicode::is_punctuation;
use super::vocab::Vocab;
use crate::error::{Error, Result};
use crate::template::case;

/// Longer words, in characters, are unknown; as in `tokenizers`.
const WORD_CHARS_MAX: usize = 100;

/// A token of a `vocab.txt` as a GGUF file holds it: what begins a word begins with `▁`, what
/// goes on with one loses its `##`, and what stands in brackets stays.
#[must_use]
pub fn ggml_token(token: &str) -> String {
    if token.starts_with('[') && token.ends_with(']') {
        return token.to_owned();
    }
    match token.strip_prefix("##") {
        Some(rest) => rest.to_owned(),
        None => format!("{SPACE}{token}"),
    }
}

/// How text becomes words, and what a word without pieces becomes.
#[derive(Clone, Debug)]
pub(super) struct WordPiece {
    lowercase: bool,
    /// `None`: accents stay.
    accents: Option<Accents>,
    unknown: u32,
}

impl WordPiece {
    /// Reads `meetara.tokenizer.lowercase` and `meetara.tokenizer.strip_accents`, both true where
    /// they are not there, as llama.cpp has it.
    pub(super) fn from_gguf(gguf: &Gguf, unknown: Option<u32>, vocab: &Vocab) -> Result<Self> {
        let Some(unknown) = unknown.or_else(|| vocab.find_token(b"[UNK]")) else {
            return Err(Error::invalid_model(
                "the WordPiece vocabulary has no [UNK], and tokenizer.ggml.unknown_token_id is missing",
            ));
        };
        if !(0..vocab.len() as u32).any(|id| vocab.text(id).starts_with(SPACE)) {
            return Err(Error::invalid_model(format!(
                "no token of the WordPiece vocabulary begins with {SPACE}; write words as llama.cpp does: {SPACE}word, and ##piece without its ##"
            )));
        }
        let lowercase = gguf
            .get_bool("meetara.tokenizer.lowercase")?
            .unwrap_or(true);
        let strip = gguf.get_bool("meetara.tokenizer.strip_accents")?;
        Ok(Self {
            lowercase,
            accents: strip.unwrap_or(lowercase).then(Accents::new),
            unknown,
        })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, ids: &mut Vec<u32>) {
        let text = self.normalize(text);
        let mut piece = String::new();
        for run in text.split_whitespace() {
            let mut rest = run;
            while let Some(first) = rest.chars().next() {
                let end = if is_mark(first) {
                    first.len_utf8()
                } else {
                    rest.find(is_mark).unwrap_or(rest.len())
                };
                let (word, after) = rest.split_at(end);
                self.encode_word(vocab, word, &mut piece, ids);
                rest = after;
            }
        }
    }

    /// How many bytes of memory this takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.accents.as_ref().map_or(0, Accents::memory_bytes)
    }

    fn normalize(&self, text: &str) -> String {
        let mut output = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                ' '..='~' => self.push(c, &mut output),
                '\t' | '\n' | '\r' => output.push(' '),
                '\0' | '\u{fffd}' => {}
                _ if c.is_control() || is_hidden(c) => {}
                _ if c.is_whitespace() => output.push(' '),
                _ if is_ideograph(c) => output.extend([' ', c, ' ']),
                _ => match &self.accents {
                    Some(accents) => accents.without(c, |c| self.push(c, &mut output)),
                    None => self.push(c, &mut output),
                },
            }
        }
        output
    }

    fn push(&self, c: char, output: &mut String) {
        if !self.lowercase {
            return output.push(c);
        }
        output.push(case::lower_of(c));
        // The one character whose lower case is two.
        if c == 'İ' {
            output.push('\u{307}');
        }
    }

    /// The pieces of one word; `piece` is room for `▁` and the word.
    fn encode_word(&self, vocab: &Vocab, word: &str, piece: &mut String, ids: &mut Vec<u32>) {
        let before = ids.len();
        if word.chars().nth(WORD_CHARS_MAX).is_some() {
            return ids.push(self.unknown);
        }
        piece.clear();
        piece.push(SPACE);
        piece.push_str(word);
        let mut rest = piece.as_str();
        while !rest.is_empty() {
            let first = rest.len() == piece.len();
            let mut end = rest.len().min(vocab.longest());
            let found = loop {
                // The sign of a word's beginning alone is no piece of it.
                if end == 0 || first && end <= SPACE.len_utf8() {
                    break None;
                }
                if rest.is_char_boundary(end)
                    && let Some(id) = vocab.find_token(&rest.as_bytes()[..end])
                {
                    break Some(id);
                }
                end -= 1;
            };
            match found {
                Some(id) if first || !rest.starts_with(SPACE) => {
                    ids.push(id);
                    rest = &rest[end..];
                }
                _ => {
                    ids.truncate(before);
                    return ids.push(self.unknown);
                }
            }
        }
    }
}

/// What stands on its own: ASCII's marks, symbols included, and `\p{P}`.
fn is_mark(c: char) -> bool {
    c.is_ascii_punctuation() || is_punctuation(c)
}

/// The ideographs that `tokenizers` sets apart.
fn is_ideograph(c: char) -> bool {
    matches!(
        u32::from(c),
        0x3400..=0x4dbf
            | 0x4e00..=0x9fff
            | 0xf900..=0xfaff
            | 0x2_0000..=0x2_a6df
            | 0x2_a700..=0x2_b81f
            | 0x2_b920..=0x2_ceaf
            | 0x2_f800..=0x2_fa1f
    )
}

#[cfg(test)]
mod tests {
    use super::super::vocab::Kind;
    use super::*;

    const TOKENS: [&str; 14] = [
        "[UNK]", "[CLS]", "a", "##b", "##bc", "ab", "!", "中", "cafe", "##s", "$", "ß", "i", "##▁",
    ];

    fn wordpiece(lowercase: bool, strip: bool) -> (Vocab, WordPiece) {
        let tokens: meetara_format::Strings = TOKENS.map(ggml_token).iter().collect();
        let vocab = Vocab::new(&tokens, vec![Kind::Normal; tokens.len()]).unwrap();
        let wordpiece = WordPiece {
            lowercase,
            accents: strip.then(Accents::new),
            unknown: 0,
        };
        (vocab, wordpiece)
    }

    fn encode((vocab, wordpiece): &(Vocab, WordPiece), text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        wordpiece.encode(vocab, text, &mut ids);
        ids
    }

    #[test]
    fn the_longest_piece_is_taken_and_a_word_without_pieces_is_unknown() {
        let uncased = wordpiece(true, true);
        for (text, ids) in [
            ("ab abc abbc", &[5, 0, 5, 4][..]),
            ("a!ab", &[2, 6, 5]),
            ("A AB", &[2, 5]),
            ("Cafés, CAFE\u{301}", &[8, 9, 0, 8]),
            ("x中a", &[0, 7, 2]),
            ("a$a", &[2, 10, 2]),
            ("a\u{200d}b\u{0}b\u{7f}c", &[5, 4]),
            ("a\u{a0}\r\n\ta", &[2, 2]),
            ("İ ẞ", &[12, 11]),
            // Special tokens in a text are text; so is the sign of a word's beginning.
            ("[CLS]", &[0, 0, 0]),
            ("▁ab a▁b", &[0, 0]),
            ("", &[]),
        ] {
            assert_eq!(encode(&uncased, text), ids, "{text:?}");
        }
        assert_eq!(encode(&uncased, &"b".repeat(101)), [0]);
        assert_eq!(encode(&wordpiece(false, false), "A a é"), [0, 2, 0]);
        assert_eq!(encode(&wordpiece(true, false), "A CAFÉ"), [2, 0]);
    }

    #[test]
    fn tokens_are_written_as_llama_cpp_writes_them() {
        let written = ["[CLS]", "the", "##ing", "##"].map(ggml_token);
        assert_eq!(written, ["[CLS]", "▁the", "ing", ""]);
    }
}
