//! Vocabularies of a folder as `tokenizer.ggml.*`: WordPiece (BERT) and byte-level BPE (RoBERTa).
//!
//! `tokenizer.json` comes first; without it the older files do: `vocab.txt`, or `vocab.json` with
//! `merges.txt`. Settings that would make other ids than the engine's are errors.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use meetara_engine::tokenizer::wordpiece_token;
use meetara_format::{Array, Value, Writer};
use serde::Deserialize;

use super::read_json;

/// llama.cpp's token types.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(i32)]
enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
}

/// Tokens and what else the tokenizer of a file needs.
#[derive(Debug)]
pub struct Vocabulary {
    model: &'static str,
    tokens: Vec<(String, Kind)>,
    merges: Vec<String>,
    /// Names of keys, and ids.
    special: Vec<(&'static str, u32)>,
    /// Only for WordPiece: lower case, and whether accents are stripped.
    folds: Option<[bool; 2]>,
}

/// `tokenizer.json`, as far as it is looked at.
#[derive(Deserialize)]
struct TokenizerFile {
    model: Model,
    #[serde(default)]
    normalizer: Option<Part>,
    #[serde(default)]
    pre_tokenizer: Option<Part>,
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    vocab: serde_json::Value,
    #[serde(default)]
    merges: Vec<Merge>,
    #[serde(default)]
    max_input_chars_per_word: Option<u32>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair([String; 2]),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    lowercase: Option<bool>,
    strip_accents: Option<bool>,
    clean_text: Option<bool>,
    handle_chinese_chars: Option<bool>,
    add_prefix_space: Option<bool>,
    use_regex: Option<bool>,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

/// `tokenizer_config.json`, as far as it is looked at.
#[derive(Default, Deserialize)]
struct Settings {
    do_lower_case: Option<bool>,
    strip_accents: Option<bool>,
    tokenize_chinese_chars: Option<bool>,
    add_prefix_space: Option<bool>,
}

impl Vocabulary {
    /// BERT's, of `n_vocab` rows.
    pub fn wordpiece(folder: &Path, n_vocab: usize) -> Result<Self> {
        let file: Option<TokenizerFile> = read_json(&folder.join("tokenizer.json"))?;
        let settings = settings(folder)?;
        let mut lowercase = settings.do_lower_case.unwrap_or(true);
        let mut strip = settings.strip_accents;
        let mut ideographs = settings.tokenize_chinese_chars.unwrap_or(true);
        let texts = match &file {
            Some(file) => {
                let kind = file.model.kind.as_deref().unwrap_or("WordPiece");
                ensure!(
                    kind == "WordPiece",
                    "tokenizer.json: the model is {kind:?}; BERT's WordPiece is supported"
                );
                let long = file.model.max_input_chars_per_word.unwrap_or(100);
                let prefix = file.model.continuing_subword_prefix.as_deref();
                ensure!(
                    long == 100 && prefix.unwrap_or("##") == "##",
                    "tokenizer.json: words of up to {long} characters and the prefix {prefix:?}; 100 and \"##\" are supported"
                );
                let (normalizer, cut) = (file.normalizer.as_ref(), file.pre_tokenizer.as_ref());
                let kinds = [normalizer, cut].map(|part| part.map_or("none", |part| &part.kind));
                ensure!(
                    kinds == ["BertNormalizer", "BertPreTokenizer"],
                    "tokenizer.json: normalizer and pre_tokenizer are {kinds:?}; BertNormalizer and BertPreTokenizer are supported"
                );
                if let Some(normalizer) = normalizer {
                    lowercase = normalizer.lowercase.unwrap_or(true);
                    strip = normalizer.strip_accents;
                    ideographs = normalizer.handle_chinese_chars.unwrap_or(true)
                        && normalizer.clean_text.unwrap_or(true);
                }
                by_id(&file.model.vocab).context("tokenizer.json: model.vocab")?
            }
            None => {
                let path = folder.join("vocab.txt");
                let text = std::fs::read_to_string(&path).with_context(|| {
                    format!("there is neither tokenizer.json nor {}", path.display())
                })?;
                text.lines().map(str::to_owned).collect()
            }
        };
        ensure!(
            ideographs,
            "the tokenizer keeps control characters or does not set CJK ideographs apart; only BERT's own way is supported"
        );
        let mut vocabulary = Self {
            model: "bert",
            tokens: Vec::new(),
            merges: Vec::new(),
            special: Vec::new(),
            folds: Some([lowercase, strip.unwrap_or(lowercase)]),
        };
        vocabulary.fill(texts, file, n_vocab, wordpiece_token)?;
        vocabulary.name_special(&[
            ("cls", "[CLS]", true),
            ("seperator", "[SEP]", true),
            ("unknown", "[UNK]", true),
            ("padding", "[PAD]", false),
            ("mask", "[MASK]", false),
        ])?;
        Ok(vocabulary)
    }

    /// RoBERTa's, of `n_vocab` rows.
    pub fn byte_bpe(folder: &Path, n_vocab: usize) -> Result<Self> {
        let file: Option<TokenizerFile> = read_json(&folder.join("tokenizer.json"))?;
        let mut prefixed = settings(folder)?.add_prefix_space.unwrap_or(false);
        let (texts, merges) = match &file {
            Some(file) => {
                let kind = file.model.kind.as_deref().unwrap_or("BPE");
                let cut = file.pre_tokenizer.as_ref();
                let cut_kind = cut.map_or("none", |part| &part.kind);
                ensure!(
                    kind == "BPE" && cut_kind == "ByteLevel" && file.normalizer.is_none(),
                    "tokenizer.json: the model is {kind:?} after {cut_kind:?}; byte-level BPE without a normalizer is supported"
                );
                if let Some(cut) = cut {
                    prefixed = cut.add_prefix_space.unwrap_or(true);
                    ensure!(
                        cut.use_regex.unwrap_or(true),
                        "tokenizer.json: use_regex is false; GPT-2's way of cutting text is supported"
                    );
                }
                let merges = file.model.merges.iter().map(|merge| match merge {
                    Merge::Text(text) => text.clone(),
                    Merge::Pair([left, right]) => format!("{left} {right}"),
                });
                let texts = by_id(&file.model.vocab).context("tokenizer.json: model.vocab")?;
                (texts, merges.collect())
            }
            None => {
                let vocab = read_json(&folder.join("vocab.json"))?
                    .context("there is neither tokenizer.json nor vocab.json")?;
                let path = folder.join("merges.txt");
                let merges = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                let merges = merges
                    .lines()
                    .enumerate()
                    .filter(|(i, line)| {
                        !line.is_empty() && (*i > 0 || !line.starts_with("#version"))
                    })
                    .map(|(_, line)| line.to_owned());
                (by_id(&vocab).context("vocab.json")?, merges.collect())
            }
        };
        ensure!(
            !prefixed,
            "the tokenizer puts a space before every text (add_prefix_space); that is not supported"
        );
        let mut vocabulary = Self {
            model: "gpt2",
            tokens: Vec::new(),
            merges,
            special: Vec::new(),
            folds: None,
        };
        vocabulary.fill(texts, file, n_vocab, str::to_owned)?;
        vocabulary.name_special(&[
            ("bos", "<s>", true),
            ("eos", "</s>", true),
            ("cls", "<s>", true),
            ("seperator", "</s>", true),
            ("unknown", "<unk>", false),
            ("padding", "<pad>", false),
            ("mask", "<mask>", false),
        ])?;
        Ok(vocabulary)
    }

    /// The tokens, filled up to `n_vocab`, each with its kind.
    fn fill(
        &mut self,
        texts: Vec<String>,
        file: Option<TokenizerFile>,
        n_vocab: usize,
        written: impl Fn(&str) -> String,
    ) -> Result<()> {
        const SPECIAL: [&str; 10] = [
            "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>", "<pad>", "<unk>", "<mask>",
        ];
        let kind = |text: &str| match text {
            "[UNK]" | "<unk>" => Kind::Unknown,
            _ if SPECIAL.contains(&text) => Kind::Control,
            _ if text.is_empty() || text.starts_with("[unused") => Kind::Unused,
            _ => Kind::Normal,
        };
        let mut tokens: Vec<(String, Kind)> = texts
            .iter()
            .map(|text| (written(text), kind(text)))
            .collect();
        for added in file.into_iter().flat_map(|file| file.added_tokens) {
            let place = added.id as usize;
            ensure!(
                place < n_vocab,
                "tokenizer.json: the added token {place} is outside the {n_vocab} rows of the embedding"
            );
            while tokens.len() <= place {
                tokens.push((format!("[PAD{}]", tokens.len()), Kind::Unused));
            }
            let kind = match kind(&added.content) {
                Kind::Normal if added.special => Kind::Control,
                Kind::Normal => Kind::UserDefined,
                known => known,
            };
            tokens[place] = (added.content, kind);
        }
        ensure!(
            tokens.len() <= n_vocab,
            "the vocabulary has {} tokens, config.json says {n_vocab}",
            tokens.len()
        );
        // llama.cpp wants a text for every row.
        while tokens.len() < n_vocab {
            tokens.push((format!("[PAD{}]", tokens.len()), Kind::Unused));
        }
        self.tokens = tokens;
        Ok(())
    }

    /// Finds the tokens that keys name: key, text, whether it must be there.
    fn name_special(&mut self, named: &[(&'static str, &str, bool)]) -> Result<()> {
        let ids: HashMap<&str, u32> = (0..)
            .zip(&self.tokens)
            .map(|(id, (text, _))| (text.as_str(), id))
            .collect();
        for &(key, text, needed) in named {
            match ids.get(text) {
                Some(&id) => self.special.push((key, id)),
                None if needed => bail!("the vocabulary has no token {text}"),
                None => {}
            }
        }
        Ok(())
    }

    /// Sets the keys of the file.
    pub fn write(self, writer: &mut Writer<'_>) {
        writer.set("tokenizer.ggml.model", self.model);
        let (tokens, kinds): (Vec<String>, Vec<i32>) = self
            .tokens
            .into_iter()
            .map(|(text, kind)| (text, kind as i32))
            .unzip();
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        writer.set(&key("tokens"), Value::Array(Array::String(tokens.into())));
        writer.set(&key("token_type"), Value::Array(Array::I32(kinds)));
        if self.model == "gpt2" {
            writer.set(&key("pre"), "roberta-bpe");
            writer.set(
                &key("merges"),
                Value::Array(Array::String(self.merges.into())),
            );
        }
        for (name, id) in self.special {
            writer.set(&key(&format!("{name}_token_id")), id);
        }
        if let Some([lowercase, strip]) = self.folds {
            writer.set("meetara.tokenizer.lowercase", lowercase);
            writer.set("meetara.tokenizer.strip_accents", strip);
        }
    }
}

fn settings(folder: &Path) -> Result<Settings> {
    Ok(read_json(&folder.join("tokenizer_config.json"))?.unwrap_or_default())
}

/// `{"text": id}` as texts in the order of their ids; ids that nobody has get a filler.
fn by_id(vocab: &serde_json::Value) -> Result<Vec<String>> {
    let vocab: BTreeMap<String, u32> = Deserialize::deserialize(vocab)?;
    let count = vocab.values().max().map_or(0, |&max| max as usize + 1);
    ensure!(
        count <= 2 * vocab.len() + 1024,
        "{} tokens have ids up to {count}",
        vocab.len()
    );
    let mut texts: Vec<String> = (0..count).map(|id| format!("[PAD{id}]")).collect();
    for (text, id) in vocab {
        texts[id as usize] = text;
    }
    Ok(texts)
}
