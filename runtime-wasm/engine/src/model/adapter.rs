//! A LoRA adapter: a GGUF file of pairs of thin matrices over one base.
//!
//! ```text
//! general.type = "adapter"    adapter.type = "lora"    adapter.lora.alpha
//! X.weight.lora_a   [n_in, rank]      A, row after row
//! X.weight.lora_b   [rank, n_out]     B, row after row
//! ```
//!
//! with `X.weight` a matrix of the base: `W + scale * alpha / rank * B A` takes
//! the place of `W` (an alpha of 0 means `scale` alone). The format is
//! llama.cpp's. [`BASE_KEY`] is ours and optional.

use std::sync::{Arc, Weak};

use meetara_format::{Gguf, TensorInfo};

use super::Model;
use crate::error::{Error, Result};
use crate::nn::lora::{Pair, Pairs};
use crate::nn::memory;

/// The key under which our trainer writes [`base_hash`] of the adapter's base.
pub const BASE_KEY: &str = "meetara.base.norms_fnv1a64";

/// A loaded adapter. A clone shares its weights.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub(crate) pairs: Pairs,
    /// The one model that it fits; compared by address.
    base: Weak<Model>,
    rank: usize,
}

impl Adapter {
    /// Reads the adapter file `bytes`, made for `model`. Weights are kept as
    /// `f32`, and `bytes` are not needed afterwards.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidModel`](crate::ErrorKind::InvalidModel) for a file that is damaged or no
    /// adapter, [`ErrorKind::UnsupportedModel`](crate::ErrorKind::UnsupportedModel) for one that was
    /// made for another base or changes what only a base can,
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory). Each names the key or the tensor.
    pub fn load(model: &Arc<Model>, bytes: &[u8]) -> Result<Self> {
        let gguf = Gguf::parse(bytes, bytes.len() as u64)?;
        let alpha = check_head(model, &gguf)?;
        let base = model.gguf();
        let mut pairs = Vec::new();
        pairs.resize_with(base.tensors.len(), || None);
        let (mut rank_max, mut count) = (0, 0);
        for a in &gguf.tensors {
            let Some(name) = a.name.strip_suffix(".lora_a") else {
                // Its pair is looked for at the other half.
                if a.name.ends_with(".lora_b") {
                    continue;
                }
                return Err(Error::unsupported_model(format!(
                    "the adapter's tensor {} is neither .lora_a nor .lora_b of a weight; norms and embeddings cannot be adapted here",
                    a.name
                )));
            };
            let index = base.tensors.iter().position(|tensor| tensor.name == name);
            let index = index.ok_or_else(|| {
                another_base(format!("has a pair for {name}, which the base lacks"))
            })?;
            let b = gguf.tensor(&format!("{name}.lora_b")).ok_or_else(|| {
                Error::invalid_model(format!("the adapter has {} but no .lora_b for it", a.name))
            })?;
            let pair = pair(&gguf, bytes, &base.tensors[index], a, b, alpha)?;
            rank_max = rank_max.max(pair.rank());
            count += 1;
            pairs[index] = Some(pair);
        }
        if count == 0 || 2 * count != gguf.tensors.len() {
            return Err(Error::invalid_model(format!(
                "the adapter has {} tensors, of which {count} are .lora_a; it needs one .lora_b for each",
                gguf.tensors.len()
            )));
        }
        Ok(Self {
            pairs: pairs.into(),
            base: Arc::downgrade(model),
            rank: rank_max,
        })
    }

    /// Whether it was loaded for `model`.
    pub(crate) fn fits(&self, model: &Arc<Model>) -> bool {
        std::ptr::eq(self.base.as_ptr(), Arc::as_ptr(model))
    }

    /// The largest rank of its pairs.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Bytes that its weights take while it is loaded.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let weights = |pair: &Pair| 4 * (pair.a.len() + pair.b.len());
        size_of_val(&*self.pairs) + self.pairs.iter().flatten().map(weights).sum::<usize>()
    }
}

/// A number that one base has in every quantisation of it, and another base
/// hardly: the sum over its norms, which all files keep in F32, of FNV-1a
/// (64 bits) over name and bytes. `file` is the file that `gguf` heads.
///
/// # Errors
/// Those of [`Gguf::tensor_data`].
pub fn base_hash(gguf: &Gguf, file: &[u8]) -> Result<u64> {
    let norms = gguf.tensors.iter();
    norms
        .filter(|tensor| tensor.name.ends_with("_norm.weight"))
        .try_fold(0_u64, |sum, tensor| {
            let bytes = tensor.name.bytes();
            let bytes = bytes.chain(gguf.tensor_data(tensor, file)?.iter().copied());
            let hash = bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
            });
            Ok(sum.wrapping_add(hash))
        })
}

fn another_base(what: String) -> Error {
    Error::unsupported_model(format!(
        "the adapter {what}: it was made for another base; use it with its own"
    ))
}

/// Checks the metadata and returns alpha.
fn check_head(model: &Model, gguf: &Gguf) -> Result<f32> {
    for (key, wanted) in [("general.type", "adapter"), ("adapter.type", "lora")] {
        let found = gguf.get_str(key)?;
        if found != Some(wanted) {
            return Err(Error::invalid_model(format!(
                "{key} is {found:?}, a LoRA adapter has {wanted:?}"
            )));
        }
    }
    let (ours, theirs) = (
        model.config().architecture.as_str(),
        gguf.get_str("general.architecture")?.unwrap_or_default(),
    );
    if theirs != ours {
        return Err(another_base(format!(
            "is for the architecture {theirs:?}, the base is {ours:?}"
        )));
    }
    if gguf.get("adapter.alora.invocation_tokens").is_some() {
        return Err(Error::unsupported_model(
            "adapter.alora.invocation_tokens asks for an adapter that begins in the middle of a prompt, which is not supported",
        ));
    }
    if let Some(wanted) = gguf.get_u64(BASE_KEY)?
        && wanted != base_hash(model.gguf(), model.file())?
    {
        let named = gguf.get_str("general.base_model.0.name")?;
        return Err(another_base(format!(
            "is for a base {:?} whose norms are others than those of {:?} ({BASE_KEY})",
            named.unwrap_or_default(),
            model.config().name
        )));
    }
    let alpha = gguf.get_f32("adapter.lora.alpha")?.unwrap_or(0.0);
    if !alpha.is_finite() {
        return Err(Error::invalid_model(format!(
            "adapter.lora.alpha is {alpha}, it must be a number"
        )));
    }
    Ok(alpha)
}

/// The pair `a`, `b` for the matrix `weight` of the base.
fn pair(
    gguf: &Gguf,
    file: &[u8],
    weight: &TensorInfo,
    a: &TensorInfo,
    b: &TensorInfo,
    alpha: f32,
) -> Result<Pair> {
    let [n_in, n_out, ..] = weight.dims;
    let rank = a.dims[1];
    if weight.name == "token_embd.weight" || weight.shape().len() != 2 {
        return Err(Error::unsupported_model(format!(
            "the adapter changes {}, but only matrices other than the embedding can be adapted",
            weight.name
        )));
    }
    if rank == 0 || a.dims != [n_in, rank, 1, 1] || b.dims != [rank, n_out, 1, 1] {
        return Err(another_base(format!(
            "has {} of shape {:?} with .lora_b of {:?}, which are no pair for the base's [{n_in}, {n_out}]",
            a.name,
            a.shape(),
            b.shape()
        )));
    }
    // Counts that the base and the file have, so they fit this machine's addresses.
    let (n_in, n_out, rank) = (n_in as usize, n_out as usize, rank as usize);
    let read = |tensor: &TensorInfo| {
        let bytes = gguf.tensor_data(tensor, file)?;
        let values = meetara_format::dequantize(tensor.ty, bytes, tensor.elements() as usize)?;
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(Error::invalid_model(format!(
                "the adapter's tensor {} holds infinity or NaN",
                tensor.name
            )))
        }
    };
    let rows = read(b)?;
    let mut columns = memory::zeroed(rows.len(), "an adapter")?;
    for (i, row) in rows.chunks_exact(rank).enumerate() {
        for (t, &value) in row.iter().enumerate() {
            columns[t * n_out + i] = value;
        }
    }
    Ok(Pair {
        n_in,
        n_out,
        scale: if alpha == 0.0 {
            1.0
        } else {
            alpha / rank as f32
        },
        a: read(a)?,
        b: columns,
    })
}
