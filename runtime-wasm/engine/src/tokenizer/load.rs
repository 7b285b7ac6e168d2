//! Reads the tokenizer of a GGUF file.

use meetara_format::{Array, Gguf, Value};

use super::bpe::Bpe;
use super::pretokenize::Pre;
use super::special::SpecialSet;
use super::spm::Spm;
use super::vocab::{Kind, Vocab};
use super::{Algorithm, Tokenizer};
use crate::error::{Error, Result};

/// The longest text of a token that is looked for in prompts, in bytes. Such a
/// token is a word in angle brackets; a long one would only slow the search.
const SPECIAL_BYTES_MAX: usize = 1024;

/// Texts of tokens that end a turn of a chat, in the chat formats in use.
const END_OF_TURN: [&str; 8] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|eot|>",
    "<EOT>",
    "<|end_of_turn|>",
    "<turn|>",
];

/// Texts of tokens that end a message or a document.
const END_OF_TEXT: [&str; 5] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOS>",
    "<|return|>",
];

impl Tokenizer {
    /// Reads the `tokenizer.ggml.*` keys of `gguf`.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedModel`](crate::ErrorKind::UnsupportedModel) for an algorithm or a
    /// pre-tokenizer that is not known, by name;
    /// [`ErrorKind::InvalidModel`](crate::ErrorKind::InvalidModel) for keys that are missing, of another type, or
    /// that contradict one another.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let model = required(gguf.get_str("tokenizer.ggml.model"), "tokenizer.ggml.model")?;
        let is_spm = match model {
            "gpt2" => false,
            "llama" => true,
            #[cfg(feature = "encoder")]
            "bert" => false,
            other => {
                return Err(Error::unsupported_model(format!(
                    "tokenizer.ggml.model is {other:?}; this runtime knows {KNOWN_MODELS}"
                )));
            }
        };
        let tokens = required(
            gguf.get_string_array("tokenizer.ggml.tokens"),
            "tokenizer.ggml.tokens",
        )?;
        if tokens.is_empty() {
            return Err(Error::invalid_model(
                "tokenizer.ggml.tokens is empty; export the model again",
            ));
        }
        let mut vocab = Vocab::new(tokens, kinds(gguf, tokens.len())?)?;
        let unknown = special_id(gguf, "unknown", tokens.len())?.or(is_spm.then_some(0));
        let (algorithm, adds_bos) = match model {
            "llama" => {
                let scores = required(
                    gguf.get_f32_array("tokenizer.ggml.scores"),
                    "tokenizer.ggml.scores",
                )?;
                same_len("scores", scores.len(), tokens.len())?;
                let prefix =
                    optional(gguf.get_bool("tokenizer.ggml.add_space_prefix"))?.unwrap_or(true);
                let spm = Spm::new(scores, prefix, unknown, &vocab)?;
                (Algorithm::Spm(Box::new(spm)), true)
            }
            #[cfg(feature = "encoder")]
            "bert" => {
                let wordpiece = super::WordPiece::from_gguf(gguf, unknown, &vocab)?;
                (Algorithm::WordPiece(Box::new(wordpiece)), false)
            }
            _ => {
                let pre = Pre::from_name(optional(gguf.get_str("tokenizer.ggml.pre"))?)?;
                let merges = required(
                    gguf.get_string_array("tokenizer.ggml.merges"),
                    "tokenizer.ggml.merges",
                )?;
                let is_llama3 = pre == Pre::Llama3;
                let bpe = Bpe::new(pre, is_llama3, merges, &mut vocab)?;
                (Algorithm::Bpe(Box::new(bpe)), is_llama3)
            }
        };
        // SentencePiece models that name no ids use 1 and 2; a BPE has no such custom.
        let by_custom = |id: u32| (is_spm && (id as usize) < tokens.len()).then_some(id);
        let bos = special_id(gguf, "bos", tokens.len())?.or(by_custom(1));
        let eos = special_id(gguf, "eos", tokens.len())?.or(by_custom(2));
        let known = |text: &&str| {
            let is_special =
                |id: &u32| matches!(vocab.kind(*id), Some(Kind::Control | Kind::UserDefined));
            vocab.find_token(text.as_bytes()).filter(is_special)
        };
        let eot =
            special_id(gguf, "eot", tokens.len())?.or_else(|| END_OF_TURN.iter().find_map(known));
        let eom = special_id(gguf, "eom", tokens.len())?;
        let named = END_OF_TURN.iter().chain(&END_OF_TEXT).filter_map(known);
        let mut end_of_generation = Vec::new();
        for id in [eos, eot, eom].into_iter().flatten().chain(named) {
            if !end_of_generation.contains(&id) {
                end_of_generation.push(id);
            }
        }
        Ok(Self {
            specials: special_set(&vocab, &[Kind::Control, Kind::UserDefined, Kind::Unknown])?,
            user_defined: special_set(&vocab, &[Kind::UserDefined])?,
            vocab,
            algorithm,
            bos,
            eos,
            eot,
            add_bos: optional(gguf.get_bool("tokenizer.ggml.add_bos_token"))?.unwrap_or(adds_bos),
            end_of_generation,
        })
    }
}

#[cfg(feature = "encoder")]
const KNOWN_MODELS: &str = "gpt2 (byte-level BPE), llama (SentencePiece) and bert (WordPiece)";
#[cfg(not(feature = "encoder"))]
const KNOWN_MODELS: &str = "gpt2 (byte-level BPE) and llama (SentencePiece)";

/// The tokens that an encoder wants around a text: `[CLS]` and `[SEP]`, or `<s>` and `</s>`.
///
/// # Errors
/// [`ErrorKind::InvalidModel`](crate::ErrorKind::InvalidModel) when the file names none.
#[cfg(feature = "encoder")]
pub(crate) fn markers(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<[u32; 2]> {
    // The format itself misspells the second.
    let known: [(&[&str], &str); 2] = [
        (&["cls", "bos"], "[CLS]"),
        (&["seperator", "separator", "eos"], "[SEP]"),
    ];
    let mut markers = [0; 2];
    for (marker, (keys, text)) in markers.iter_mut().zip(known) {
        let mut found = None;
        for key in keys {
            found = found.or(special_id(gguf, key, tokenizer.len())?);
        }
        *marker = found.or_else(|| tokenizer.token_id(text)).ok_or_else(|| {
            Error::invalid_model(format!(
                "the file names no token for {text}: tokenizer.ggml.{}_token_id is missing",
                keys[0]
            ))
        })?;
    }
    Ok(markers)
}

/// The error of the format crate names key and types; here it becomes the engine's.
fn optional<T>(value: Result<Option<T>, meetara_format::Error>) -> Result<Option<T>> {
    value.map_err(|error| Error::invalid_model(error.to_string()))
}

fn required<T>(value: Result<Option<T>, meetara_format::Error>, key: &str) -> Result<T> {
    optional(value)?.ok_or_else(|| {
        Error::invalid_model(format!(
            "{key} is missing; export the model again with its tokenizer"
        ))
    })
}

fn same_len(what: &str, found: usize, tokens: usize) -> Result<()> {
    if found == tokens {
        return Ok(());
    }
    Err(Error::invalid_model(format!(
        "tokenizer.ggml.{what} has {found} entries, tokenizer.ggml.tokens {tokens}; they must be as many"
    )))
}

/// The kind of each of `n_tokens` tokens; all are normal when the file does not say.
fn kinds(gguf: &Gguf, n_tokens: usize) -> Result<Vec<Kind>> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let kind = |(id, number): (usize, i64)| {
        Kind::from_id(number).ok_or_else(|| {
            Error::invalid_model(format!(
                "{KEY}[{id}] is {number}, which is no type of token (0 to 6)"
            ))
        })
    };
    match gguf.get(KEY) {
        None => Ok(vec![Kind::Normal; n_tokens]),
        // Some writers use unsigned numbers.
        Some(Value::Array(Array::U32(numbers))) => {
            same_len("token_type", numbers.len(), n_tokens)?;
            numbers
                .iter()
                .map(|&number| i64::from(number))
                .enumerate()
                .map(kind)
                .collect()
        }
        Some(_) => {
            let numbers = required(gguf.get_i32_array(KEY), KEY)?;
            same_len("token_type", numbers.len(), n_tokens)?;
            numbers
                .iter()
                .map(|&number| i64::from(number))
                .enumerate()
                .map(kind)
                .collect()
        }
    }
}

/// The id at `tokenizer.ggml.<name>_token_id`. Some writers mean "none" by -1.
fn special_id(gguf: &Gguf, name: &str, n_tokens: usize) -> Result<Option<u32>> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    if matches!(
        gguf.get(&key),
        Some(Value::I32(-1) | Value::I64(-1) | Value::U32(u32::MAX))
    ) {
        return Ok(None);
    }
    match optional(gguf.get_u32(&key))? {
        Some(id) if id as usize >= n_tokens => Err(Error::invalid_model(format!(
            "{key} is {id}, but there are only {n_tokens} tokens"
        ))),
        id => Ok(id),
    }
}

/// The tokens of `kinds`, to be looked for in texts.
fn special_set(vocab: &Vocab, kinds: &[Kind]) -> Result<SpecialSet> {
    let is_special = |id: &u32| vocab.kind(*id).is_some_and(|kind| kinds.contains(&kind));
    let ids: Vec<u32> = (0..vocab.len() as u32).filter(is_special).collect();
    if let Some(id) = ids
        .iter()
        .find(|&&id| vocab.text(id).len() > SPECIAL_BYTES_MAX)
    {
        return Err(Error::invalid_model(format!(
            "token {id} is a special token of {} bytes; at most {SPECIAL_BYTES_MAX} are allowed",
            vocab.text(*id).len()
        )));
    }
    Ok(SpecialSet::new(ids, |id| vocab.text(id)))
}
