//! The block and the head in burn's own tensor operations: what GPUs run, and what the CPU's kernels
//! are compared with.

use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor, TensorData, activation};

use super::{Block, BlockAdapter, BlockContext, EncoderBlock, EncoderContext, Targets};

/// Twin of `kernels::block`, with an optional low-rank branch.
pub fn block<B: Backend>(
    x: Tensor<B, 3>,
    block: &Block<B>,
    adapter: Option<&BlockAdapter<B>>,
    ctx: &BlockContext,
) -> Tensor<B, 3> {
    let spec = &ctx.spec;
    let [rows, t, c] = x.dims();
    let (h, k, d) = (spec.heads.query, spec.heads.kv, spec.heads.width);
    let linear = |x: &Tensor<B, 3>, i: usize| {
        let y = matmul_t(x.clone(), block.linears[i].val());
        match adapter {
            Some(adapter) => {
                let pair = &adapter.pairs[i];
                let branch = matmul_t(matmul_t(x.clone(), pair.a.val()), pair.b.val());
                y + branch.mul_scalar(adapter.scale)
            }
            None => y,
        }
    };
    let heads = |x: Tensor<B, 3>, n: usize| x.reshape([rows, t, n, d]).swap_dims(1, 2);

    let normed = rms_norm(x.clone(), block.attn_norm.val(), spec.rms_eps);
    let q = rope(heads(linear(&normed, 0), h), ctx);
    let key = repeat_heads(rope(heads(linear(&normed, 1), k), ctx), h / k);
    let value = repeat_heads(heads(linear(&normed, 2), k), h / k);
    let scores = q.matmul(key.swap_dims(2, 3)).div_scalar((d as f64).sqrt());
    let hidden = hidden_mask::<B>(ctx, rows, &x.device());
    let probs = activation::softmax(scores.mask_fill(hidden, -1e30), 3);
    let mixed = probs
        .matmul(value)
        .swap_dims(1, 2)
        .reshape([rows, t, h * d]);
    let x1 = x + linear(&mixed, 3);

    let normed = rms_norm(x1.clone(), block.ffn_norm.val(), spec.rms_eps);
    let inner = activation::silu(linear(&normed, 4)) * linear(&normed, 5);
    debug_assert_eq!(x1.dims()[2], c);
    x1 + linear(&inner, 6)
}

/// Twin of `kernels::cross_entropy`.
pub fn head<B: Backend>(
    x: Tensor<B, 3>,
    norm: Tensor<B, 1>,
    embed: Tensor<B, 2>,
    targets: &Targets,
) -> Tensor<B, 1> {
    let [rows, t, c] = x.dims();
    let n = rows * t;
    let device = x.device();
    let logits = rms_norm(x, norm, targets.rms_eps)
        .reshape([n, c])
        .matmul(embed.transpose());
    let log_probs = activation::log_softmax(logits, 1);
    let ids: Vec<i32> = targets.ids.iter().map(|id| *id as i32).collect();
    let ids = Tensor::<B, 2, Int>::from_data(TensorData::new(ids, [n, 1]), &device);
    let weights =
        Tensor::<B, 2>::from_data(TensorData::new(targets.weights.to_vec(), [n, 1]), &device);
    (log_probs.gather(1, ids) * weights).sum().neg()
}

/// Twin of `kernels::encoder_block`: `x` `[N, C]` -> `[N, C]`.
pub fn encoder_block<B: Backend>(
    x: Tensor<B, 2>,
    block: &EncoderBlock<B>,
    ctx: &EncoderContext,
) -> Tensor<B, 2> {
    let spec = &ctx.spec;
    let [n, c] = x.dims();
    let (h, d) = (spec.n_head, c / spec.n_head);
    let device = x.device();
    let linear = |x: &Tensor<B, 2>, i: usize| {
        x.clone().matmul(block.matrices[i].val().transpose()) + block.vectors[i].val().unsqueeze()
    };
    let norm = |x: Tensor<B, 2>, i: usize| {
        let (w, b) = (
            block.vectors[6 + 2 * i].val(),
            block.vectors[7 + 2 * i].val(),
        );
        layer_norm(x, w, b, spec.norm_eps)
    };
    let dropped = |x: Tensor<B, 2>, i: usize| match &ctx.dropout {
        Some(kept) => x * Tensor::from_data(TensorData::new(kept[i].clone(), [n, c]), &device),
        None => x,
    };
    let heads = |x: Tensor<B, 2>| x.reshape([n, h, d]).swap_dims(0, 1);

    let (q, k, v) = (linear(&x, 0), linear(&x, 1), linear(&x, 2));
    let scores = heads(q)
        .matmul(heads(k).swap_dims(1, 2))
        .div_scalar((d as f64).sqrt());
    let probs = activation::softmax(scores.mask_fill(other_texts(ctx, &device), -1e30), 2);
    let mixed = probs.matmul(heads(v)).swap_dims(0, 1).reshape([n, c]);
    let y1 = norm(dropped(linear(&mixed, 3), 0) + x, 0);
    let inner = activation::gelu(linear(&y1, 4));
    norm(dropped(linear(&inner, 5), 1) + y1, 1)
}

/// LayerNorm of each row of `[N, C]`.
pub fn layer_norm<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 1>,
    bias: Tensor<B, 1>,
    eps: f32,
) -> Tensor<B, 2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = centred.clone().powi_scalar(2).mean_dim(1);
    centred / variance.add_scalar(eps).sqrt() * weight.unsqueeze() + bias.unsqueeze()
}

/// True where a row must not look: `[1, N, N]`.
fn other_texts<B: Backend>(ctx: &EncoderContext, device: &B::Device) -> Tensor<B, 3, Bool> {
    let n = ctx.layout.spans.len();
    let mut hidden = vec![true; n * n];
    for part in &ctx.layout.parts {
        for row in part.clone() {
            let (start, end) = ctx.layout.spans[row];
            let text = row * n + part.start;
            hidden[text + start as usize..text + end as usize].fill(false);
        }
    }
    Tensor::from_data(TensorData::new(hidden, [1, n, n]), device)
}

fn matmul_t<B: Backend>(x: Tensor<B, 3>, weight: Tensor<B, 2>) -> Tensor<B, 3> {
    let [rows, t, inputs] = x.dims();
    let out = weight.dims()[0];
    x.reshape([rows * t, inputs])
        .matmul(weight.transpose())
        .reshape([rows, t, out])
}

fn rms_norm<B: Backend>(x: Tensor<B, 3>, weight: Tensor<B, 1>, eps: f32) -> Tensor<B, 3> {
    let inv = x
        .clone()
        .powi_scalar(2)
        .mean_dim(2)
        .add_scalar(eps)
        .sqrt()
        .recip();
    x * inv * weight.unsqueeze::<3>()
}

/// Rotates adjacent pairs of `[B, heads, T, D]`.
fn rope<B: Backend>(x: Tensor<B, 4>, ctx: &BlockContext) -> Tensor<B, 4> {
    let [rows, heads, t, d] = x.dims();
    let half = d / 2;
    let device = x.device();
    let (cos, sin) = ctx.spec.rope.parts();
    let table = |values: &[f32]| {
        Tensor::<B, 3>::from_data(
            TensorData::new(values[..t * half].to_vec(), [t, half, 1]),
            &device,
        )
        .unsqueeze::<5>()
    };
    let (cos, sin) = (table(cos), table(sin));
    let pairs = x.reshape([rows, heads, t, half, 2]);
    let a = pairs.clone().narrow(4, 0, 1);
    let b = pairs.narrow(4, 1, 1);
    let first = a.clone() * cos.clone() - b.clone() * sin.clone();
    let second = a * sin + b * cos;
    Tensor::cat(vec![first, second], 4).reshape([rows, heads, t, d])
}

/// `[B, K, T, D]` -> `[B, K * times, T, D]`, each head standing `times` times in a row.
fn repeat_heads<B: Backend>(x: Tensor<B, 4>, times: usize) -> Tensor<B, 4> {
    let [rows, k, t, d] = x.dims();
    x.reshape([rows, k, 1, t, d])
        .repeat_dim(2, times)
        .reshape([rows, k * times, t, d])
}

/// True where a query must not look: `[B, 1, T, T]`.
fn hidden_mask<B: Backend>(
    ctx: &BlockContext,
    rows: usize,
    device: &B::Device,
) -> Tensor<B, 4, Bool> {
    let t = ctx.positions;
    let hidden: Vec<bool> = ctx
        .starts
        .iter()
        .enumerate()
        .flat_map(|(at, &start)| (0..t).map(move |key| key < start as usize || key > at % t))
        .collect();
    Tensor::from_data(TensorData::new(hidden, [rows, 1, t, t]), device)
}
