//! The output head: final norm, tied logits and weighted cross-entropy, with its gradient formed in the
//! same pass, so that the `[T, V]` logits never exist at once.

use rayon::prelude::*;

use super::buffers::Buffer;
use super::gemm::{Mat, MatMut, Store, gemm};
use super::math::{self, exp};
use super::rmsnorm;

/// Rows of logits formed at once: 128 x 8,192 floats are 4 MiB.
const CHUNK: usize = 128;

/// Loss and gradients of the head over one batch.
pub struct HeadOutput {
    /// Sum over positions of `weight * -ln p(target)`.
    pub loss_sum: f64,
    /// Gradient of `loss_sum` for the input, `[N, C]`; empty when not wanted.
    pub dx: Vec<f32>,
    /// Gradients for the norm `[C]` and the embedding `[V, C]`; empty when not wanted.
    pub d_norm: Vec<f32>,
    /// See `d_norm`.
    pub d_embed: Vec<f32>,
}

/// What [`run`] forms besides the loss.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The loss alone.
    Loss,
    /// And the input's gradient.
    Input,
    /// And the weights' gradients.
    All,
}

/// `x` `[N, C]`, `norm` `[C]`, `embed` `[V, C]`, `targets` and `weights` `[N]`.
pub fn run(
    wanted: Wanted,
    x: &[f32],
    norm: &[f32],
    embed: &[f32],
    targets: &[u32],
    weights: &[f32],
    rms_eps: f32,
) -> HeadOutput {
    let (n, c, v) = (targets.len(), norm.len(), embed.len() / norm.len());
    let run = n
        .div_ceil(rayon::current_num_threads().max(1))
        .next_multiple_of(CHUNK);
    let mut parts: Vec<HeadOutput> = (0..n.div_ceil(run))
        .into_par_iter()
        .map(|part| {
            let rows = part * run..((part + 1) * run).min(n);
            let mut out = HeadOutput {
                loss_sum: 0.0,
                dx: vec![
                    0.0;
                    if wanted == Wanted::Loss {
                        0
                    } else {
                        rows.len() * c
                    }
                ],
                d_norm: vec![0.0; if wanted == Wanted::All { c } else { 0 }],
                d_embed: vec![0.0; if wanted == Wanted::All { v * c } else { 0 }],
            };
            let mut logits = Buffer::take(CHUNK * v);
            let mut normed = Buffer::take(CHUNK * c);
            let mut d_normed = Buffer::take(CHUNK * c);
            let mut inv_rms = [0.0f32; CHUNK];
            for r0 in rows.clone().step_by(CHUNK) {
                let m = CHUNK.min(rows.end - r0);
                let x = &x[r0 * c..][..m * c];
                let (normed, logits) = (&mut normed[..m * c], &mut logits[..m * v]);
                rmsnorm::forward(x, norm, rms_eps, normed, &mut inv_rms[..m]);
                gemm(
                    Store::Set,
                    1.0,
                    Mat::new(normed, m, c),
                    Mat::new(embed, v, c).t(),
                    MatMut::new(logits, m, v),
                );
                for i in 0..m {
                    let row = &mut logits[i * v..][..v];
                    out.loss_sum +=
                        f64::from(loss_row(row, targets[r0 + i] as usize, weights[r0 + i]));
                }
                if wanted == Wanted::Loss {
                    continue;
                }
                let d_logits = Mat::new(logits, m, v);
                let d_normed = &mut d_normed[..m * c];
                gemm(
                    Store::Set,
                    1.0,
                    d_logits,
                    Mat::new(embed, v, c),
                    MatMut::new(d_normed, m, c),
                );
                if wanted == Wanted::All {
                    gemm(
                        Store::Add,
                        1.0,
                        d_logits.t(),
                        Mat::new(normed, m, c),
                        MatMut::new(&mut out.d_embed, v, c),
                    );
                }
                let dx = &mut out.dx[(r0 - rows.start) * c..][..m * c];
                let d_norm = (wanted == Wanted::All).then_some(&mut out.d_norm[..]);
                rmsnorm::backward(x, norm, &inv_rms[..m], d_normed, dx, d_norm);
            }
            out
        })
        .collect();
    let mut total = parts.remove(0);
    for part in parts {
        total.loss_sum += part.loss_sum;
        total.dx.extend_from_slice(&part.dx);
        math::add_assign(&mut total.d_norm, &part.d_norm);
        math::add_assign(&mut total.d_embed, &part.d_embed);
    }
    total
}

/// Replaces a row of logits by `weight * (softmax - onehot)` and returns `weight * -ln p(target)`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn loss_row(row: &mut [f32], target: usize, weight: f32) -> f32 {
    if weight == 0.0 {
        row.fill(0.0);
        return 0.0;
    }
    let mut maxima = [f32::NEG_INFINITY; 16];
    for chunk in row.chunks(16) {
        for (m, v) in maxima.iter_mut().zip(chunk) {
            *m = if *v > *m { *v } else { *m };
        }
    }
    let max = maxima.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let wanted = row[target];
    let mut sums = [0.0f32; 16];
    for chunk in row.chunks_mut(16) {
        for (s, v) in sums.iter_mut().zip(chunk) {
            *v = exp(*v - max);
            *s += *v;
        }
    }
    let sum: f32 = sums.iter().sum();
    let scale = weight / sum;
    for v in row.iter_mut() {
        *v *= scale;
    }
    row[target] -= weight;
    weight * (max + sum.ln() - wanted)
}
