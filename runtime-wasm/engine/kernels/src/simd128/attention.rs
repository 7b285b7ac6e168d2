//! Attention of the query heads that share one KV head. Meanings: `scalar/attention.rs`.
//!
//! Two heads at a time, so that a key or a value is loaded once for both; eight sums and what
//! they are made of stay in registers.

use core::arch::wasm32::*;

use super::vector::axpy_rows;
use crate::{KEY_GROUP, check_attention, scalar};

/// Vectors of scores that are formed at once.
const VECTORS: usize = 2;
/// Vectors of elements that values are added to at once.
const ELEMENTS: usize = 4;

/// R heads times so many vectors.
type Sums<const R: usize> = [[v128; VECTORS]; R];

/// One virtual lane of the scores of R heads over eight keys: the sum over elements `lane`,
/// `lane + 8` and so on, which begins with the first product. Where the order from 0 gives +0, it
/// may be -0.
///
/// # Safety
/// `keys` points at `head_dim` runs of eight floats, one every 16, `q` at R heads; `lane` is below
/// `head_dim`.
#[inline(always)]
unsafe fn lane<const R: usize>(
    keys: *const f32,
    q: *const f32,
    head_dim: usize,
    lane: usize,
) -> Sums<R> {
    // SAFETY: the caller's promise; d is below head_dim.
    let products = |d: usize| unsafe {
        let keys = keys.add(d * KEY_GROUP).cast::<v128>();
        let keys = [v128_load(keys), v128_load(keys.add(1))];
        let mut products = [keys; R];
        for (r, products) in products.iter_mut().enumerate() {
            let q = v128_load32_splat(q.add(r * head_dim + d).cast());
            *products = keys.map(|keys| f32x4_mul(keys, q));
        }
        products
    };
    let mut sums = products(lane);
    let mut d = lane + 8;
    while d < head_dim {
        sums = add(sums, products(d));
        d += 8;
    }
    sums
}

#[inline(always)]
fn add<const R: usize>(mut a: Sums<R>, b: Sums<R>) -> Sums<R> {
    for (a, b) in a.iter_mut().zip(b) {
        for (a, b) in a.iter_mut().zip(b) {
            *a = f32x4_add(*a, b);
        }
    }
    a
}

/// Scores of R heads over eight keys.
///
/// # Safety
/// As for [`lane`], and `scores` points at eight floats in each of R rows; `head_dim` is at least 8.
#[inline]
unsafe fn scores_of_keys<const R: usize>(
    keys: *const f32,
    q: *const f32,
    scores: *mut f32,
    stride: usize,
    head_dim: usize,
) {
    // SAFETY: the caller's promise.
    let lane = |i: usize| unsafe { lane::<R>(keys, q, head_dim, i) };
    // Lanes in the order in which they fold.
    let even = add(add(lane(0), lane(4)), add(lane(2), lane(6)));
    let odd = add(add(lane(1), lane(5)), add(lane(3), lane(7)));
    for (r, sums) in add(even, odd).into_iter().enumerate() {
        for (i, sum) in sums.into_iter().enumerate() {
            // Sums from 0 on are never -0.
            let sum = f32x4_add(sum, f32x4_splat(0.0));
            // SAFETY: the caller's promise.
            unsafe { v128_store(scores.add(r * stride + 4 * i).cast(), sum) };
        }
    }
}

pub(super) fn attention_scores(
    keys: &[f32],
    q: &[f32],
    scores: &mut [f32],
    stride: usize,
    head_dim: usize,
) {
    let [positions, heads] = check_attention(keys, q, scores, stride, head_dim);
    assert!(positions.is_multiple_of(KEY_GROUP));
    if head_dim < 8 {
        return scalar::attention_scores(keys, q, scores, stride, head_dim);
    }
    for position in (0..positions).step_by(4 * VECTORS) {
        let at = position / KEY_GROUP * KEY_GROUP * head_dim + position % KEY_GROUP;
        for r in (0..heads).step_by(2) {
            let (keys, q) = (keys[at..].as_ptr(), q[r * head_dim..].as_ptr());
            let scores = scores[r * stride + position..].as_mut_ptr();
            // SAFETY: `check_attention` found so many heads, positions and scores.
            unsafe {
                if heads - r >= 2 {
                    scores_of_keys::<2>(keys, q, scores, stride, head_dim);
                } else {
                    scores_of_keys::<1>(keys, q, scores, stride, head_dim);
                }
            }
        }
    }
}

/// Elements `first..first + 16` of R heads of `out`.
///
/// # Safety
/// `values` points at `positions` vectors, `scores` at as many floats in each of R rows, `out` at R
/// heads, and `first + 16` is at most `head_dim`.
#[inline]
unsafe fn values_of_heads<const R: usize>(
    values: *const f32,
    scores: *const f32,
    [positions, stride, head_dim, first]: [usize; 4],
    out: *mut f32,
) {
    let mut sums = [[f32x4_splat(0.0); ELEMENTS]; R];
    // SAFETY: the caller's promise.
    unsafe {
        for (r, sums) in sums.iter_mut().enumerate() {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = v128_load(out.add(r * head_dim + first + 4 * i).cast());
            }
        }
        for t in 0..positions {
            let values = values.add(t * head_dim + first).cast::<v128>();
            for (r, sums) in sums.iter_mut().enumerate() {
                let score = v128_load32_splat(scores.add(r * stride + t).cast());
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = f32x4_add(*sum, f32x4_mul(score, v128_load(values.add(i))));
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (i, sum) in sums.into_iter().enumerate() {
                v128_store(out.add(r * head_dim + first + 4 * i).cast(), sum);
            }
        }
    }
}

pub(super) fn attention_values(
    values: &[f32],
    scores: &[f32],
    stride: usize,
    head_dim: usize,
    out: &mut [f32],
) {
    let [positions, heads] = check_attention(values, out, scores, stride, head_dim);
    if !head_dim.is_multiple_of(4 * ELEMENTS) {
        for (out, scores) in out.chunks_exact_mut(head_dim).zip(scores.chunks(stride)) {
            axpy_rows(&scores[..positions], values, out);
        }
        return;
    }
    for r in (0..heads).step_by(2) {
        let scores = scores[r * stride..].as_ptr();
        let out = out[r * head_dim..].as_mut_ptr();
        for first in (0..head_dim).step_by(4 * ELEMENTS) {
            let shape = [positions, stride, head_dim, first];
            // SAFETY: `check_attention` found so many heads, positions and scores.
            unsafe {
                if heads - r >= 2 {
                    values_of_heads::<2>(values.as_ptr(), scores, shape, out);
                } else {
                    values_of_heads::<1>(values.as_ptr(), scores, shape, out);
                }
            }
        }
    }
}
