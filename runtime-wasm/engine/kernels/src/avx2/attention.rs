//! Attention of the query heads that share one KV head. Meanings: `scalar/attention.rs`.

use std::arch::x86_64::*;

use super::vector;
use crate::{KEY_GROUP, check_attention};

/// Vectors of scores that one group of keys makes.
const VECTORS: usize = KEY_GROUP / 8;

/// Scores of R heads over one group of keys.
///
/// # Safety
/// `keys` points at `16 * head_dim` floats, `q` at R heads, `scores` at 16 floats in each of R rows.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn scores_of_group<const R: usize>(
    keys: *const f32,
    q: *const f32,
    scores: *mut f32,
    stride: usize,
    head_dim: usize,
) {
    let zero = [[_mm256_setzero_ps(); VECTORS]; R];
    let mut scored = zero;
    // One virtual lane after another, in the order in which they fold. No sum of them is -0, so
    // that adding the first to a zero changes nothing.
    for half in 0..2 {
        let mut fours = zero;
        for pair in 0..2 {
            let mut twos = zero;
            for lane in [half + 2 * pair, half + 2 * pair + 4] {
                let mut sums = zero;
                let mut d = lane;
                while d < head_dim {
                    // SAFETY: the caller's promise; d is below head_dim.
                    unsafe { add_products(&mut sums, keys.add(d * KEY_GROUP), q.add(d), head_dim) };
                    d += 8;
                }
                add(&mut twos, sums);
            }
            add(&mut fours, twos);
        }
        add(&mut scored, fours);
    }
    for (r, sums) in scored.into_iter().enumerate() {
        for (i, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm256_storeu_ps(scores.add(r * stride + 8 * i), sum) };
        }
    }
}

/// `sums[r] += keys * q[r]`.
///
/// # Safety
/// 16 floats can be read at `keys`, one at `q` and at each of the `R - 1` that follow every `stride`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn add_products<const R: usize>(
    sums: &mut [[__m256; VECTORS]; R],
    keys: *const f32,
    q: *const f32,
    stride: usize,
) {
    for (r, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let q = unsafe { _mm256_broadcast_ss(&*q.add(r * stride)) };
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let keys = unsafe { _mm256_loadu_ps(keys.add(8 * i)) };
            *sum = _mm256_add_ps(*sum, _mm256_mul_ps(keys, q));
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn add<const R: usize>(a: &mut [[__m256; VECTORS]; R], b: [[__m256; VECTORS]; R]) {
    for r in 0..R {
        for i in 0..VECTORS {
            a[r][i] = _mm256_add_ps(a[r][i], b[r][i]);
        }
    }
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn attention_scores(
    keys: &[f32],
    q: &[f32],
    scores: &mut [f32],
    stride: usize,
    head_dim: usize,
) {
    let [positions, heads] = check_attention(keys, q, scores, stride, head_dim);
    assert!(positions.is_multiple_of(KEY_GROUP));
    for position in (0..positions).step_by(KEY_GROUP) {
        let keys = keys[position * head_dim..].as_ptr();
        let mut r = 0;
        while r < heads {
            let q = q[r * head_dim..].as_ptr();
            let scores = scores[r * stride + position..].as_mut_ptr();
            // SAFETY: `check_attention` found so many heads, positions and scores.
            unsafe {
                if heads - r >= 2 {
                    scores_of_group::<2>(keys, q, scores, stride, head_dim);
                } else {
                    scores_of_group::<1>(keys, q, scores, stride, head_dim);
                }
            }
            r += 2;
        }
    }
}

/// Elements `first..first + 8 * N` of R heads of `out`.
///
/// # Safety
/// `values` points at `positions` vectors, `scores` at as many floats in each of R rows, `out` at R
/// heads, and `first + 8 * N` is at most `head_dim`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn values_of_heads<const R: usize, const N: usize>(
    values: *const f32,
    scores: *const f32,
    [positions, stride, head_dim, first]: [usize; 4],
    out: *mut f32,
) {
    let mut sums = [[_mm256_setzero_ps(); N]; R];
    // SAFETY: the caller's promise.
    unsafe {
        for (r, sums) in sums.iter_mut().enumerate() {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = _mm256_loadu_ps(out.add(r * head_dim + first + 8 * i));
            }
        }
        for t in 0..positions {
            let values = values.add(t * head_dim + first);
            for (r, sums) in sums.iter_mut().enumerate() {
                let score = _mm256_broadcast_ss(&*scores.add(r * stride + t));
                for (i, sum) in sums.iter_mut().enumerate() {
                    let product = _mm256_mul_ps(score, _mm256_loadu_ps(values.add(8 * i)));
                    *sum = _mm256_add_ps(*sum, product);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (i, sum) in sums.into_iter().enumerate() {
                _mm256_storeu_ps(out.add(r * head_dim + first + 8 * i), sum);
            }
        }
    }
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn attention_values(
    values: &[f32],
    scores: &[f32],
    stride: usize,
    head_dim: usize,
    out: &mut [f32],
) {
    let [positions, heads] = check_attention(values, out, scores, stride, head_dim);
    if !head_dim.is_multiple_of(32) {
        for (out, scores) in out.chunks_exact_mut(head_dim).zip(scores.chunks(stride)) {
            vector::axpy_rows(&scores[..positions], values, out);
        }
        return;
    }
    let values = values.as_ptr();
    for r in (0..heads).step_by(2) {
        let scores = scores[r * stride..].as_ptr();
        let out = out[r * head_dim..].as_mut_ptr();
        for first in (0..head_dim).step_by(32) {
            let shape = [positions, stride, head_dim, first];
            // SAFETY: `check_attention` found so many heads, positions and scores.
            unsafe {
                if heads - r >= 2 {
                    values_of_heads::<2, 4>(values, scores, shape, out);
                } else {
                    values_of_heads::<1, 4>(values, scores, shape, out);
                }
            }
        }
    }
}

/// The scalar code, which these features turn into vectors of its own loops.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn widen_keys(quants: &[i8], scales: &[f32], head_dim: usize, out: &mut [f32]) {
    crate::scalar::widen_keys(quants, scales, head_dim, out);
}

/// See [`widen_keys`].
#[target_feature(enable = "avx2,f16c")]
pub(super) fn widen_values(quants: &[i8], scales: &[f32], head_dim: usize, out: &mut [f32]) {
    crate::scalar::widen_values(quants, scales, head_dim, out);
}
