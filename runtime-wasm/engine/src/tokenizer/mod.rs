//! Text to tokens and back.
//!
//! [`Tokenizer`] reads the vocabulary of a GGUF file and knows two algorithms:
//! byte-level BPE (`bpe`, `tokenizer.ggml.model = gpt2`) and SentencePiece-style
//! merging by score (`spm`, `llama`); encoders have a third, WordPiece (`wordpiece`,
//! `bert`). What the ids of a text are follows llama.cpp, whose vocabulary tests
//! are ours, too; WordPiece follows Hugging Face's `tokenizers`.
//!
//! | file | subject |
//! |---|---|
//! | `vocab` | the texts of all tokens, and the way back to an id |
//! | `pretokenize`, `unicode` | the pieces within which BPE merges |
//! | `bpe`, `byte_text` | byte-level BPE |
//! | `spm` | merging by score |
//! | `wordpiece`, `accents` | the longest known pieces of words in small letters |
//! | `special` | tokens that are found before anything else |
//! | `stream` | bytes of tokens to complete characters |

#[cfg(feature = "encoder")]
mod accent_tables;
#[cfg(feature = "encoder")]
mod accents;
mod bpe;
mod byte_text;
mod load;
mod pretokenize;
mod special;
mod spm;
mod stream;
pub(crate) mod unicode;
mod unicode_tables;
mod vocab;
#[cfg(feature = "encoder")]
mod wordpiece;

use crate::error::{Error, Result};
use bpe::Bpe;
use byte_text::char_to_byte;
#[cfg(feature = "encoder")]
pub(crate) use load::markers;
use special::SpecialSet;
use spm::Spm;
pub use stream::Utf8Stream;
use vocab::{Kind, Vocab};
#[cfg(feature = "encoder")]
use wordpiece::WordPiece;
#[cfg(feature = "encoder")]
pub use wordpiece::ggml_token as wordpiece_token;

/// What becomes of the text of control tokens, and of the unknown token, in [`Tokenizer::encode`].
///
/// User-defined tokens are found either way, as in llama.cpp: the model saw them in plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// It becomes their id: for prompts that a chat template wrote.
    Parse,
    /// It is text like any other: for text whose writer is not to be trusted with them.
    Text,
}

/// The vocabulary of a model and its algorithm.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    algorithm: Algorithm,
    /// Control, user-defined and unknown tokens: what [`Special::Parse`] finds.
    specials: SpecialSet,
    /// User-defined tokens: what [`Special::Text`] finds.
    user_defined: SpecialSet,
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
    add_bos: bool,
    /// Ids of the tokens that end a reply; a few.
    end_of_generation: Vec<u32>,
}

#[derive(Clone, Debug)]
enum Algorithm {
    Bpe(Box<Bpe>),
    Spm(Box<Spm>),
    #[cfg(feature = "encoder")]
    WordPiece(Box<WordPiece>),
}

/// Memory that the pieces of one text share.
enum Scratch {
    Bpe(bpe::Scratch),
    Spm(spm::Scratch),
    #[cfg(feature = "encoder")]
    None,
}

impl Tokenizer {
    /// How many tokens there are; ids are below this.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a vocabulary without tokens is refused when it is read"
    )]
    pub fn len(&self) -> usize {
        self.vocab.len()
    }

    /// The token that a document begins with.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that a document ends with.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token that a turn of a chat ends with: the one the file names, or
    /// the one whose text is known for it, such as `<|im_end|>`.
    #[must_use]
    pub fn eot(&self) -> Option<u32> {
        self.eot
    }

    /// Whether the model wants [`bos`](Self::bos) before a prompt.
    #[must_use]
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether `id` ends a reply: the end of a turn, of a message or of the document.
    #[must_use]
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.end_of_generation.contains(&id)
    }

    /// The ids of `text`, without a BOS.
    ///
    /// Takes time in n log n at worst, whatever the text.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) for a text of 4 GiB or more;
    /// [`ErrorKind::InvalidModel`](crate::ErrorKind::InvalidModel) when a SentencePiece vocabulary has no token
    /// for a byte of the text and no unknown token either.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        if u32::try_from(text.len()).is_err() {
            return Err(Error::invalid_request(
                "the text is 4 GiB long or longer; shorten it",
            ));
        }
        let mut ids = Vec::with_capacity(text.len() / 4 + 1);
        let mut scratch = match &self.algorithm {
            Algorithm::Bpe(_) => Scratch::Bpe(bpe::Scratch::default()),
            Algorithm::Spm(_) => Scratch::Spm(spm::Scratch::default()),
            #[cfg(feature = "encoder")]
            Algorithm::WordPiece(_) => Scratch::None,
        };
        let set = match special {
            Special::Parse => &self.specials,
            Special::Text => &self.user_defined,
        };
        let (mut rest, mut begins) = (text, true);
        while let Some((at, id)) = set.find(rest, |id| self.vocab.text(id)) {
            let (before, from) = rest.split_at(at);
            self.encode_plain(before, begins, &mut scratch, &mut ids)?;
            ids.push(id);
            begins = true;
            rest = from.get(self.vocab.text(id).len()..).unwrap_or_default();
        }
        self.encode_plain(rest, begins, &mut scratch, &mut ids)?;
        Ok(ids)
    }

    /// Appends the bytes that `id` stands for. Control tokens and ids that do not exist stand for nothing.
    ///
    /// The bytes may end inside a character: see [`Utf8Stream`].
    pub fn append_bytes(&self, id: u32, bytes: &mut Vec<u8>) {
        let text = self.vocab.text(id);
        match (self.vocab.kind(id), &self.algorithm) {
            (None | Some(Kind::Control | Kind::Unknown | Kind::Unused), _) => {}
            (Some(Kind::UserDefined), _) => bytes.extend_from_slice(text.as_bytes()),
            (Some(Kind::Normal | Kind::Byte), Algorithm::Bpe(_)) => {
                for c in text.chars() {
                    match char_to_byte(c) {
                        Some(byte) => bytes.push(byte),
                        // Not written in GPT-2's characters; then it means itself.
                        None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
            (Some(Kind::Byte), _) => match byte_of_name(text) {
                Some(byte) => bytes.push(byte),
                None => bytes.extend_from_slice(text.as_bytes()),
            },
            (Some(Kind::Normal), _) => {
                for (index, part) in text.split(spm::SPACE).enumerate() {
                    if index > 0 {
                        bytes.push(b' ');
                    }
                    bytes.extend_from_slice(part.as_bytes());
                }
            }
        }
    }

    /// All tokens as the crate `constraint` reads them: of each its length, a byte; its kind, a byte (0:
    /// bytes of a reply, 1: a marker, 2: one that ends a reply); and what it stands for. Tokens of more
    /// than 255 bytes stand for nothing.
    #[must_use]
    pub fn vocabulary(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(8 * self.len());
        let mut token = Vec::new();
        for id in 0..self.len() as u32 {
            token.clear();
            let kind = if self.is_end_of_generation(id) {
                2
            } else {
                u8::from(self.vocab.kind(id) == Some(Kind::Control))
            };
            if kind == 0 {
                self.append_bytes(id, &mut token);
            } else {
                token.extend_from_slice(self.vocab.text(id).as_bytes());
            }
            let len = u8::try_from(token.len()).unwrap_or(0);
            all.extend_from_slice(&[len, kind]);
            all.extend_from_slice(&token[..len.into()]);
        }
        all
    }

    /// The text of `id` as the file writes it, for display; empty for an id that does not exist.
    /// In a byte-level BPE `Ġ` is a space, in SentencePiece `▁` is.
    #[must_use]
    pub fn token_text(&self, id: u32) -> &str {
        if self.vocab.kind(id).is_some() {
            self.vocab.text(id)
        } else {
            ""
        }
    }

    /// The id of the token that the file writes as `text`.
    #[must_use]
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.vocab.find_token(text.as_bytes())
    }

    /// How many bytes of memory the tokenizer holds.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let algorithm = match &self.algorithm {
            Algorithm::Bpe(bpe) => bpe.memory_bytes(),
            Algorithm::Spm(spm) => spm.memory_bytes(),
            #[cfg(feature = "encoder")]
            Algorithm::WordPiece(wordpiece) => wordpiece.memory_bytes(),
        };
        let sets = self.specials.memory_bytes() + self.user_defined.memory_bytes();
        self.vocab.memory_bytes() + algorithm + sets
    }

    fn encode_plain(
        &self,
        text: &str,
        begins: bool,
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        match (&self.algorithm, scratch) {
            (Algorithm::Bpe(bpe), Scratch::Bpe(scratch)) => {
                bpe.encode(&self.vocab, text, scratch, ids)
            }
            (Algorithm::Spm(spm), Scratch::Spm(scratch)) => {
                spm.encode(&self.vocab, text, begins, scratch, ids)?
            }
            #[cfg(feature = "encoder")]
            (Algorithm::WordPiece(wordpiece), _) => wordpiece.encode(&self.vocab, text, ids),
            _ => {
                return Err(Error::internal(
                    "the scratch memory of the tokenizer is another algorithm's",
                ));
            }
        }
        Ok(())
    }
}

/// The byte that a token named `<0xNN>` stands for.
fn byte_of_name(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}
