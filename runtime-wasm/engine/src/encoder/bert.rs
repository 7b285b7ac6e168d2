//! The encoder of BERT (Devlin et al., 2018) and RoBERTa: weights, and one forward pass.
//!
//! ```text
//! x = norm(token + position + type 0)                          (T, n_embd)
//! each layer
//!   q, k, v = linear(x)                                        (T, n_embd) each
//!   x = norm(x + linear(attention(q, k, v)))                   every position sees every other
//!   x = norm(x + linear(gelu(linear(x))))                      (C, n_ff) inside
//! ```

use super::config::EncoderConfig;
use crate::error::Result;
use crate::kernels::Kernels;
use crate::model::tensors::Tensors;
use crate::nn::full_attention::FullAttention;
use crate::nn::linear::{Input, Linear, Matrix, QuantStore};
use crate::nn::norm::LayerNorm;
use crate::nn::{COLUMNS_MAX, add, memory};

/// One layer.
#[derive(Debug)]
struct Layer {
    attn_q: Linear,
    attn_k: Linear,
    attn_v: Linear,
    attn_output: Linear,
    attn_output_norm: LayerNorm,
    ffn_up: Linear,
    ffn_down: Linear,
    layer_output_norm: LayerNorm,
}

/// The weights of an encoder: where they lie in the file, and the few that are held as `f32`.
#[derive(Debug)]
pub(super) struct Bert {
    token_embd: Matrix,
    position_embd: Matrix,
    /// Rows of the kinds of tokens; only the first is used.
    token_types: Option<Matrix>,
    token_embd_norm: LayerNorm,
    layers: Vec<Layer>,
}

impl Bert {
    /// Finds and checks every tensor that `config` asks for.
    pub(super) fn load(tensors: &mut Tensors<'_>, config: &EncoderConfig) -> Result<Self> {
        let EncoderConfig { n_embd, n_ff, .. } = *config;
        let eps = config.norm_eps;
        let token_embd = tensors.matrix("token_embd.weight", n_embd, config.n_vocab)?;
        let position_embd = tensors.matrix("position_embd.weight", n_embd, config.context_len)?;
        let types = "token_types.weight";
        let n_types = tensors.optional_rows(types);
        let token_types = tensors.optional_matrix(types, n_embd, n_types.unwrap_or(1))?;
        let token_embd_norm = tensors.layer_norm("token_embd_norm", n_embd, eps)?;
        let layers = (0..config.n_layer)
            .map(|n| {
                let name = |part: &str| format!("blk.{n}.{part}");
                Ok(Layer {
                    attn_q: tensors.linear(&name("attn_q"), n_embd, n_embd)?,
                    attn_k: tensors.linear(&name("attn_k"), n_embd, n_embd)?,
                    attn_v: tensors.linear(&name("attn_v"), n_embd, n_embd)?,
                    attn_output: tensors.linear(&name("attn_output"), n_embd, n_embd)?,
                    attn_output_norm: tensors.layer_norm(&name("attn_output_norm"), n_embd, eps)?,
                    ffn_up: tensors.linear(&name("ffn_up"), n_embd, n_ff)?,
                    ffn_down: tensors.linear(&name("ffn_down"), n_ff, n_embd)?,
                    layer_output_norm: tensors.layer_norm(
                        &name("layer_output_norm"),
                        n_embd,
                        eps,
                    )?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            token_embd,
            position_embd,
            token_types,
            token_embd_norm,
            layers,
        })
    }

    /// Brings the weights in `file` into the order that the kernels take.
    pub(super) fn weave(&mut self, file: &mut [u8]) -> Result<()> {
        let tables = [&mut self.token_embd, &mut self.position_embd];
        for table in tables.into_iter().chain(&mut self.token_types) {
            table.weave(file)?;
        }
        for layer in &mut self.layers {
            for linear in [
                &mut layer.attn_q,
                &mut layer.attn_k,
                &mut layer.attn_v,
                &mut layer.attn_output,
                &mut layer.ffn_up,
                &mut layer.ffn_down,
            ] {
                linear.weight.weave(file)?;
            }
        }
        Ok(())
    }

    /// The rows of `tokens`, all in the vocabulary and no more than there are positions:
    /// (T, n_embd).
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub(super) fn forward(
        &self,
        kernels: &Kernels,
        file: &[u8],
        config: &EncoderConfig,
        tokens: &[u32],
    ) -> Result<Vec<f32>> {
        let (n_embd, n_ff) = (config.n_embd, config.n_ff);
        let buffer = |rows: usize, width: usize| {
            let what = "the rows of a text";
            memory::zeroed(memory::product(&[rows, width], what)?, what)
        };
        let count = tokens.len();
        let columns = count.min(COLUMNS_MAX);
        let mut x = buffer(count, n_embd)?;
        let mut sum = buffer(count, n_embd)?;
        let [mut q, mut k, mut v] = [
            buffer(count, n_embd)?,
            buffer(count, n_embd)?,
            buffer(count, n_embd)?,
        ];
        let mut wide = buffer(columns, n_ff)?;
        let mut store = QuantStore::new(columns, n_embd.max(n_ff))?;
        let mut attention = FullAttention::new(n_embd / config.n_head, count)?;

        let mut row = buffer(1, n_embd)?;
        for (position, (&id, sum)) in tokens.iter().zip(sum.chunks_exact_mut(n_embd)).enumerate() {
            self.token_embd.dequantize_row(file, id as usize, sum);
            if let Some(types) = &self.token_types {
                types.dequantize_row(file, 0, &mut row);
                add(sum, &row);
            }
            self.position_embd.dequantize_row(file, position, &mut row);
            add(sum, &row);
        }
        self.token_embd_norm.forward(kernels, &sum, &mut x);

        let group = COLUMNS_MAX * n_embd;
        for layer in &self.layers {
            let parts = q.chunks_mut(group).zip(k.chunks_mut(group));
            let parts = parts.zip(v.chunks_mut(group)).zip(x.chunks(group));
            for (((q, k), v), x) in parts {
                let mut input = Input::new(x, n_embd, &mut store);
                layer.attn_q.forward(kernels, file, &mut input, q);
                layer.attn_k.forward(kernels, file, &mut input, k);
                layer.attn_v.forward(kernels, file, &mut input, v);
            }
            attention.forward(kernels, &q, &k, &v, n_embd, &mut sum);
            // From here on each group of rows goes its own way, through `q` and back.
            let parts = x.chunks_mut(group).zip(sum.chunks_mut(group));
            for ((x, sum), q) in parts.zip(q.chunks_mut(group)) {
                let mut input = Input::new(sum, n_embd, &mut store);
                layer.attn_output.forward(kernels, file, &mut input, q);
                add(q, x);
                layer.attn_output_norm.forward(kernels, q, x);
                let wide = &mut wide[..x.len() / n_embd * n_ff];
                let mut input = Input::new(x, n_embd, &mut store);
                layer.ffn_up.forward(kernels, file, &mut input, wide);
                (kernels.gelu)(wide);
                let mut input = Input::new(wide, n_ff, &mut store);
                layer.ffn_down.forward(kernels, file, &mut input, sum);
                add(sum, x);
                layer.layer_output_norm.forward(kernels, sum, x);
            }
        }
        Ok(x)
    }
}
