//! The numbers that describe a model, read from a file's metadata and checked.

use meetara_format::{Gguf, Value};

use crate::error::{Error, Result};

/// No model of this kind has more layers; a larger number is a damaged file.
const LAYERS_MAX: u32 = 1024;
/// No vector of such a model is longer; a larger number is a damaged file.
const WIDTH_MAX: u32 = 1 << 20;
/// Positions beyond this cannot be told apart by the rotation in `f32`.
const CONTEXT_MAX: u32 = 1 << 24;

/// A llama-shaped decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `general.name`, or `general.architecture` where the file has no name.
    pub name: String,
    /// `general.architecture`.
    pub architecture: String,
    /// Layers.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads; divides `n_head`.
    pub n_head_kv: usize,
    /// Elements in a head, even.
    pub head_dim: usize,
    /// Width of the feed-forward part.
    pub n_ff: usize,
    /// Rows of the embedding, and so logits.
    pub n_vocab: usize,
    /// Positions the model was trained for.
    pub context_len: usize,
    /// Added to the mean square in every norm.
    pub rms_eps: f32,
    /// The base of the rotation's geometric series.
    pub rope_freq_base: f32,
    /// Positions are divided by this (linear scaling); 1 means no scaling.
    pub rope_scale: f32,
}

impl Config {
    /// Reads and checks the metadata of a llama file. `n_vocab` comes from the
    /// embedding's shape.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedModel`](crate::ErrorKind::UnsupportedModel) for another architecture or
    /// an extension that is not implemented, [`ErrorKind::InvalidModel`](crate::ErrorKind::InvalidModel)
    /// for a key that is missing or out of its range. Both name the key.
    pub(crate) fn from_gguf(gguf: &Gguf, n_vocab: usize) -> Result<Self> {
        let architecture = required(
            gguf.get_str("general.architecture")?,
            "general.architecture",
        )?;
        if architecture != "llama" {
            return Err(Error::unsupported_model(format!(
                "the file's architecture is {architecture:?}; this engine runs \"llama\" files"
            )));
        }
        let key = |name: &str| format!("{architecture}.{name}");
        let number = |name: &str| -> Result<Option<u32>> {
            let key = key(name);
            // Some files give one number for each layer; equal ones mean the same.
            match gguf.get(&key) {
                Some(Value::Array(_)) => {
                    let each = gguf.get_i32_array(&key)?.unwrap_or(&[]);
                    match each {
                        [first, rest @ ..] if rest.iter().all(|n| n == first) => {
                            Ok(u32::try_from(*first).ok())
                        }
                        _ => Err(Error::unsupported_model(format!(
                            "{key} differs from layer to layer, which is not supported"
                        ))),
                    }
                }
                _ => Ok(gguf.get_u32(&key)?),
            }
        };
        let size = |name: &str, value: u32, max: u32| {
            if value >= 1 && value <= max {
                Ok(value as usize)
            } else {
                Err(Error::invalid_model(format!(
                    "{} is {value}, it must lie between 1 and {max}",
                    key(name)
                )))
            }
        };
        let required_size = |name: &str, max: u32| {
            let value = required(number(name)?, &key(name))?;
            size(name, value, max)
        };

        if number("expert_count")?.unwrap_or(0) > 0 {
            return Err(Error::unsupported_model(
                "the model is a mixture of experts, which is not supported; use a dense llama model",
            ));
        }
        let n_embd = required_size("embedding_length", WIDTH_MAX)?;
        let n_head = required_size("attention.head_count", WIDTH_MAX)?;
        let n_head_kv = match number("attention.head_count_kv")? {
            Some(n) => size("attention.head_count_kv", n, WIDTH_MAX)?,
            None => n_head,
        };
        if !n_head.is_multiple_of(n_head_kv) {
            return Err(Error::invalid_model(format!(
                "{n_head} heads cannot share {n_head_kv} key and value heads evenly"
            )));
        }
        let head_dim = match number("attention.key_length")? {
            Some(n) => size("attention.key_length", n, WIDTH_MAX)?,
            None if n_embd.is_multiple_of(n_head) => n_embd / n_head,
            None => {
                return Err(Error::invalid_model(format!(
                    "{} {n_embd} is no multiple of {n_head} heads, and {} is missing",
                    key("embedding_length"),
                    key("attention.key_length")
                )));
            }
        };
        if n_head.saturating_mul(head_dim) > WIDTH_MAX as usize {
            return Err(Error::invalid_model(format!(
                "{n_head} heads of {head_dim} elements make a vector longer than {WIDTH_MAX}"
            )));
        }
        for name in ["attention.value_length", "rope.dimension_count"] {
            if let Some(n) = number(name)?
                && n as usize != head_dim
            {
                return Err(Error::unsupported_model(format!(
                    "{} is {n}, but heads have {head_dim} elements; the two must be equal here",
                    key(name)
                )));
            }
        }
        let rms_eps = required(
            gguf.get_f32(&key("attention.layer_norm_rms_epsilon"))?,
            &key("attention.layer_norm_rms_epsilon"),
        )?;
        if !(rms_eps.is_finite() && rms_eps >= 0.0) {
            return Err(Error::invalid_model(format!(
                "{} is {rms_eps}, it must be 0 or more",
                key("attention.layer_norm_rms_epsilon")
            )));
        }
        let name = gguf
            .get_str("general.name")?
            .filter(|name| !name.is_empty());
        Ok(Self {
            name: name.unwrap_or(architecture).to_owned(),
            architecture: architecture.to_owned(),
            n_layer: required_size("block_count", LAYERS_MAX)?,
            n_embd,
            n_head,
            n_head_kv,
            head_dim,
            n_ff: required_size("feed_forward_length", WIDTH_MAX)?,
            n_vocab,
            context_len: required_size("context_length", CONTEXT_MAX)?,
            rms_eps,
            rope_freq_base: gguf.get_f32(&key("rope.freq_base"))?.unwrap_or(10_000.0),
            rope_scale: rope_scale(gguf, architecture)?,
        })
    }

    /// Width of the keys, and of the values: `n_head_kv * head_dim`.
    #[must_use]
    pub fn n_embd_kv(&self) -> usize {
        self.n_head_kv * self.head_dim
    }

    /// Width of the queries: `n_head * head_dim`.
    #[must_use]
    pub fn n_embd_q(&self) -> usize {
        self.n_head * self.head_dim
    }
}

/// The divisor of positions: scaling types other than linear are errors.
fn rope_scale(gguf: &Gguf, architecture: &str) -> Result<f32> {
    let key = |name: &str| format!("{architecture}.rope.{name}");
    let factor = match gguf.get_f32(&key("scaling.factor"))? {
        Some(factor) => Some(factor),
        None => gguf.get_f32(&key("scale_linear"))?,
    };
    match gguf.get_str(&key("scaling.type"))? {
        Some("none") => Ok(1.0),
        // Older files give the factor alone; 0 there means that there is none.
        None | Some("linear") => Ok(factor.filter(|&factor| factor != 0.0).unwrap_or(1.0)),
        Some(other) => Err(Error::unsupported_model(format!(
            "{} is {other:?}; \"none\" and \"linear\" are supported",
            key("scaling.type")
        ))),
    }
}

fn required<T>(value: Option<T>, key: &str) -> Result<T> {
    value.ok_or_else(|| {
        Error::invalid_model(format!("the key {key} is missing from the file's metadata"))
    })
}
