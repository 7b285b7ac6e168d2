//! One decoder block, forward and backward, one sequence at a time.
//!
//! ```text
//! x ─ rmsnorm ─ [q k v] ─ rope ─ attention ─ o ─(+x)─ x1 ─ rmsnorm ─ [gate up] ─ swiglu ─ down ─(+x1)─ y
//! ```
//!
//! Kept for the backward pass, per sequence: x, the rotated q k v, the attention's output and
//! log-sum-exp, x1, gate and up, and both inverse RMS. The normalised rows and `h` are recomputed: they
//! cost one element-wise pass and would double the memory.

use std::sync::Arc;

use rayon::prelude::*;

use super::attention::{self, Heads, Visible};
use super::buffers::Buffer;
use super::gemm::{Mat, MatMut, Store, gemm};
use super::linear::{LowRank, full_grad, low_rank_grad};
use super::{math, rmsnorm, rope, swiglu};

/// The shape of a block and everything about it that is not learnt.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Model width `C`.
    pub width: usize,
    /// Feed-forward width `F`.
    pub ff: usize,
    /// Heads.
    pub heads: Heads,
    /// Added to the mean square before its root.
    pub rms_eps: f32,
    /// Rotation angles, at least `T` positions of them.
    pub rope: Arc<rope::Table>,
}

/// The seven linear layers of a block, in the order of every array below.
pub const LINEARS: [&str; 7] = [
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
];
const Q: usize = 0;
const K: usize = 1;
const V: usize = 2;
const O: usize = 3;
const GATE: usize = 4;
const UP: usize = 5;
const DOWN: usize = 6;

impl Spec {
    /// `(out, in)` of each of the seven linear layers.
    pub fn linear_shapes(&self) -> [(usize, usize); 7] {
        let (c, f) = (self.width, self.ff);
        let (q, kv) = (
            self.heads.query * self.heads.width,
            self.heads.kv * self.heads.width,
        );
        [(q, c), (kv, c), (kv, c), (c, q), (f, c), (f, c), (c, f)]
    }

    fn saved_len(&self, t: usize) -> usize {
        t * (2 * self.width
            + self.heads.qkv_len()
            + self.heads.out_len()
            + self.heads.query
            + 2 * self.ff
            + 2)
    }
}

/// The weights of one block, q/k/v and gate/up fused for one product each.
pub struct Weights {
    /// `[C]`
    pub attn_norm: Buffer,
    /// `[C]`
    pub ffn_norm: Buffer,
    /// `[(H+2K) D, C]`
    qkv: Buffer,
    /// `[C, H D]`
    o: Buffer,
    /// `[2F, C]`
    gate_up: Buffer,
    /// `[C, F]`
    down: Buffer,
}

impl Weights {
    /// Copies the norms `[C]` and the seven matrices, each `[out, in]`.
    pub fn gather(attn_norm: &[f32], ffn_norm: &[f32], linears: [&[f32]; 7]) -> Self {
        let join = |parts: &[&[f32]]| {
            let mut joined = Buffer::take(parts.iter().map(|p| p.len()).sum());
            let mut at = 0;
            for part in parts {
                joined[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            joined
        };
        Self {
            attn_norm: join(&[attn_norm]),
            ffn_norm: join(&[ffn_norm]),
            qkv: join(&[linears[Q], linears[K], linears[V]]),
            o: join(&[linears[O]]),
            gate_up: join(&[linears[GATE], linears[UP]]),
            down: join(&[linears[DOWN]]),
        }
    }
}

/// What the forward pass of one sequence leaves for its backward pass.
#[derive(Debug)]
pub struct Saved(Buffer);

struct SavedParts<'a> {
    x: &'a mut [f32],
    qkv: &'a mut [f32],
    attn: &'a mut [f32],
    lse: &'a mut [f32],
    x1: &'a mut [f32],
    gate_up: &'a mut [f32],
    inv_rms_attn: &'a mut [f32],
    inv_rms_ffn: &'a mut [f32],
}

impl Saved {
    fn parts(&mut self, spec: &Spec, t: usize) -> SavedParts<'_> {
        let (x, rest) = self.0.split_at_mut(t * spec.width);
        let (qkv, rest) = rest.split_at_mut(t * spec.heads.qkv_len());
        let (attn, rest) = rest.split_at_mut(t * spec.heads.out_len());
        let (lse, rest) = rest.split_at_mut(t * spec.heads.query);
        let (x1, rest) = rest.split_at_mut(t * spec.width);
        let (gate_up, rest) = rest.split_at_mut(t * 2 * spec.ff);
        let (inv_rms_attn, inv_rms_ffn) = rest.split_at_mut(t);
        SavedParts {
            x,
            qkv,
            attn,
            lse,
            x1,
            gate_up,
            inv_rms_attn,
            inv_rms_ffn,
        }
    }
}

/// Runs the block over `B` sequences: `x` `[B, T, C]` -> `y` `[B, T, C]`; `starts` `[B, T]`.
pub fn forward(
    spec: &Spec,
    w: &Weights,
    x: &[f32],
    starts: &[u32],
    t: usize,
    y: &mut [f32],
) -> Vec<Saved> {
    let row = t * spec.width;
    x.par_chunks_exact(row)
        .zip(y.par_chunks_exact_mut(row))
        .zip(starts.par_chunks_exact(t))
        .map(|((x, y), starts)| forward_sequence(spec, w, x, starts, y))
        .collect()
}

fn forward_sequence(spec: &Spec, w: &Weights, x: &[f32], starts: &[u32], y: &mut [f32]) -> Saved {
    let (t, c, f) = (starts.len(), spec.width, spec.ff);
    let (qkv_len, out_len) = (spec.heads.qkv_len(), spec.heads.out_len());
    let mut saved = Saved(Buffer::take(spec.saved_len(t)));
    let s = saved.parts(spec, t);
    let mut normed = Buffer::take(t * c);
    s.x.copy_from_slice(x);
    rmsnorm::forward(x, &w.attn_norm, spec.rms_eps, &mut normed, s.inv_rms_attn);
    gemm(
        Store::Set,
        1.0,
        Mat::new(&normed, t, c),
        Mat::new(&w.qkv, qkv_len, c).t(),
        MatMut::new(s.qkv, t, qkv_len),
    );
    spec.rope
        .rotate(s.qkv, qkv_len, spec.heads.query + spec.heads.kv, 1.0);
    let mut scratch = Buffer::take(spec.heads.scratch_len(t));
    attention::forward(
        spec.heads,
        s.qkv,
        Visible::Causal(starts),
        s.attn,
        s.lse,
        &mut scratch,
    );
    s.x1.copy_from_slice(x);
    gemm(
        Store::Add,
        1.0,
        Mat::new(s.attn, t, out_len),
        Mat::new(&w.o, c, out_len).t(),
        MatMut::new(s.x1, t, c),
    );
    rmsnorm::forward(s.x1, &w.ffn_norm, spec.rms_eps, &mut normed, s.inv_rms_ffn);
    gemm(
        Store::Set,
        1.0,
        Mat::new(&normed, t, c),
        Mat::new(&w.gate_up, 2 * f, c).t(),
        MatMut::new(s.gate_up, t, 2 * f),
    );
    let mut h = Buffer::take(t * f);
    swiglu::forward(s.gate_up, f, &mut h);
    y.copy_from_slice(s.x1);
    gemm(
        Store::Add,
        1.0,
        Mat::new(&h, t, f),
        Mat::new(&w.down, c, f).t(),
        MatMut::new(y, t, c),
    );
    saved
}

/// The gradients of a block's parameters, zeroed at the start.
pub enum Grads {
    /// All weights are frozen: only the gradient of the input is wanted.
    None,
    /// Norms `[C]` and the seven matrices `[out, in]`.
    Full(Box<FullGrads>),
    /// The seven low-rank pairs: `(dA [r, in], dB [out, r])`.
    LowRank(Vec<(Vec<f32>, Vec<f32>)>),
}

/// Gradients of every weight of a block; q/k/v and gate/up lie in the fused order.
pub struct FullGrads {
    /// `[C]`
    pub attn_norm: Vec<f32>,
    /// `[C]`
    pub ffn_norm: Vec<f32>,
    /// `[(H+2K) D, C]`: q, k, v one after the other.
    pub qkv: Vec<f32>,
    /// `[C, H D]`
    pub o: Vec<f32>,
    /// `[2F, C]`: gate, then up.
    pub gate_up: Vec<f32>,
    /// `[C, F]`
    pub down: Vec<f32>,
}

impl FullGrads {
    fn zeros(spec: &Spec) -> Self {
        let (c, f) = (spec.width, spec.ff);
        Self {
            attn_norm: vec![0.0; c],
            ffn_norm: vec![0.0; c],
            qkv: vec![0.0; spec.heads.qkv_len() * c],
            o: vec![0.0; c * spec.heads.out_len()],
            gate_up: vec![0.0; 2 * f * c],
            down: vec![0.0; c * f],
        }
    }

    fn add(&mut self, other: &Self) {
        math::add_assign(&mut self.attn_norm, &other.attn_norm);
        math::add_assign(&mut self.ffn_norm, &other.ffn_norm);
        math::add_assign(&mut self.qkv, &other.qkv);
        math::add_assign(&mut self.o, &other.o);
        math::add_assign(&mut self.gate_up, &other.gate_up);
        math::add_assign(&mut self.down, &other.down);
    }
}

/// Which gradients [`backward`] forms.
#[derive(Clone, Copy)]
pub enum Wanted<'a> {
    /// Only the input's.
    Input,
    /// The input's and every weight's.
    Full,
    /// The input's and those of the low-rank pair of each linear layer.
    LowRank(&'a [LowRank<'a>; 7]),
}

impl Grads {
    fn zeros(spec: &Spec, wanted: Wanted) -> Self {
        match wanted {
            Wanted::Input => Self::None,
            Wanted::Full => Self::Full(Box::new(FullGrads::zeros(spec))),
            Wanted::LowRank(pairs) => Self::LowRank(
                pairs
                    .iter()
                    .map(|p| (vec![0.0; p.a.len()], vec![0.0; p.b.len()]))
                    .collect(),
            ),
        }
    }

    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Full(a), Self::Full(b)) => a.add(b),
            (Self::LowRank(a), Self::LowRank(b)) => {
                for (a, b) in a.iter_mut().zip(b) {
                    math::add_assign(&mut a.0, &b.0);
                    math::add_assign(&mut a.1, &b.1);
                }
            }
            _ => {}
        }
    }
}

/// Gradients of [`forward`]: returns those of the parameters and writes that of the input, `[B, T, C]`.
///
/// Each thread sums the parameters' gradients over its own run of sequences, and the runs are added in
/// their order: the result depends on the number of threads, never on their timing.
#[expect(
    clippy::too_many_arguments,
    reason = "the operation's inputs, what it saved, and both gradients, each a plain slice"
)]
pub fn backward(
    spec: &Spec,
    w: &Weights,
    wanted: Wanted,
    saved: &mut [Saved],
    starts: &[u32],
    t: usize,
    dy: &[f32],
    dx: &mut [f32],
) -> Grads {
    let row = t * spec.width;
    let run = saved
        .len()
        .div_ceil(rayon::current_num_threads().max(1))
        .max(1);
    let mut sums: Vec<Grads> = saved
        .par_chunks_mut(run)
        .zip(starts.par_chunks(run * t))
        .zip(dy.par_chunks(run * row))
        .zip(dx.par_chunks_mut(run * row))
        .map(|(((saved, starts), dy), dx)| {
            let mut grads = Grads::zeros(spec, wanted);
            let sequences = saved.iter_mut().zip(starts.chunks_exact(t));
            for ((saved, starts), (dy, dx)) in
                sequences.zip(dy.chunks_exact(row).zip(dx.chunks_exact_mut(row)))
            {
                backward_sequence(spec, w, wanted, saved, starts, dy, dx, &mut grads);
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

#[expect(
    clippy::too_many_arguments,
    reason = "one sequence's share of `backward`'s arguments"
)]
fn backward_sequence(
    spec: &Spec,
    w: &Weights,
    wanted: Wanted,
    saved: &mut Saved,
    starts: &[u32],
    dy: &[f32],
    dx: &mut [f32],
    grads: &mut Grads,
) {
    let (t, c, f) = (starts.len(), spec.width, spec.ff);
    let (qkv_len, out_len) = (spec.heads.qkv_len(), spec.heads.out_len());
    let s = saved.parts(spec, t);
    let mut normed = Buffer::take(t * c);
    let mut d_normed = Buffer::take(t * c);
    let mut sink = Sink {
        spec,
        wanted,
        grads,
        t,
    };

    // down and SwiGLU
    let mut h = Buffer::take(t * f);
    let mut d_gate_up = Buffer::take(t * 2 * f);
    swiglu::forward(s.gate_up, f, &mut h);
    sink.linear(&[DOWN], dy, c, &h, f);
    let dh = &mut h;
    gemm(
        Store::Set,
        1.0,
        Mat::new(dy, t, c),
        Mat::new(&w.down, c, f),
        MatMut::new(dh, t, f),
    );
    swiglu::backward(s.gate_up, f, dh, &mut d_gate_up);

    // gate, up and the second norm; dx becomes the gradient of x1
    rmsnorm::replay(s.x1, &w.ffn_norm, s.inv_rms_ffn, &mut normed);
    sink.linear(&[GATE, UP], &d_gate_up, 2 * f, &normed, c);
    gemm(
        Store::Set,
        1.0,
        Mat::new(&d_gate_up, t, 2 * f),
        Mat::new(&w.gate_up, 2 * f, c),
        MatMut::new(&mut d_normed, t, c),
    );
    dx.copy_from_slice(dy);
    rmsnorm::backward(
        s.x1,
        &w.ffn_norm,
        s.inv_rms_ffn,
        &d_normed,
        dx,
        sink.norm(true),
    );

    // output projection and attention
    let mut d_attn = Buffer::take(t * out_len);
    let mut d_qkv = Buffer::zeroed(t * qkv_len);
    let mut scratch = Buffer::take(spec.heads.scratch_len(t));
    sink.linear(&[O], dx, c, s.attn, out_len);
    gemm(
        Store::Set,
        1.0,
        Mat::new(dx, t, c),
        Mat::new(&w.o, c, out_len),
        MatMut::new(&mut d_attn, t, out_len),
    );
    attention::backward(
        spec.heads,
        s.qkv,
        Visible::Causal(starts),
        s.attn,
        s.lse,
        &d_attn,
        &mut d_qkv,
        &mut scratch,
    );
    spec.rope
        .rotate(&mut d_qkv, qkv_len, spec.heads.query + spec.heads.kv, -1.0);

    // q, k, v and the first norm
    rmsnorm::replay(s.x, &w.attn_norm, s.inv_rms_attn, &mut normed);
    sink.linear(&[Q, K, V], &d_qkv, qkv_len, &normed, c);
    gemm(
        Store::Set,
        1.0,
        Mat::new(&d_qkv, t, qkv_len),
        Mat::new(&w.qkv, qkv_len, c),
        MatMut::new(&mut d_normed, t, c),
    );
    rmsnorm::backward(
        s.x,
        &w.attn_norm,
        s.inv_rms_attn,
        &d_normed,
        dx,
        sink.norm(false),
    );
}

/// Hands each linear layer's `(dy, x)` to where its gradient is summed.
struct Sink<'a, 'w> {
    spec: &'a Spec,
    wanted: Wanted<'w>,
    grads: &'a mut Grads,
    t: usize,
}

impl Sink<'_, '_> {
    /// `which` are the fused layers, `dy` `[T, out_total]`, `x` `[T, inputs]`.
    fn linear(&mut self, which: &[usize], dy: &[f32], out_total: usize, x: &[f32], inputs: usize) {
        let t = self.t;
        let x = Mat::new(x, t, inputs);
        match (&mut *self.grads, self.wanted) {
            (Grads::Full(g), _) => {
                let dw = match which[0] {
                    Q => &mut g.qkv,
                    O => &mut g.o,
                    GATE => &mut g.gate_up,
                    _ => &mut g.down,
                };
                full_grad(Mat::new(dy, t, out_total), x, dw, out_total, inputs);
            }
            (Grads::LowRank(sums), Wanted::LowRank(pairs)) => {
                let shapes = self.spec.linear_shapes();
                let mut column = 0;
                for &i in which {
                    let (out, _) = shapes[i];
                    let (da, db) = &mut sums[i];
                    let mut scratch = Buffer::take(t * pairs[i].rank);
                    let dy = Mat::strided(&dy[column..], t, out, out_total);
                    low_rank_grad(dy, x, pairs[i], da, db, (t, out, inputs), &mut scratch);
                    column += out;
                }
            }
            _ => {}
        }
    }

    fn norm(&mut self, ffn: bool) -> Option<&mut [f32]> {
        match &mut *self.grads {
            Grads::Full(g) => Some(if ffn {
                &mut g.ffn_norm
            } else {
                &mut g.attn_norm
            }),
            _ => None,
        }
    }
}
