//! The numbers that describe a model, read from a file's metadata and checked.

use meetara_format::{Gguf, Value};

use crate::error::{Error, Result};
use crate::nn::rope::{Pairing, RopeParams, Yarn};

/// No model of this kind has more layers; a larger number is a damaged file.
const LAYERS_MAX: u32 = 1024;
/// No vector of such a model is longer; a larger number is a damaged file.
const WIDTH_MAX: u32 = 1 << 20;
/// Positions beyond this cannot be told apart by the rotation in `f32`.
const CONTEXT_MAX: u32 = 1 << 24;

/// The architectures that this engine runs: llama and its kin, which differ in
/// the pairs that they rotate, and in a norm of each query and key.
const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];

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
    /// The rotation of queries and keys.
    pub rope: RopeParams,
    /// Whether each head's query and key is normed before it is rotated.
    pub qk_norm: bool,
}

/// `general.architecture`.
///
/// # Errors
/// [`ErrorKind::UnsupportedModel`](crate::ErrorKind::UnsupportedModel) names one that this engine does
/// not run, [`ErrorKind::InvalidModel`](crate::ErrorKind::InvalidModel) says that there is none.
pub(crate) fn architecture(gguf: &Gguf) -> Result<&str> {
    let key = "general.architecture";
    let architecture = required(gguf.get_str(key)?, key)?;
    if ARCHITECTURES.contains(&architecture) {
        return Ok(architecture);
    }
    let hint = match architecture {
        "bert" => "; it is an encoder, which is loaded as one, not as a chat model",
        _ => "",
    };
    Err(Error::unsupported_model(format!(
        "the file's architecture is {architecture:?}; this engine runs {ARCHITECTURES:?} files{hint}"
    )))
}

impl Config {
    /// Reads and checks the metadata of a file. `n_vocab` comes from the
    /// embedding's shape.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedModel`](crate::ErrorKind::UnsupportedModel) for another architecture or
    /// an extension that is not implemented, [`ErrorKind::InvalidModel`](crate::ErrorKind::InvalidModel)
    /// for a key that is missing or out of its range. Both name the key.
    pub(crate) fn from_gguf(gguf: &Gguf, n_vocab: usize) -> Result<Self> {
        let architecture = architecture(gguf)?;
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
                "the model is a mixture of experts, which is not supported; use a dense model",
            ));
        }
        if gguf.get_bool(&key("attention.causal"))? == Some(false) {
            return Err(Error::unsupported_model(format!(
                "{} is false; this engine runs models that look back only",
                key("attention.causal")
            )));
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
        let context_len = required_size("context_length", CONTEXT_MAX)?;
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
            context_len,
            rms_eps,
            rope: rope(gguf, architecture, head_dim, context_len)?,
            qk_norm: architecture == "qwen3",
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

/// The rotation: scaling types other than linear and YaRN are errors.
fn rope(
    gguf: &Gguf,
    architecture: &str,
    head_dim: usize,
    context_len: usize,
) -> Result<RopeParams> {
    let key = |name: &str| format!("{architecture}.rope.{name}");
    let number = |name: &str| gguf.get_f32(&key(name));
    let factor = match number("scaling.factor")? {
        Some(factor) => Some(factor),
        None => number("scale_linear")?,
    };
    let ty = gguf.get_str(&key("scaling.type"))?.unwrap_or("linear");
    let scale = match ty {
        "none" => 1.0,
        // Older files give the factor alone; 0 there means that there is none.
        "linear" | "yarn" => factor.filter(|&factor| factor != 0.0).unwrap_or(1.0),
        other => {
            return Err(Error::unsupported_model(format!(
                "{} is {other:?}; \"none\", \"linear\" and \"yarn\" are supported",
                key("scaling.type")
            )));
        }
    };
    // Below 0 these are not set.
    for (name, plain) in [
        ("scaling.yarn_ext_factor", 1.0),
        ("scaling.yarn_attn_factor", 1.0),
        ("scaling.yarn_log_multiplier", 0.0),
    ] {
        if let Some(value) = number(name)?
            && ty == "yarn"
            && value >= 0.0
            && value != plain
        {
            return Err(Error::unsupported_model(format!(
                "{} is {value}; only {plain} is supported",
                key(name)
            )));
        }
    }
    let original_len = gguf.get_u32(&key("scaling.original_context_length"))?;
    let yarn = Yarn {
        original_len: original_len
            .filter(|&len| len > 0)
            .unwrap_or(context_len as u32),
        beta_fast: number("scaling.yarn_beta_fast")?.unwrap_or(32.0),
        beta_slow: number("scaling.yarn_beta_slow")?.unwrap_or(1.0),
    };
    Ok(RopeParams {
        head_dim,
        pairing: match architecture {
            "llama" => Pairing::Adjacent,
            _ => Pairing::Halves,
        },
        freq_base: number("freq_base")?.unwrap_or(10_000.0),
        scale,
        yarn: (ty == "yarn").then_some(yarn),
        attn_factor: number("scaling.attn_factor")?.unwrap_or(1.0),
    })
}

fn required<T>(value: Option<T>, key: &str) -> Result<T> {
    value.ok_or_else(|| {
        Error::invalid_model(format!("the key {key} is missing from the file's metadata"))
    })
}
