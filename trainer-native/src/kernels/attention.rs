//! Grouped-query attention inside documents, causal or not, forward and backward, for one row of them.
//!
//! Positions are handled 64 at a time. A block of them needs only the keys from the first document start
//! in it up to the last position that one of them may see, so packed short documents cost what they
//! would cost alone:
//!
//! ```text
//!                 keys  start[r0] ............ end[r1 - 1]
//! positions r0..r1      [ S = scale * Q K^T, masked ]  ->  softmax  ->  P V
//! ```
//!
//! The forward pass keeps one log-sum-exp a row and head; the backward pass recomputes the
//! probabilities from it (Dao et al. 2022).

use std::ops::Range;

use super::gemm::{Mat, MatMut, Store, gemm};
use super::math::exp;

/// Rows handled at once: 64 x 1,024 scores are 256 KiB, which stays in the second-level cache.
const BLOCK: usize = 64;

/// Head counts and width; a row of `qkv` is `H * D` queries, `K * D` keys, `K * D` values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads `H`.
    pub query: usize,
    /// Key/value heads `K`; each serves `H / K` query heads.
    pub kv: usize,
    /// Head width `D`.
    pub width: usize,
}

impl Heads {
    /// Length of one row of `qkv`: `(H + 2K) * D`.
    pub fn qkv_len(&self) -> usize {
        (self.query + 2 * self.kv) * self.width
    }

    /// Length of one row of the output: `H * D`.
    pub fn out_len(&self) -> usize {
        self.query * self.width
    }

    fn offsets(&self, head: usize) -> (usize, usize, usize) {
        let kv = head / (self.query / self.kv);
        let k = (self.query + kv) * self.width;
        (head * self.width, k, k + self.kv * self.width)
    }

    /// Scratch floats that [`forward`] and [`backward`] need for `T` positions.
    pub fn scratch_len(&self, positions: usize) -> usize {
        2 * BLOCK * positions
    }
}

/// Which positions each position may see; neither bound ever decreases. `[T]`
#[derive(Clone, Copy, Debug)]
pub enum Visible<'a> {
    /// From a first position up to itself.
    Causal(&'a [u32]),
    /// Its whole document, `start..end`.
    Documents(&'a [(u32, u32)]),
}

impl Visible<'_> {
    /// `T`
    pub fn positions(&self) -> usize {
        match self {
            Self::Causal(starts) => starts.len(),
            Self::Documents(spans) => spans.len(),
        }
    }

    /// What position `at` sees.
    pub fn of(&self, at: usize) -> Range<usize> {
        match self {
            Self::Causal(starts) => starts[at] as usize..at + 1,
            Self::Documents(spans) => spans[at].0 as usize..spans[at].1 as usize,
        }
    }
}

/// `qkv` `[T, (H+2K) D]` (rotated, where there are rotations) -> `out` `[T, H D]`, `lse` `[T, H]`.
pub fn forward(
    heads: Heads,
    qkv: &[f32],
    visible: Visible,
    out: &mut [f32],
    lse: &mut [f32],
    scratch: &mut [f32],
) {
    let (t, d) = (visible.positions(), heads.width);
    let (row, out_row) = (heads.qkv_len(), heads.out_len());
    let scale = 1.0 / (d as f32).sqrt();
    for r0 in (0..t).step_by(BLOCK) {
        let r1 = (r0 + BLOCK).min(t);
        let (k0, rows) = (visible.of(r0).start, r1 - r0);
        let keys = visible.of(r1 - 1).end - k0;
        let scores = &mut scratch[..rows * keys];
        for head in 0..heads.query {
            let (q, k, v) = heads.offsets(head);
            let key = Mat::strided(&qkv[k0 * row + k..], keys, d, row);
            let query = Mat::strided(&qkv[r0 * row + q..], rows, d, row);
            gemm(
                Store::Set,
                scale,
                query,
                key.t(),
                MatMut::new(scores, rows, keys),
            );
            for i in 0..rows {
                let seen = visible.of(r0 + i);
                lse[(r0 + i) * heads.query + head] = softmax_row(
                    &mut scores[i * keys..][..keys],
                    seen.start - k0,
                    seen.end - k0,
                );
            }
            gemm(
                Store::Set,
                1.0,
                Mat::new(scores, rows, keys),
                Mat::strided(&qkv[k0 * row + v..], keys, d, row),
                MatMut::strided(&mut out[r0 * out_row + q..], rows, d, out_row),
            );
        }
    }
}

/// Gradient of [`forward`]: adds to `d_qkv` `[T, (H+2K) D]`, which the caller has zeroed.
#[expect(
    clippy::too_many_arguments,
    reason = "the saved tensors of one operation, each a plain slice"
)]
pub fn backward(
    heads: Heads,
    qkv: &[f32],
    visible: Visible,
    out: &[f32],
    lse: &[f32],
    d_out: &[f32],
    d_qkv: &mut [f32],
    scratch: &mut [f32],
) {
    let (t, d) = (visible.positions(), heads.width);
    let (row, out_row) = (heads.qkv_len(), heads.out_len());
    let scale = 1.0 / (d as f32).sqrt();
    for r0 in (0..t).step_by(BLOCK) {
        let r1 = (r0 + BLOCK).min(t);
        let (k0, rows) = (visible.of(r0).start, r1 - r0);
        let keys = visible.of(r1 - 1).end - k0;
        let (probs, rest) = scratch.split_at_mut(rows * keys);
        let d_probs = &mut rest[..rows * keys];
        for head in 0..heads.query {
            let (q, k, v) = heads.offsets(head);
            let query = Mat::strided(&qkv[r0 * row + q..], rows, d, row);
            let key = Mat::strided(&qkv[k0 * row + k..], keys, d, row);
            let value = Mat::strided(&qkv[k0 * row + v..], keys, d, row);
            let d_head = Mat::strided(&d_out[r0 * out_row + q..], rows, d, out_row);
            gemm(
                Store::Set,
                scale,
                query,
                key.t(),
                MatMut::new(probs, rows, keys),
            );
            gemm(
                Store::Set,
                1.0,
                d_head,
                value.t(),
                MatMut::new(d_probs, rows, keys),
            );
            for i in 0..rows {
                let seen = visible.of(r0 + i);
                let at = (r0 + i) * out_row + q;
                let dot: f32 = out[at..at + d]
                    .iter()
                    .zip(&d_out[at..at + d])
                    .map(|(a, b)| a * b)
                    .sum();
                softmax_row_backward(
                    &mut probs[i * keys..][..keys],
                    &mut d_probs[i * keys..][..keys],
                    seen.start - k0,
                    seen.end - k0,
                    lse[(r0 + i) * heads.query + head],
                    dot,
                );
            }
            let (p, dp) = (Mat::new(probs, rows, keys), Mat::new(d_probs, rows, keys));
            gemm(
                Store::Add,
                1.0,
                p.t(),
                d_head,
                MatMut::strided(&mut d_qkv[k0 * row + v..], keys, d, row),
            );
            gemm(
                Store::Add,
                scale,
                dp.t(),
                query,
                MatMut::strided(&mut d_qkv[k0 * row + k..], keys, d, row),
            );
            gemm(
                Store::Set,
                scale,
                dp,
                key,
                MatMut::strided(&mut d_qkv[r0 * row + q..], rows, d, row),
            );
        }
    }
}

/// Softmax over `row[from..to]`, zeros elsewhere; returns the log-sum-exp.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn softmax_row(row: &mut [f32], from: usize, to: usize) -> f32 {
    row[..from].fill(0.0);
    row[to..].fill(0.0);
    let row = &mut row[from..to];
    let mut maxima = [f32::NEG_INFINITY; 16];
    for chunk in row.chunks(16) {
        for (m, v) in maxima.iter_mut().zip(chunk) {
            *m = if *v > *m { *v } else { *m };
        }
    }
    let max = maxima.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let mut sums = [0.0f32; 16];
    for chunk in row.chunks_mut(16) {
        for (s, v) in sums.iter_mut().zip(chunk) {
            *v = exp(*v - max);
            *s += *v;
        }
    }
    let sum: f32 = sums.iter().sum();
    let inv = 1.0 / sum;
    for v in row.iter_mut() {
        *v *= inv;
    }
    max + sum.ln()
}

/// Turns scores into probabilities and `d_probs` into the scores' gradient `p * (dp - dot)`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn softmax_row_backward(
    scores: &mut [f32],
    d_probs: &mut [f32],
    from: usize,
    to: usize,
    lse: f32,
    dot: f32,
) {
    for row in [&mut *scores, &mut *d_probs] {
        row[..from].fill(0.0);
        row[to..].fill(0.0);
    }
    for (s, d) in scores[from..to].iter_mut().zip(&mut d_probs[from..to]) {
        let p = exp(*s - lse);
        *s = p;
        *d = p * (*d - dot);
    }
}
