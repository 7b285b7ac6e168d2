//! Causal grouped-query attention over one layer's cache.

use super::{Columns, Op};
use crate::model::GpuModel;

/// The longest head: a query lies in workgroup memory, and a thread keeps four sums.
pub(crate) const HEAD_DIM_MAX: usize = 256;

/// `q` and `out` are (C, n_head, head_dim), `keys` and `values` (T, n_head_kv, head_dim).
pub(crate) fn attention(
    model: &GpuModel,
    step: &wgpu::Buffer,
    q: &wgpu::Buffer,
    keys: &wgpu::Buffer,
    values: &wgpu::Buffer,
    out: &wgpu::Buffer,
) -> Op {
    let config = &model.config;
    let scale = 1.0 / (config.head_dim as f32).sqrt();
    let n_head = config.n_head as u32;
    Op::new(
        &model.gpu,
        &model.attention,
        step,
        [
            n_head,
            config.n_head_kv as u32,
            config.head_dim as u32,
            scale.to_bits(),
        ],
        &[q, keys, values, out],
        n_head,
        Columns::Each(1),
    )
}

/// What the kernel computes for one column: all of `keys` and `values` (T, n_head_kv, head_dim) are
/// visible to `q` (n_head, head_dim).
#[cfg(test)]
pub(crate) fn scalar(
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    [n_head, n_head_kv, head_dim]: [usize; 3],
) -> Vec<f32> {
    let width = n_head_kv * head_dim;
    let mut out = vec![0.0; q.len()];
    let heads = q.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim));
    for (head, (q, out)) in heads.enumerate() {
        let at = head / (n_head / n_head_kv) * head_dim;
        let score = |k: &[f32]| -> f32 {
            let dot: f32 = q.iter().zip(&k[at..]).map(|(q, k)| q * k).sum();
            dot / (head_dim as f32).sqrt()
        };
        let scores: Vec<f32> = keys.chunks_exact(width).map(score).collect();
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = scores.iter().map(|s| (s - largest).exp()).collect();
        let sum: f32 = weights.iter().sum();
        for (weight, v) in weights.iter().zip(values.chunks_exact(width)) {
            for (out, v) in out.iter_mut().zip(&v[at..]) {
                *out += weight / sum * v;
            }
        }
    }
    out
}
