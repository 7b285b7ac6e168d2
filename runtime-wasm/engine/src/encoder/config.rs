//! The numbers that describe an encoder, read from a file's metadata and checked.

use meetara_format::Gguf;

use crate::error::{Error, Result};

/// No encoder has more layers; a larger number is a damaged file.
const LAYERS_MAX: u32 = 256;
/// No vector of an encoder is longer; a larger number is a damaged file.
const WIDTH_MAX: u32 = 1 << 16;
/// No encoder of this kind has more learned positions.
const CONTEXT_MAX: u32 = 1 << 16;

/// Which rows the embedding of a text is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all tokens, the markers at both ends included.
    Mean,
    /// The row of the first token, `[CLS]` or `<s>`.
    First,
}

/// A BERT-shaped encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    /// `general.name`, or "bert" where the file has no name.
    pub name: String,
    /// Layers.
    pub n_layer: usize,
    /// Width of a token's vector.
    pub n_embd: usize,
    /// Heads of attention; divides `n_embd`.
    pub n_head: usize,
    /// Width of the feed-forward part.
    pub n_ff: usize,
    /// Rows of the embedding.
    pub n_vocab: usize,
    /// Rows of the position embedding.
    pub context_len: usize,
    /// Added to the variance in every norm.
    pub norm_eps: f32,
    /// What an embedding is.
    pub pooling: Pooling,
}

impl EncoderConfig {
    /// Reads and checks the metadata of a file. `n_vocab` comes from the
    /// embedding's shape.
    pub(super) fn from_gguf(gguf: &Gguf, n_vocab: usize) -> Result<Self> {
        let key = |name: &str| format!("bert.{name}");
        let size = |name: &str, max: u32| {
            let key = key(name);
            match gguf.get_u32(&key)? {
                Some(value) if (1..=max).contains(&value) => Ok(value as usize),
                Some(value) => Err(Error::invalid_model(format!(
                    "{key} is {value}, it must lie between 1 and {max}"
                ))),
                None => Err(Error::invalid_model(format!(
                    "the key {key} is missing from the file's metadata"
                ))),
            }
        };
        if gguf.get_bool(&key("attention.causal"))? == Some(true) {
            return Err(Error::unsupported_model(
                "bert.attention.causal is true; an encoder here looks both ways",
            ));
        }
        let n_embd = size("embedding_length", WIDTH_MAX)?;
        let n_head = size("attention.head_count", WIDTH_MAX)?;
        if !n_embd.is_multiple_of(n_head) {
            return Err(Error::invalid_model(format!(
                "bert.embedding_length {n_embd} is no multiple of {n_head} heads"
            )));
        }
        let eps_key = key("attention.layer_norm_epsilon");
        let norm_eps = gguf.get_f32(&eps_key)?.unwrap_or(1e-12);
        if !(norm_eps.is_finite() && norm_eps >= 0.0) {
            return Err(Error::invalid_model(format!(
                "{eps_key} is {norm_eps}, it must be 0 or more"
            )));
        }
        // llama.cpp's numbers: none, mean, the first token.
        let pooling = match gguf.get_u32(&key("pooling_type"))? {
            None | Some(0 | 1) => Pooling::Mean,
            Some(2) => Pooling::First,
            Some(other) => {
                return Err(Error::unsupported_model(format!(
                    "bert.pooling_type is {other}; 1 (mean) and 2 (first token) are supported"
                )));
            }
        };
        let name = gguf
            .get_str("general.name")?
            .filter(|name| !name.is_empty());
        Ok(Self {
            name: name.unwrap_or("bert").to_owned(),
            n_layer: size("block_count", LAYERS_MAX)?,
            n_embd,
            n_head,
            n_ff: size("feed_forward_length", WIDTH_MAX)?,
            n_vocab,
            context_len: size("context_length", CONTEXT_MAX)?,
            norm_eps,
            pooling,
        })
    }
}
