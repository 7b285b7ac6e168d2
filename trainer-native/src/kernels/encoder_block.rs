//! One encoder block (BERT: Devlin et al. 2018), forward and backward, over packed texts.
//!
//! ```text
//! x ─ [q k v] ─ attention ─ o ─ dropout ─(+x)─ norm ─ y1 ─ up ─ gelu ─ down ─ dropout ─(+y1)─ norm ─ y
//! ```
//!
//! The texts of a batch stand one after the other without padding: a linear layer sees `N` rows of `C`,
//! attention sees each text's own span. A part is a run of whole texts that one thread computes.
//!
//! Kept for the backward pass: x, q k v, the attention's output and log-sum-exp, the rows of both norms
//! after normalisation, and the feed-forward's inner rows. `y1` and `gelu` are recomputed.

use std::ops::Range;

use rayon::prelude::*;

use super::attention::{self, Heads, Visible};
use super::buffers::Buffer;
use super::gemm::{Mat, MatMut, Store, gemm};
use super::layernorm::{self, Affine};
use super::linear::full_grad;
use super::{gelu, math};

/// The shape of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spec {
    /// Model width `C`.
    pub width: usize,
    /// Feed-forward width `F`.
    pub ff: usize,
    /// Heads `H`, each `C / H` wide.
    pub n_head: usize,
    /// Added to the variance before its root.
    pub norm_eps: f32,
}

/// The learnt parts of a block in the order of every array below, by their GGUF names.
pub const PARAMS: [&str; 16] = [
    "attn_q.weight",
    "attn_k.weight",
    "attn_v.weight",
    "attn_output.weight",
    "ffn_up.weight",
    "ffn_down.weight",
    "attn_q.bias",
    "attn_k.bias",
    "attn_v.bias",
    "attn_output.bias",
    "ffn_up.bias",
    "ffn_down.bias",
    "attn_output_norm.weight",
    "attn_output_norm.bias",
    "layer_output_norm.weight",
    "layer_output_norm.bias",
];
/// How many of [`PARAMS`] are matrices; they come first.
pub const N_MATRICES: usize = 6;

const O: usize = 3;
const UP: usize = 4;
const DOWN: usize = 5;
const BIAS_O: usize = 9;
const BIAS_UP: usize = 10;
const BIAS_DOWN: usize = 11;
const NORM_1: usize = 12;
const NORM_2: usize = 14;

impl Spec {
    /// `(out, in)` of each of the six matrices.
    pub fn matrix_shapes(&self) -> [(usize, usize); N_MATRICES] {
        let (c, f) = (self.width, self.ff);
        [(c, c), (c, c), (c, c), (c, c), (f, c), (c, f)]
    }

    /// Elements of each parameter.
    pub fn param_lens(&self) -> [usize; 16] {
        let (c, f) = (self.width, self.ff);
        [
            c * c,
            c * c,
            c * c,
            c * c,
            f * c,
            c * f,
            c,
            c,
            c,
            c,
            f,
            c,
            c,
            c,
            c,
            c,
        ]
    }

    fn heads(&self) -> Heads {
        Heads {
            query: self.n_head,
            kv: self.n_head,
            width: self.width / self.n_head,
        }
    }

    fn saved_len(&self, rows: usize) -> usize {
        rows * (7 * self.width + self.ff + self.n_head + 2)
    }
}

/// The weights of one block, q/k/v fused for one product.
pub struct Weights {
    /// `[3C, C]`
    qkv: Buffer,
    /// `[3C]`
    qkv_bias: Buffer,
    /// All of them, in the order of [`PARAMS`]; those of q, k and v are empty.
    rest: [Buffer; 16],
}

impl Weights {
    /// Copies the sixteen parameters.
    pub fn gather(params: [&[f32]; 16]) -> Self {
        let join = |parts: &[&[f32]]| {
            let mut joined = Buffer::take(parts.iter().map(|part| part.len()).sum());
            let mut at = 0;
            for part in parts {
                joined[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            joined
        };
        Self {
            qkv: join(&params[..3]),
            qkv_bias: join(&params[6..9]),
            rest: std::array::from_fn(|i| match i {
                0..3 | 6..9 => Buffer::take(0),
                _ => join(&params[i..=i]),
            }),
        }
    }

    fn norm(&self, first: usize) -> Affine<'_> {
        Affine {
            weight: &self.rest[first],
            bias: &self.rest[first + 1],
        }
    }
}

/// Where texts lie and which elements dropout keeps; the same for the forward and the backward pass.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The span of the text that each row belongs to, counted from its part's first row. `[N]`
    pub spans: Vec<(u32, u32)>,
    /// Rows of each part; together they are `0..N`.
    pub parts: Vec<Range<usize>>,
}

impl Layout {
    /// Packs texts of the given lengths into parts of at least `rows` rows (the last may have fewer).
    pub fn new(lengths: &[usize], rows: usize) -> Self {
        let (mut spans, mut parts) = (Vec::new(), Vec::new());
        let mut first = 0;
        for (i, &length) in lengths.iter().enumerate() {
            let start = spans.len() - first;
            spans.extend(vec![(start as u32, (start + length) as u32); length]);
            if spans.len() - first >= rows || i + 1 == lengths.len() {
                parts.push(first..spans.len());
                first = spans.len();
            }
        }
        Self { spans, parts }
    }
}

/// Factors of the two dropouts of a block, `[N, C]` each: 0 or `1 / (1 - p)`.
pub type Dropout = [Vec<f32>; 2];

/// What the forward pass of one part leaves for its backward pass.
#[derive(Debug)]
pub struct Saved(Buffer);

struct SavedParts<'a> {
    x: &'a mut [f32],
    qkv: &'a mut [f32],
    attn: &'a mut [f32],
    lse: &'a mut [f32],
    normed_1: &'a mut [f32],
    normed_2: &'a mut [f32],
    up: &'a mut [f32],
    inv_std_1: &'a mut [f32],
    inv_std_2: &'a mut [f32],
}

impl Saved {
    fn parts(&mut self, spec: &Spec, rows: usize) -> SavedParts<'_> {
        let c = rows * spec.width;
        let (x, rest) = self.0.split_at_mut(c);
        let (qkv, rest) = rest.split_at_mut(3 * c);
        let (attn, rest) = rest.split_at_mut(c);
        let (lse, rest) = rest.split_at_mut(rows * spec.n_head);
        let (normed_1, rest) = rest.split_at_mut(c);
        let (normed_2, rest) = rest.split_at_mut(c);
        let (up, rest) = rest.split_at_mut(rows * spec.ff);
        let (inv_std_1, inv_std_2) = rest.split_at_mut(rows);
        SavedParts {
            x,
            qkv,
            attn,
            lse,
            normed_1,
            normed_2,
            up,
            inv_std_1,
            inv_std_2,
        }
    }
}

/// Runs the block: `x` `[N, C]` -> `y` `[N, C]`.
pub fn forward(
    spec: &Spec,
    w: &Weights,
    layout: &Layout,
    dropout: Option<&Dropout>,
    x: &[f32],
    y: &mut [f32],
) -> Vec<Saved> {
    let c = spec.width;
    let mut rest = y;
    let mut work = Vec::with_capacity(layout.parts.len());
    for part in &layout.parts {
        let (head, tail) = rest.split_at_mut(part.len() * c);
        work.push((part.clone(), head));
        rest = tail;
    }
    work.into_par_iter()
        .map(|(part, y)| {
            let cut = part.start * c..part.end * c;
            let kept = dropout.map(|d| [&d[0][cut.clone()], &d[1][cut.clone()]]);
            forward_part(spec, w, &layout.spans[part], kept, &x[cut], y)
        })
        .collect()
}

/// `out = x w^T + bias`; `x` `[rows, inputs]`, `w` `[bias.len(), inputs]`.
fn linear(x: &[f32], w: &[f32], bias: &[f32], inputs: usize, out: &mut [f32]) {
    let (n, m) = (bias.len(), x.len() / inputs);
    for row in out.chunks_exact_mut(n) {
        row.copy_from_slice(bias);
    }
    gemm(
        Store::Add,
        1.0,
        Mat::new(x, m, inputs),
        Mat::new(w, n, inputs).t(),
        MatMut::new(out, m, n),
    );
}

/// `out = (out * kept) + residual`
fn join(out: &mut [f32], kept: Option<&[f32]>, residual: &[f32]) {
    if let Some(kept) = kept {
        math::mul_assign(out, kept);
    }
    math::add_assign(out, residual);
}

fn forward_part(
    spec: &Spec,
    w: &Weights,
    spans: &[(u32, u32)],
    kept: Option<[&[f32]; 2]>,
    x: &[f32],
    y: &mut [f32],
) -> Saved {
    let (n, c, f) = (spans.len(), spec.width, spec.ff);
    let mut saved = Saved(Buffer::take(spec.saved_len(n)));
    let s = saved.parts(spec, n);
    s.x.copy_from_slice(x);
    linear(x, &w.qkv, &w.qkv_bias, c, s.qkv);
    let heads = spec.heads();
    let mut scratch = Buffer::take(heads.scratch_len(n));
    let visible = Visible::Documents(spans);
    attention::forward(heads, s.qkv, visible, s.attn, s.lse, &mut scratch);
    linear(s.attn, &w.rest[O], &w.rest[BIAS_O], c, s.normed_1);
    join(s.normed_1, kept.map(|k| k[0]), x);
    let mut y1 = Buffer::take(n * c);
    let norm = w.norm(NORM_1);
    layernorm::forward(s.normed_1, norm, spec.norm_eps, &mut y1, s.inv_std_1);
    linear(&y1, &w.rest[UP], &w.rest[BIAS_UP], c, s.up);
    let mut h = Buffer::take(n * f);
    gelu::forward(s.up, &mut h);
    linear(&h, &w.rest[DOWN], &w.rest[BIAS_DOWN], f, s.normed_2);
    join(s.normed_2, kept.map(|k| k[1]), &y1);
    let norm = w.norm(NORM_2);
    layernorm::forward(s.normed_2, norm, spec.norm_eps, y, s.inv_std_2);
    saved
}

/// Gradients of the sixteen parameters in the order of [`PARAMS`]; q, k and v lie fused in two of them.
pub struct Grads {
    /// `[3C, C]`
    qkv: Vec<f32>,
    /// `[3C]`
    qkv_bias: Vec<f32>,
    /// The others; those of q, k and v are empty.
    rest: [Vec<f32>; 16],
}

impl Grads {
    fn zeros(spec: &Spec) -> Self {
        let (c, lens) = (spec.width, spec.param_lens());
        Self {
            qkv: vec![0.0; 3 * c * c],
            qkv_bias: vec![0.0; 3 * c],
            rest: std::array::from_fn(|i| match i {
                0..3 | 6..9 => Vec::new(),
                _ => vec![0.0; lens[i]],
            }),
        }
    }

    fn add(&mut self, other: &Self) {
        math::add_assign(&mut self.qkv, &other.qkv);
        math::add_assign(&mut self.qkv_bias, &other.qkv_bias);
        for (a, b) in self.rest.iter_mut().zip(&other.rest) {
            math::add_assign(a, b);
        }
    }

    /// All sixteen, apart.
    pub fn into_params(self) -> [Vec<f32>; 16] {
        let thirds = |all: &[f32], i: usize| {
            let len = all.len() / 3;
            all[i * len..(i + 1) * len].to_vec()
        };
        let mut rest = self.rest;
        for i in 0..3 {
            rest[i] = thirds(&self.qkv, i);
            rest[6 + i] = thirds(&self.qkv_bias, i);
        }
        rest
    }
}

/// Gradients of [`forward`]: returns those of the parameters and writes that of the input, `[N, C]`.
///
/// Each thread sums over its own run of parts, and the runs are added in their order: the result depends
/// on the number of threads, never on their timing.
pub fn backward(
    spec: &Spec,
    w: &Weights,
    layout: &Layout,
    dropout: Option<&Dropout>,
    saved: &mut [Saved],
    dy: &[f32],
    dx: &mut [f32],
) -> Grads {
    let c = spec.width;
    let run = saved
        .len()
        .div_ceil(rayon::current_num_threads().max(1))
        .max(1);
    let mut rest = dx;
    let mut work = Vec::new();
    for (parts, saved) in layout.parts.chunks(run).zip(saved.chunks_mut(run)) {
        let rows: usize = parts.iter().map(Range::len).sum();
        let (head, tail) = rest.split_at_mut(rows * c);
        work.push((parts, saved, head));
        rest = tail;
    }
    let mut sums: Vec<Grads> = work
        .into_par_iter()
        .map(|(parts, saved, dx)| {
            let mut grads = Grads::zeros(spec);
            let first = parts[0].start;
            for (part, saved) in parts.iter().zip(saved) {
                let cut = part.start * c..part.end * c;
                let kept = dropout.map(|d| [&d[0][cut.clone()], &d[1][cut.clone()]]);
                let spans = &layout.spans[part.clone()];
                let dx = &mut dx[(part.start - first) * c..(part.end - first) * c];
                backward_part(spec, w, spans, kept, saved, &dy[cut], dx, &mut grads);
            }
            grads
        })
        .collect();
    let mut total = sums.remove(0);
    for part in &sums {
        total.add(part);
    }
    total
}

/// Adds the gradients of [`linear`]'s weight and bias and writes that of its input to `dx`.
fn linear_backward(
    x: &[f32],
    w: &[f32],
    inputs: usize,
    dy: &[f32],
    dx: &mut [f32],
    (dw, db): (&mut [f32], &mut [f32]),
) {
    let (n, m) = (db.len(), x.len() / inputs);
    full_grad(Mat::new(dy, m, n), Mat::new(x, m, inputs), dw, n, inputs);
    for row in dy.chunks_exact(n) {
        math::add_assign(db, row);
    }
    gemm(
        Store::Set,
        1.0,
        Mat::new(dy, m, n),
        Mat::new(w, n, inputs),
        MatMut::new(dx, m, inputs),
    );
}

#[expect(
    clippy::too_many_arguments,
    reason = "one part's share of `backward`'s arguments"
)]
fn backward_part(
    spec: &Spec,
    w: &Weights,
    spans: &[(u32, u32)],
    kept: Option<[&[f32]; 2]>,
    saved: &mut Saved,
    dy: &[f32],
    dx: &mut [f32],
    grads: &mut Grads,
) {
    let (n, c, f) = (spans.len(), spec.width, spec.ff);
    let s = saved.parts(spec, n);
    let [
        _,
        _,
        _,
        d_o,
        d_up,
        d_down,
        _,
        _,
        _,
        d_bias_o,
        d_bias_up,
        d_bias_down,
        d_w1,
        d_b1,
        d_w2,
        d_b2,
    ] = &mut grads.rest;

    // Second norm, dropout, down, GELU, up; `d_y1` gathers both ways to y1.
    let mut d_y1 = Buffer::take(n * c);
    d_y1.copy_from_slice(dy);
    layernorm::backward(
        s.normed_2,
        &w.rest[NORM_2],
        s.inv_std_2,
        &mut d_y1,
        d_w2,
        d_b2,
    );
    let mut d_out = Buffer::take(n * c);
    d_out.copy_from_slice(&d_y1);
    if let Some([_, kept]) = kept {
        math::mul_assign(&mut d_out, kept);
    }
    let mut h = Buffer::take(n * f);
    gelu::forward(s.up, &mut h);
    let mut d_h = Buffer::take(n * f);
    linear_backward(
        &h,
        &w.rest[DOWN],
        f,
        &d_out,
        &mut d_h,
        (&mut d_down[..], &mut d_bias_down[..]),
    );
    gelu::backward(s.up, &mut d_h);
    let mut y1 = Buffer::take(n * c);
    layernorm::replay(s.normed_1, w.norm(NORM_1), &mut y1);
    linear_backward(
        &y1,
        &w.rest[UP],
        c,
        &d_h,
        &mut d_out,
        (&mut d_up[..], &mut d_bias_up[..]),
    );
    math::add_assign(&mut d_y1, &d_out);

    // First norm, dropout, output projection, attention, q k v; `dx` gathers both ways to x.
    layernorm::backward(
        s.normed_1,
        &w.rest[NORM_1],
        s.inv_std_1,
        &mut d_y1,
        d_w1,
        d_b1,
    );
    dx.copy_from_slice(&d_y1);
    if let Some([kept, _]) = kept {
        math::mul_assign(&mut d_y1, kept);
    }
    let mut d_attn = Buffer::take(n * c);
    linear_backward(
        s.attn,
        &w.rest[O],
        c,
        &d_y1,
        &mut d_attn,
        (&mut d_o[..], &mut d_bias_o[..]),
    );
    let heads = spec.heads();
    let mut d_qkv = Buffer::zeroed(n * 3 * c);
    let mut scratch = Buffer::take(heads.scratch_len(n));
    attention::backward(
        heads,
        s.qkv,
        Visible::Documents(spans),
        s.attn,
        s.lse,
        &d_attn,
        &mut d_qkv,
        &mut scratch,
    );
    linear_backward(
        s.x,
        &w.qkv,
        c,
        &d_qkv,
        &mut d_out,
        (&mut grads.qkv[..], &mut grads.qkv_bias[..]),
    );
    math::add_assign(dx, &d_out);
}
