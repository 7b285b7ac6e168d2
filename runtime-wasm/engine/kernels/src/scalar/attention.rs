//! Attention of the query heads that share one KV head.
//!
//! ```text
//! keys     (T / 16, head_dim, 16)   woven: element d of 16 positions, then element d + 1 of them
//! values   (T, head_dim)
//! scores   (R, stride), of which T in each row are used
//! ```

use super::fold;
use super::vector::axpy_rows;
use crate::{KEY_GROUP, check_attention};

/// `scores[r][t] = keys[t] . q[r]`, each in eight lanes: `keys` (T / 16, head_dim, 16) woven, `q`
/// (R, head_dim), `scores` (R, stride).
pub fn attention_scores(
    keys: &[f32],
    q: &[f32],
    scores: &mut [f32],
    stride: usize,
    head_dim: usize,
) {
    let [positions, _] = check_attention(keys, q, scores, stride, head_dim);
    assert!(positions.is_multiple_of(KEY_GROUP));
    for (q, scores) in q.chunks_exact(head_dim).zip(scores.chunks_mut(stride)) {
        let groups = keys.chunks_exact(head_dim * KEY_GROUP);
        for (group, scores) in groups.zip(scores.chunks_exact_mut(KEY_GROUP)) {
            let mut lanes = [[0.0; 8]; KEY_GROUP];
            for (d, (keys, q)) in group.as_chunks::<KEY_GROUP>().0.iter().zip(q).enumerate() {
                for (lanes, key) in lanes.iter_mut().zip(keys) {
                    lanes[d % 8] += key * q;
                }
            }
            scores.copy_from_slice(&lanes.map(fold));
        }
    }
}

/// `out[r] += scores[r][t] * values[t]` for each `t` in order: `values` (T, head_dim), `out`
/// (R, head_dim).
pub fn attention_values(
    values: &[f32],
    scores: &[f32],
    stride: usize,
    head_dim: usize,
    out: &mut [f32],
) {
    let [positions, _] = check_attention(values, out, scores, stride, head_dim);
    for (out, scores) in out.chunks_exact_mut(head_dim).zip(scores.chunks(stride)) {
        axpy_rows(&scores[..positions], values, out);
    }
}

/// Keys of 8 bits as `f32`, `out[..][t] = quants[..][t] * scales[t]`: `quants` and `out`
/// (T / 16, head_dim, 16) woven, `scales` (T).
#[inline(always)]
pub fn widen_keys(quants: &[i8], scales: &[f32], head_dim: usize, out: &mut [f32]) {
    assert!(quants.len() == out.len() && scales.len() * head_dim == out.len() && head_dim > 0);
    let groups = quants.chunks_exact(head_dim * KEY_GROUP);
    let groups = groups.zip(out.chunks_exact_mut(head_dim * KEY_GROUP));
    for ((quants, out), scales) in groups.zip(scales.as_chunks::<KEY_GROUP>().0) {
        let elements = quants.as_chunks::<KEY_GROUP>().0;
        for (quants, out) in elements.iter().zip(out.as_chunks_mut::<KEY_GROUP>().0) {
            for ((y, &q), scale) in out.iter_mut().zip(quants).zip(scales) {
                *y = f32::from(q) * scale;
            }
        }
    }
}

/// Values of 8 bits as `f32`, `out[t] = quants[t] * scales[t]`: `quants` and `out` (T, head_dim),
/// `scales` (T).
#[inline(always)]
pub fn widen_values(quants: &[i8], scales: &[f32], head_dim: usize, out: &mut [f32]) {
    assert!(quants.len() == out.len() && scales.len() * head_dim == out.len() && head_dim > 0);
    let vectors = quants.chunks_exact(head_dim).zip(scales);
    for ((quants, scale), out) in vectors.zip(out.chunks_exact_mut(head_dim)) {
        for (y, &q) in out.iter_mut().zip(quants) {
            *y = f32::from(q) * scale;
        }
    }
}
