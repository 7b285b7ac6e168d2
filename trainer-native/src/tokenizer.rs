//! Byte-level BPE of our own: training, the tokenizer.json file, and fast bulk encoding.
//!
//! Text is split as llama.cpp's pre-tokenizer `smollm` splits it: every numeric character alone,
//! then the GPT-2 pattern within what lies between. Each piece's bytes are written in the GPT-2
//! byte alphabet (one printable character for each of the 256 bytes) and merged inside the piece.
//!
//! Ids: the special tokens first (0 `<|endoftext|>`, 1 to 3 the roles, 4 `<|end|>`, 5 to 15
//! reserved), then the 256 bytes, then one id for each merge.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result, anyhow, bail, ensure};
use regex::Regex;
use serde_json::{Value, json};
use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, BpeTrainer, Vocab};
use tokenizers::tokenizer::Trainer as _;

/// Ids of the pocket model's vocabulary.
pub const VOCAB_SIZE: usize = 8192;
/// Begins every document; also the padding.
pub const END_OF_TEXT: u32 = 0;
/// Opens a system turn.
pub const SYSTEM: u32 = 1;
/// Opens a user turn.
pub const USER: u32 = 2;
/// Opens an assistant turn.
pub const ASSISTANT: u32 = 3;
/// Closes every turn; ends generation.
pub const END: u32 = 4;

/// Words kept with their ids by one encoder; past this many, rare words are merged anew.
const CACHED_WORDS_MAX: usize = 1 << 20;
/// Longer words are not worth keeping (bytes).
const CACHED_WORD_BYTES_MAX: usize = 64;
/// Text handed to one training job at a time (bytes).
const TRAIN_BATCH_BYTES: usize = 1 << 20;

/// The sixteen control tokens, ids 0 to 15.
pub fn special_tokens() -> Vec<String> {
    let named = ["endoftext", "system", "user", "assistant", "end"];
    let named = named.iter().map(|name| format!("<|{name}|>"));
    named
        .chain((0..11).map(|i| format!("<|reserved_{i}|>")))
        .collect()
}

/// A byte-level BPE vocabulary, in the shape GGUF stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpeVocab {
    /// Token of each id: a special token's name, or bytes in the GPT-2 byte alphabet. `[n_vocab]`
    pub tokens: Vec<String>,
    /// `"left right"` in the order of their rank.
    pub merges: Vec<String>,
    /// Ids `0..n_special` are control tokens.
    pub n_special: usize,
}

impl BpeVocab {
    /// Number of ids.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// True for a vocabulary without ids.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Bytes of text that each id stands for; 0 for control tokens. `[n_vocab]`
    pub fn token_bytes(&self) -> Vec<u8> {
        let bytes = |token: &String| token.chars().count().min(255) as u8;
        let special = std::iter::repeat_n(0, self.n_special);
        special
            .chain(self.tokens.iter().skip(self.n_special).map(bytes))
            .collect()
    }

    /// Writes Hugging Face's `tokenizer.json`.
    pub fn save(&self, path: &Path) -> Result<()> {
        let vocab: serde_json::Map<String, Value> = self
            .tokens
            .iter()
            .enumerate()
            .map(|(id, token)| (token.clone(), json!(id)))
            .collect();
        let merges: Vec<Vec<&str>> = self.merges.iter().map(|m| m.split(' ').collect()).collect();
        let added: Vec<Value> = self.tokens[..self.n_special]
            .iter()
            .enumerate()
            .map(|(id, token)| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false,
                       "rstrip": false, "normalized": false, "special": true})
            })
            .collect();
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false,
                                "trim_offsets": true, "use_regex": true});
        let file = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": true}, byte_level]},
            "post_processor": null,
            "decoder": byte_level,
            "model": {"type": "BPE", "dropout": null, "unk_token": null,
                      "continuing_subword_prefix": null, "end_of_word_suffix": null,
                      "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                      "vocab": vocab, "merges": merges},
        });
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        }
        // Written beside and renamed, so that a reader never meets half a file.
        let partial = path.with_extension("json.partial");
        fs::write(&partial, serde_json::to_vec(&file)?)
            .and_then(|()| fs::rename(&partial, path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads a `tokenizer.json` that [`BpeVocab::save`] wrote.
    ///
    /// Another tool's file is accepted when it splits text the same way, its special tokens are
    /// its first ids and its ids have no gaps; else the error says which of these failed.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = fs::read(path)
            .with_context(|| format!("cannot read the tokenizer {}", path.display()))?;
        Self::parse(&bytes).with_context(|| format!("{} cannot be used", path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let file: Value = serde_json::from_slice(bytes).context("it is not valid JSON")?;
        let text_at = |pointer| file.pointer(pointer).and_then(Value::as_str);
        ensure!(
            text_at("/model/type") == Some("BPE"),
            "its model.type is not BPE"
        );
        let splits_alike = text_at("/pre_tokenizer/pretokenizers/0/type") == Some("Digits")
            && file.pointer("/pre_tokenizer/pretokenizers/0/individual_digits")
                == Some(&json!(true))
            && text_at("/pre_tokenizer/pretokenizers/1/type") == Some("ByteLevel")
            && file.pointer("/pre_tokenizer/pretokenizers/1/add_prefix_space")
                == Some(&json!(false))
            && file.pointer("/pre_tokenizer/pretokenizers/1/use_regex") != Some(&json!(false))
            && file.pointer("/pre_tokenizer/pretokenizers/2").is_none()
            && file.get("normalizer").is_none_or(Value::is_null);
        ensure!(
            splits_alike,
            "its pre-tokenizer is not Digits(individual) then ByteLevel without a prefix space"
        );

        let vocab = file.pointer("/model/vocab").and_then(Value::as_object);
        let vocab = vocab.context("it has no model.vocab")?;
        let mut tokens = vec![None; vocab.len()];
        for (token, id) in vocab {
            let slot = id
                .as_u64()
                .and_then(|id| tokens.get_mut(usize::try_from(id).ok()?))
                .context("model.vocab has an id that is not below the number of tokens")?;
            ensure!(
                slot.replace(token.clone()).is_none(),
                "model.vocab uses id {id} twice"
            );
        }
        let tokens: Option<Vec<String>> = tokens.into_iter().collect();
        let tokens = tokens.context("model.vocab leaves an id out")?;

        let merges = file.pointer("/model/merges").and_then(Value::as_array);
        let merges = merges.context("it has no model.merges")?;
        let merges: Option<Vec<String>> = merges
            .iter()
            .map(|merge| match merge {
                Value::String(pair) => Some(pair.clone()),
                Value::Array(pair) => match pair.as_slice() {
                    [Value::String(a), Value::String(b)] => Some(format!("{a} {b}")),
                    _ => None,
                },
                _ => None,
            })
            .collect();
        let merges = merges.context("model.merges has an entry that is not a pair of tokens")?;

        let added = file.get("added_tokens").and_then(Value::as_array);
        let n_special = added.map_or(0, Vec::len);
        for (i, token) in added.into_iter().flatten().enumerate() {
            let content = token.get("content").and_then(Value::as_str);
            ensure!(
                content.is_some() && content == tokens.get(i).map(String::as_str),
                "added token {i} does not have id {i} in model.vocab"
            );
        }
        let vocab = Self {
            tokens,
            merges,
            n_special,
        };
        vocab.check()?;
        Ok(vocab)
    }

    /// All 256 bytes present, and every merge made of known tokens.
    fn check(&self) -> Result<()> {
        let known: HashSet<&str> = self.tokens.iter().map(String::as_str).collect();
        ensure!(known.len() == self.tokens.len(), "a token appears twice");
        let mut one = String::new();
        for (byte, &letter) in BYTE_ALPHABET.iter().enumerate() {
            one.clear();
            one.push(letter);
            ensure!(
                known.contains(one.as_str()),
                "byte {byte:#04x} has no token"
            );
        }
        for (rank, merge) in self.merges.iter().enumerate() {
            let complete = merge.split_once(' ').is_some_and(|(a, b)| {
                known.contains(a) && known.contains(b) && known.contains(format!("{a}{b}").as_str())
            });
            ensure!(complete, "merge {rank} names a token that is not there");
        }
        Ok(())
    }
}

/// The GPT-2 byte alphabet: printable Latin-1 stands for itself, the other 68 bytes, in order,
/// for U+0100 and up.
static BYTE_ALPHABET: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
            return char::from(byte);
        }
        let letter = char::from_u32(next).unwrap_or_default();
        next += 1;
        letter
    })
});

/// GPT-2's pattern with the digits taken out (each is a piece by itself) and without its look-ahead,
/// which [`split_words`] replaces. ` ?\p{N}+` is gone: a space before a digit ends its own piece.
static WORDS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+").ok()
});

/// Calls `word` with every piece of `text` in order; together they are the whole text.
///
/// The look-ahead `\s+(?!\S)` means: a run of white space leaves its last character to the word
/// that follows, unless nothing, or a digit (which was cut off before), follows.
pub fn split_words<'t>(text: &'t str, mut word: impl FnMut(&'t str)) {
    let Some(words) = WORDS.as_ref() else {
        return;
    };
    let mut at = 0;
    while let Some(found) = words.find_at(text, at) {
        let piece = found.as_str();
        let mut end = found.end();
        let mut letters = piece.chars();
        let last = letters.next_back();
        if let Some(last) = last.filter(|c| c.is_whitespace()) {
            let word_follows = text[end..].chars().next().is_some_and(|c| !c.is_numeric());
            if word_follows && letters.next().is_some() {
                end -= last.len_utf8();
            }
        }
        word(&text[found.start()..end]);
        at = end;
    }
}

fn to_alphabet(word: &str) -> String {
    word.bytes().map(|b| BYTE_ALPHABET[b as usize]).collect()
}

/// Learns a vocabulary of exactly `vocab_size` ids from `texts`: `specials`, 256 bytes, merges by
/// falling frequency (ties: the smaller pair of ids). The same texts give the same vocabulary, in
/// whatever order they come.
///
/// # Errors
/// When the texts do not hold enough different words for that many merges.
pub fn train<I>(texts: I, vocab_size: usize, specials: &[String]) -> Result<BpeVocab>
where
    I: IntoIterator,
    I::Item: AsRef<str>,
    I::IntoIter: Send,
{
    ensure!(
        vocab_size >= specials.len() + 256,
        "vocab_size is {vocab_size}: at least {} are needed for the special tokens and 256 bytes",
        specials.len() + 256
    );
    let added = specials
        .iter()
        .map(|name| tokenizers::AddedToken::from(name.clone(), true))
        .collect();
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(added)
        .initial_alphabet(BYTE_ALPHABET.iter().copied().collect::<HashSet<char>>())
        .build();
    let batches = Batches {
        texts: texts.into_iter(),
    };
    trainer
        .feed(batches, |batch| {
            let mut words = Vec::new();
            for text in batch.split('\0') {
                split_words(text, |word| words.push(to_alphabet(word)));
            }
            Ok(words)
        })
        .map_err(|e| anyhow!("cannot count the words of the tokenizer's texts: {e}"))?;
    let mut bpe = BPE::default();
    trainer
        .train(&mut bpe)
        .map_err(|e| anyhow!("cannot train the tokenizer: {e}"))?;

    let n_vocab = bpe.get_vocab_size();
    if n_vocab != vocab_size {
        bail!(
            "the texts hold only enough for {n_vocab} ids of {vocab_size}: give more text or ask for fewer ids"
        );
    }
    // The crate shows its merges only through its serialised form.
    let model = serde_json::to_value(&bpe)?;
    let merges = model.get("merges").and_then(Value::as_array);
    let merges: Option<Vec<String>> = merges
        .context("the tokenizer's model has no merges")?
        .iter()
        .map(|pair| {
            Some(format!(
                "{} {}",
                pair.get(0)?.as_str()?,
                pair.get(1)?.as_str()?
            ))
        })
        .collect();
    let tokens: Option<Vec<String>> = (0..n_vocab as u32).map(|id| bpe.id_to_token(id)).collect();
    let vocab = BpeVocab {
        tokens: tokens.context("the trained vocabulary leaves an id out")?,
        merges: merges.context("the trained merges are not pairs")?,
        n_special: specials.len(),
    };
    ensure!(
        vocab.tokens.starts_with(specials),
        "the special tokens did not get the first ids"
    );
    vocab.check()?;
    Ok(vocab)
}

/// Joins texts by NUL into batches, so that one training job counts many of them in one map.
struct Batches<I> {
    texts: I,
}

impl<I: Iterator<Item: AsRef<str>>> Iterator for Batches<I> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut batch = self.texts.next()?.as_ref().to_owned();
        while batch.len() < TRAIN_BATCH_BYTES {
            let Some(text) = self.texts.next() else {
                break;
            };
            batch.push('\0');
            batch.push_str(text.as_ref());
        }
        Some(batch)
    }
}

/// Turns text into ids, never into control tokens: text that spells `<|end|>` stays text.
///
/// A clone shares the vocabulary and starts with a copy of the word cache; use one per thread.
#[derive(Clone)]
pub struct Encoder {
    bpe: Arc<BPE>,
    n_special: usize,
    cache: HashMap<Box<str>, Box<[u32]>>,
}

impl Encoder {
    /// Builds the merge table.
    pub fn new(vocab: &BpeVocab) -> Result<Self> {
        let ids: Vocab = vocab.tokens.iter().cloned().zip(0..).collect();
        let merges: Option<Vec<(String, String)>> = vocab
            .merges
            .iter()
            .map(|merge| merge.split_once(' ').map(|(a, b)| (a.into(), b.into())))
            .collect();
        let bpe = BPE::builder()
            .vocab_and_merges(ids, merges.context("a merge is not a pair of tokens")?)
            .cache_capacity(0)
            .build()
            .map_err(|e| anyhow!("cannot build the tokenizer's merges: {e}"))?;
        Ok(Self {
            bpe: Arc::new(bpe),
            n_special: vocab.n_special,
            cache: HashMap::new(),
        })
    }

    /// Appends the ids of `text` to `ids`.
    pub fn encode(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let mut failed = None;
        split_words(text, |word| {
            if let Some(known) = self.cache.get(word) {
                ids.extend_from_slice(known);
            } else if let Err(e) = self.encode_word(word, ids) {
                failed.get_or_insert(e);
            }
        });
        failed.map_or(Ok(()), Err)
    }

    fn encode_word(&mut self, word: &str, ids: &mut Vec<u32>) -> Result<()> {
        let start = ids.len();
        let tokens = self.bpe.tokenize(&to_alphabet(word)).map_err(|e| {
            anyhow!(
                "the tokenizer cannot encode a word of {} bytes: {e}",
                word.len()
            )
        })?;
        ids.extend(tokens.iter().map(|token| token.id));
        let new = &ids[start..];
        ensure!(
            new.iter().all(|&id| id as usize >= self.n_special),
            "the tokenizer's merges lead to a control token"
        );
        if word.len() <= CACHED_WORD_BYTES_MAX && self.cache.len() < CACHED_WORDS_MAX {
            self.cache.insert(word.into(), new.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::Tokenizer;

    const TRICKY: &[&str] = &[
        "",
        " ",
        "Hello, world! It's 12 o'clock; we'll see you're there, I'd say.",
        "  two  spaces   three\n\n new\tline \n x  \n",
        "a 1 22  333   4444 5",
        "trailing spaces   ",
        "x  7   y",
        "digits\u{0663}\u{00BD}\u{2167}a \u{00B2}x  \u{00B2}",
        "na\u{EF}ve caf\u{E9} \u{4F60}\u{597D} \u{1F600}\u{1F44D}\u{1F3FD} e\u{301}\u{302}",
        "nbsp\u{A0}\u{A0}x \u{2003}\u{2003}y\u{3000}z\u{A0}",
        "'s't're've'm'll'd 'S don't DON'T ''s",
        "<|end|><|user|> <|endoftext|>",
        "tab\t\tx\r\ny\r\n\r\n  z",
        "\u{0}\u{1}\u{7F}\u{FEFF}\u{200B}\u{200D}",
        "_under_ (a-b) [c] {d} \u{2026} \u{201C}quote\u{201D} --- ###",
    ];

    fn corpus() -> Vec<String> {
        let mut texts: Vec<String> = TRICKY.iter().map(|t| format!("{t} {t}")).collect();
        texts.extend((0..200).map(|i| {
            format!("The cat number {i} sat there on the mat, thinking about the other cats.")
        }));
        texts
    }

    fn small() -> BpeVocab {
        train(corpus(), 360, &special_tokens()).unwrap()
    }

    #[test]
    fn sixteen_specials_come_first() {
        let vocab = small();
        assert_eq!(vocab.len(), 360);
        assert_eq!(vocab.n_special, 16);
        let names = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>"];
        assert_eq!(vocab.tokens[..4], names);
        assert_eq!(vocab.tokens[END as usize], "<|end|>");
        assert_eq!(vocab.tokens[15], "<|reserved_10|>");
        assert_eq!(vocab.merges.len(), 360 - 16 - 256);
        assert_eq!(
            vocab.token_bytes()[..17],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        );
    }

    #[test]
    fn training_is_deterministic_in_any_order() {
        let vocab = small();
        let mut texts = corpus();
        texts.reverse();
        assert_eq!(vocab, train(texts, 360, &special_tokens()).unwrap());
    }

    #[test]
    fn too_little_text_is_an_error() {
        let error = train(["aaaa aaaa"], 4000, &special_tokens()).unwrap_err();
        assert!(error.to_string().contains("of 4000"), "{error}");
        assert!(train(["a"], 100, &special_tokens()).is_err());
    }

    #[test]
    fn encoder_agrees_with_the_library_and_loses_nothing() {
        let folder = std::env::temp_dir().join(format!("meetara-tok-{}", std::process::id()));
        let path = folder.join("tokenizer.json");
        let vocab = small();
        vocab.save(&path).unwrap();
        let loaded = BpeVocab::load(&path).unwrap();
        assert_eq!(loaded, vocab);
        let library = Tokenizer::from_file(&path).unwrap();
        fs::remove_dir_all(&folder).unwrap();

        let mut encoder = Encoder::new(&loaded).unwrap();
        let bytes: HashMap<char, u8> = BYTE_ALPHABET.iter().copied().zip(0..=255).collect();
        for text in TRICKY {
            let mut ids = Vec::new();
            encoder.encode(text, &mut ids).unwrap();
            let letters = ids.iter().flat_map(|&id| vocab.tokens[id as usize].chars());
            let back: Vec<u8> = letters.map(|c| bytes[&c]).collect();
            assert_eq!(back, text.as_bytes());
            if !text.contains("<|") {
                let expected = library.encode(*text, false).unwrap();
                assert_eq!(ids, expected.get_ids(), "{text:?}");
            }
            let mut again = Vec::new();
            encoder.encode(text, &mut again).unwrap();
            assert_eq!(ids, again, "cached words differ");
        }
    }

    #[test]
    fn any_mixture_of_character_classes_is_split_as_the_library_does() {
        use rand::seq::IndexedRandom;
        use rand_chacha::rand_core::SeedableRng;
        use tokenizers::PreTokenizer as _;
        use tokenizers::pre_tokenizers::{byte_level::ByteLevel, digits::Digits};
        use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString};

        // Letters, marks, digits of several kinds, white space of several widths, signs.
        let letters: Vec<char> =
            "aZ\u{E9}\u{5D0}\u{4F60}\u{AA}\u{301}\u{93E}07\u{663}\u{BD}\u{2160}\u{B2}   \
            \n\r\t\u{A0}\u{2003}\u{3000}\u{85}\u{2028}''stmdlvre.,-_<|>\u{20AC}\u{1F600}\u{200D}\u{FE0F}\u{0}"
                .chars()
                .collect();
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for _ in 0..5_000 {
            let text: String = (0..12).filter_map(|_| letters.choose(&mut rng)).collect();
            let mut ours = Vec::new();
            split_words(&text, |word| ours.push(word));
            let mut theirs = PreTokenizedString::from(text.as_str());
            Digits::new(true).pre_tokenize(&mut theirs).unwrap();
            ByteLevel::default()
                .add_prefix_space(false)
                .pre_tokenize(&mut theirs)
                .unwrap();
            let theirs: Vec<&str> = theirs
                .get_splits(OffsetReferential::Original, OffsetType::Byte)
                .into_iter()
                .map(|(_, (start, end), _)| &text[start..end])
                .collect();
            assert_eq!(ours, theirs, "{text:?}");
        }
    }

    #[test]
    fn spelled_control_tokens_stay_text() {
        let mut ids = Vec::new();
        let mut encoder = Encoder::new(&small()).unwrap();
        encoder
            .encode("<|end|><|user|><|reserved_3|>", &mut ids)
            .unwrap();
        assert!(ids.len() > 3 && ids.iter().all(|&id| id >= 16), "{ids:?}");
    }

    #[test]
    fn other_splitting_is_refused() {
        let folder = std::env::temp_dir().join(format!("meetara-tok2-{}", std::process::id()));
        let path = folder.join("tokenizer.json");
        small().save(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let no_digits = text.replace("\"individual_digits\":true", "\"individual_digits\":false");
        let error = BpeVocab::parse(no_digits.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("pre-tokenizer"), "{error}");
        let no_space_byte = text.replace("\"\u{120}\":", "\"zz\":");
        assert!(BpeVocab::parse(no_space_byte.as_bytes()).is_err());
        assert!(BpeVocab::parse(b"{}").is_err());
    }
}
