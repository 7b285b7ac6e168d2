//! The decoder of llama (Touvron et al., 2023), Qwen 2 and Qwen 3: weights, and
//! one forward pass.
//!
//! ```text
//! x = embedding of each token                                  (C, n_embd)
//! each layer
//!   q, k, v = linear(norm(x))                                  (C, heads * head_dim)
//!   q, k = norm of each head's      Qwen 3 only
//!   rotate q, k; store k, v         adjacent pairs or halves
//!   x += linear(attention(q, all k and v so far))
//!   x += linear(silu(linear(norm(x))) * linear(norm(x)))       (C, n_ff) inside
//! logits = output(norm(x))          where asked for            (n_vocab)
//! ```
//!
//! Only some columns are asked for, of a prompt the last one. The others need no more of the last
//! layer than their keys and values.

use std::ops::Range;
use std::sync::Arc;

use super::config::Config;
use super::tensors::Tensors;
use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::nn::attention::{Attention, Shape};
use crate::nn::kv_cache::{KvCache, Side};
use crate::nn::linear::{Input, Linear, Matrix, QuantStore};
use crate::nn::lora::Mix;
use crate::nn::norm::RmsNorm;
use crate::nn::pool::Pool;
use crate::nn::rope::Rope;
use crate::nn::{COLUMNS_MAX, add, memory};
use crate::profile::Profile;

/// One decoder layer.
#[derive(Debug)]
struct Layer {
    attn_norm: RmsNorm,
    attn_q: Linear,
    attn_k: Linear,
    attn_v: Linear,
    /// Of each head's query, then of each head's key: (head_dim)
    qk_norm: Option<[RmsNorm; 2]>,
    attn_output: Linear,
    ffn_norm: RmsNorm,
    ffn_gate: Linear,
    ffn_up: Linear,
    ffn_down: Linear,
}

/// The weights of a model: where they lie in the file, and the few that
/// are held as `f32` (norms, biases).
#[derive(Debug)]
pub(crate) struct Llama {
    token_embd: Matrix,
    layers: Vec<Layer>,
    output_norm: RmsNorm,
    /// `None`: tied, the embedding is the output matrix.
    output: Option<Linear>,
    rope: Rope,
}

impl Llama {
    /// Finds and checks every tensor that `config` asks for.
    ///
    /// # Errors
    /// Names the tensor that is missing, of another shape, of a type without
    /// kernels, or no part of such a model.
    pub(crate) fn load(tensors: &mut Tensors<'_>, config: &Config) -> Result<Self> {
        let Config {
            n_embd,
            n_ff,
            n_vocab,
            rms_eps,
            ..
        } = *config;
        let (n_q, n_kv) = (config.n_embd_q(), config.n_embd_kv());
        let token_embd = tensors.matrix("token_embd.weight", n_embd, n_vocab)?;
        let factors = tensors.optional_vector("rope_freqs.weight", config.head_dim / 2)?;
        let rope = Rope::new(&config.rope, factors.as_deref())?;
        let layers = (0..config.n_layer)
            .map(|n| {
                let name = |part: &str| format!("blk.{n}.{part}");
                let mut head_norm =
                    |part: &str| tensors.norm(&name(part), config.head_dim, rms_eps);
                let qk_norm = if config.qk_norm {
                    Some([
                        head_norm("attn_q_norm.weight")?,
                        head_norm("attn_k_norm.weight")?,
                    ])
                } else {
                    None
                };
                Ok(Layer {
                    qk_norm,
                    attn_norm: tensors.norm(&name("attn_norm.weight"), n_embd, rms_eps)?,
                    attn_q: tensors.linear(&name("attn_q"), n_embd, n_q)?,
                    attn_k: tensors.linear(&name("attn_k"), n_embd, n_kv)?,
                    attn_v: tensors.linear(&name("attn_v"), n_embd, n_kv)?,
                    attn_output: tensors.linear(&name("attn_output"), n_q, n_embd)?,
                    ffn_norm: tensors.norm(&name("ffn_norm.weight"), n_embd, rms_eps)?,
                    ffn_gate: tensors.linear(&name("ffn_gate"), n_embd, n_ff)?,
                    ffn_up: tensors.linear(&name("ffn_up"), n_embd, n_ff)?,
                    ffn_down: tensors.linear(&name("ffn_down"), n_ff, n_embd)?,
                })
            })
            .collect::<Result<_>>()?;
        let output_norm = tensors.norm("output_norm.weight", n_embd, rms_eps)?;
        let output = tensors.optional_linear("output", n_embd, n_vocab)?;
        tensors.all_taken(&config.architecture)?;
        Ok(Self {
            token_embd,
            layers,
            output_norm,
            output,
            rope,
        })
    }

    pub(crate) fn rope(&self) -> &Rope {
        &self.rope
    }

    /// Brings the weights in `file` into the order that the kernels take.
    ///
    /// # Errors
    /// Names the first block whose scale is no finite number.
    pub(crate) fn weave(&mut self, file: &mut [u8]) -> Result<()> {
        self.token_embd.weave(file)?;
        if let Some(output) = &mut self.output {
            output.weight.weave(file)?;
        }
        for layer in &mut self.layers {
            for linear in [
                &mut layer.attn_q,
                &mut layer.attn_k,
                &mut layer.attn_v,
                &mut layer.attn_output,
                &mut layer.ffn_gate,
                &mut layer.ffn_up,
                &mut layer.ffn_down,
            ] {
                linear.weight.weave(file)?;
            }
        }
        Ok(())
    }

    /// Evaluates `tokens`, at most [`COLUMNS_MAX`], at positions `first..`,
    /// after which `cache` holds their keys and values. Logits come from
    /// [`Self::logits`], of the last `outputs` tokens only.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) for an id outside the vocabulary,
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) when a page of the cache cannot be had.
    #[expect(
        clippy::too_many_arguments,
        reason = "a range of tokens, and where all is"
    )]
    pub(crate) fn forward(
        &self,
        kernels: &Kernels,
        file: &[u8],
        tokens: &[u32],
        first: usize,
        outputs: usize,
        cache: &mut KvCache,
        scratch: &mut Scratch,
    ) -> Result<()> {
        assert!(!tokens.is_empty() && tokens.len() <= COLUMNS_MAX && outputs <= tokens.len());
        let n_vocab = self.token_embd.n_out;
        if let Some(id) = tokens.iter().find(|&&id| id as usize >= n_vocab) {
            return Err(Error::invalid_request(format!(
                "token {id} is outside the vocabulary of {n_vocab}"
            )));
        }
        cache.reserve(first + tokens.len())?;
        scratch.outputs = tokens.len() - outputs..tokens.len();
        let Scratch {
            widths: w,
            x,
            narrow,
            wide,
            cos,
            sin,
            store,
            attention,
            outputs,
            profile,
        } = scratch;
        profile.begin();
        let columns = tokens.len();
        let x = &mut x[..columns * w.n_embd];
        for (&id, x) in tokens.iter().zip(x.chunks_exact_mut(w.n_embd)) {
            self.token_embd.dequantize_row(file, id as usize, x);
        }
        let angles = cos
            .chunks_exact_mut(w.head_dim)
            .zip(sin.chunks_exact_mut(w.head_dim));
        for (position, (cos, sin)) in (first..first + columns).zip(angles) {
            self.rope.fill(position, cos, sin);
        }
        profile.mark("embedding");

        for (index, layer) in self.layers.iter().enumerate() {
            // Columns before it end with their keys and values.
            let from = if index + 1 == self.layers.len() {
                outputs.start
            } else {
                0
            };
            let live = columns - from;
            let normed = &mut narrow[..columns * w.n_embd];
            layer.attn_norm.forward(kernels, x, normed);
            profile.mark("norm");
            let (q, rest) = wide.split_at_mut(live * w.n_q);
            let (k, rest) = rest.split_at_mut(columns * w.n_kv);
            let v = &mut rest[..columns * w.n_kv];
            if from > 0 && live > 0 {
                let mut input = Input::new(&normed[from * w.n_embd..], w.n_embd, store);
                layer.attn_q.forward(kernels, file, &mut input, q);
            }
            let mut input = Input::new(normed, w.n_embd, store);
            if from == 0 {
                layer.attn_q.forward(kernels, file, &mut input, q);
            }
            layer.attn_k.forward(kernels, file, &mut input, k);
            profile.mark_product("attn_q, attn_k", layer.attn_q.weight.ty);
            layer.attn_v.forward(kernels, file, &mut input, v);
            profile.mark_product("attn_v", layer.attn_v.weight.ty);
            if let Some(norms) = &layer.qk_norm {
                for (norm, x) in norms.iter().zip([&mut *q, &mut *k]) {
                    let normed = &mut narrow[..x.len()];
                    norm.forward(kernels, x, normed);
                    x.copy_from_slice(normed);
                }
            }
            for (x, width, from) in [(&mut *q, w.n_q, from), (&mut *k, w.n_kv, 0)] {
                let angles = cos
                    .chunks_exact(w.head_dim)
                    .zip(sin.chunks_exact(w.head_dim));
                for (x, (cos, sin)) in x.chunks_exact_mut(width).zip(angles.skip(from)) {
                    self.rope.rotate(kernels, x, cos, sin);
                }
            }
            profile.mark("rope");
            cache.store(kernels, index, Side::Key, first, k);
            cache.store(kernels, index, Side::Value, first, v);
            profile.mark("kv_store");
            if live == 0 {
                break;
            }
            let x = &mut x[from * w.n_embd..];
            let attended = &mut narrow[..live * w.n_q];
            attention.forward(kernels, cache, index, first + from, q, attended);
            profile.mark("attention");
            let projected = &mut wide[..live * w.n_embd];
            let mut input = Input::new(attended, w.n_q, store);
            layer
                .attn_output
                .forward(kernels, file, &mut input, projected);
            profile.mark_product("attn_output", layer.attn_output.weight.ty);
            add(x, projected);

            let normed = &mut narrow[..live * w.n_embd];
            layer.ffn_norm.forward(kernels, x, normed);
            profile.mark("norm");
            let (gate, rest) = wide.split_at_mut(live * w.n_ff);
            let up = &mut rest[..live * w.n_ff];
            let mut input = Input::new(normed, w.n_embd, store);
            layer.ffn_gate.forward(kernels, file, &mut input, gate);
            layer.ffn_up.forward(kernels, file, &mut input, up);
            profile.mark_product("ffn_gate, ffn_up", layer.ffn_gate.weight.ty);
            (kernels.silu_mul)(gate, up);
            profile.mark("silu");
            let projected = &mut narrow[..live * w.n_embd];
            let mut input = Input::new(gate, w.n_ff, store);
            layer.ffn_down.forward(kernels, file, &mut input, projected);
            profile.mark_product("ffn_down", layer.ffn_down.weight.ty);
            add(x, projected);
        }
        Ok(())
    }

    /// The hidden states of the first `columns` of the last [`Self::forward`], all of them outputs,
    /// after the output norm: (columns, n_embd).
    pub(crate) fn hidden<'a>(
        &self,
        kernels: &Kernels,
        columns: usize,
        scratch: &'a mut Scratch,
    ) -> &'a [f32] {
        assert!(scratch.outputs.start == 0 && columns <= scratch.outputs.end);
        let len = columns * scratch.widths.n_embd;
        let normed = &mut scratch.narrow[..len];
        self.output_norm.forward(kernels, &scratch.x[..len], normed);
        normed
    }

    /// The logits of columns `first..first + count` of the last
    /// [`Self::forward`], all of them outputs: `out` is (count, n_vocab).
    pub(crate) fn logits(
        &self,
        kernels: &Kernels,
        file: &[u8],
        first: usize,
        count: usize,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        assert!(scratch.outputs.start <= first && first + count <= scratch.outputs.end);
        scratch.profile.begin();
        let n_embd = scratch.widths.n_embd;
        let x = &scratch.x[first * n_embd..][..count * n_embd];
        let normed = &mut scratch.narrow[..count * n_embd];
        self.output_norm.forward(kernels, x, normed);
        scratch.profile.mark("norm");
        let mut input = Input::new(normed, n_embd, &mut scratch.store);
        let ty = match &self.output {
            None => {
                self.token_embd.forward(kernels, file, &mut input, out);
                self.token_embd.ty
            }
            Some(output) => {
                output.forward(kernels, file, &mut input, out);
                output.weight.ty
            }
        };
        scratch.profile.mark_product("logits", ty);
    }
}

/// Lengths of vectors, as in [`Config`].
#[derive(Clone, Copy, Debug)]
struct Widths {
    n_embd: usize,
    n_q: usize,
    n_kv: usize,
    n_ff: usize,
    head_dim: usize,
}

/// What a forward pass works in, for up to [`COLUMNS_MAX`] columns.
#[derive(Debug)]
pub(crate) struct Scratch {
    widths: Widths,
    /// The residual stream: (C, n_embd)
    x: Vec<f32>,
    /// Normed `x`, then normed queries and keys, then attention's result, then the feed-forward part's:
    /// (C, max(n_embd, n_q))
    narrow: Vec<f32>,
    /// q, k, v, then attention's projection, then gate and up:
    /// (C, max(n_q + 2 n_kv, n_embd, 2 n_ff))
    wide: Vec<f32>,
    /// (C, head_dim)
    cos: Vec<f32>,
    /// (C, head_dim)
    sin: Vec<f32>,
    store: QuantStore,
    attention: Attention,
    /// Columns of the last pass that went through all of the last layer.
    outputs: Range<usize>,
    profile: Profile,
}

impl Scratch {
    /// Room for a context of `context_len` positions.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub(crate) fn new(config: &Config, context_len: usize) -> Result<Self> {
        let widths = Widths {
            n_embd: config.n_embd,
            n_q: config.n_embd_q(),
            n_kv: config.n_embd_kv(),
            n_ff: config.n_ff,
            head_dim: config.head_dim,
        };
        let Widths {
            n_embd,
            n_q,
            n_kv,
            n_ff,
            head_dim,
        } = widths;
        let columns = COLUMNS_MAX.min(context_len);
        let buffer = |width: usize| {
            memory::zeroed(
                memory::product(&[columns, width], "activations")?,
                "activations",
            )
        };
        let shape = Shape {
            n_head: config.n_head,
            n_head_kv: config.n_head_kv,
            head_dim,
        };
        Ok(Self {
            widths,
            x: buffer(n_embd)?,
            narrow: buffer(n_embd.max(n_q))?,
            wide: buffer((n_q + 2 * n_kv).max(n_embd).max(2 * n_ff))?,
            cos: buffer(head_dim)?,
            sin: buffer(head_dim)?,
            store: QuantStore::new(columns, n_embd.max(n_q).max(n_ff))?,
            attention: Attention::new(shape, context_len)?,
            outputs: 0..0,
            profile: Profile::default(),
        })
    }

    /// The adapters that the linear layers add.
    pub(crate) fn adapters(&mut self) -> &mut Mix {
        &mut self.store.adapters
    }

    /// Threads for products.
    pub(crate) fn set_pool(&mut self, pool: Option<Arc<dyn Pool>>) {
        self.store.pool = pool;
    }

    /// Where the time goes, once it has a clock.
    pub(crate) fn profile(&mut self) -> &mut Profile {
        &mut self.profile
    }

    /// Bytes of the buffers.
    pub(crate) fn memory_bytes(&self) -> usize {
        let floats =
            self.x.len() + self.narrow.len() + self.wide.len() + self.cos.len() + self.sin.len();
        4 * floats + self.store.memory_bytes() + self.attention.memory_bytes()
    }
}
