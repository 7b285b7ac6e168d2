//! Attention of the query heads that share one KV head. Meanings: `scalar/attention.rs`.

use std::arch::x86_64::*;

use crate::{KEY_GROUP, check_attention};

/// Scores of R heads over G groups of keys.
///
/// # Safety
/// `keys` points at `16 * G * head_dim` floats, `q` at R heads, `scores` at `16 * G` floats in each
/// of R rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn scores_of_groups<const R: usize, const G: usize>(
    keys: *const f32,
    q: *const f32,
    scores: *mut f32,
    stride: usize,
    head_dim: usize,
) {
    let zero = [[_mm512_setzero_ps(); G]; R];
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
                    for (r, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: the caller's promise; d is below head_dim.
                        let q = _mm512_set1_ps(unsafe { *q.add(r * head_dim + d) });
                        for (g, sum) in sums.iter_mut().enumerate() {
                            let at = (g * head_dim + d) * KEY_GROUP;
                            // SAFETY: the caller's promise.
                            let keys = unsafe { _mm512_loadu_ps(keys.add(at)) };
                            *sum = _mm512_add_ps(*sum, _mm512_mul_ps(keys, q));
                        }
                    }
                    d += 8;
                }
                add(&mut twos, sums);
            }
            add(&mut fours, twos);
        }
        add(&mut scored, fours);
    }
    for (r, sums) in scored.into_iter().enumerate() {
        for (g, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_ps(scores.add(r * stride + KEY_GROUP * g), sum) };
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn add<const R: usize, const G: usize>(a: &mut [[__m512; G]; R], b: [[__m512; G]; R]) {
    for r in 0..R {
        for g in 0..G {
            a[r][g] = _mm512_add_ps(a[r][g], b[r][g]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn attention_scores(
    keys: &[f32],
    q: &[f32],
    scores: &mut [f32],
    stride: usize,
    head_dim: usize,
) {
    let [positions, heads] = check_attention(keys, q, scores, stride, head_dim);
    assert!(positions.is_multiple_of(KEY_GROUP));
    let mut position = 0;
    while position < positions {
        let groups = if positions - position >= 2 * KEY_GROUP {
            2
        } else {
            1
        };
        let keys = keys[position * head_dim..].as_ptr();
        let mut r = 0;
        while r < heads {
            let together = (heads - r).min(3);
            let q = q[r * head_dim..].as_ptr();
            let scores = scores[r * stride + position..].as_mut_ptr();
            // SAFETY: `check_attention` found so many heads, positions and scores.
            unsafe {
                match (together, groups) {
                    (1, 1) => scores_of_groups::<1, 1>(keys, q, scores, stride, head_dim),
                    (1, _) => scores_of_groups::<1, 2>(keys, q, scores, stride, head_dim),
                    (2, 1) => scores_of_groups::<2, 1>(keys, q, scores, stride, head_dim),
                    (2, _) => scores_of_groups::<2, 2>(keys, q, scores, stride, head_dim),
                    (_, 1) => scores_of_groups::<3, 1>(keys, q, scores, stride, head_dim),
                    (_, _) => scores_of_groups::<3, 2>(keys, q, scores, stride, head_dim),
                }
            }
            r += together;
        }
        position += groups * KEY_GROUP;
    }
}

/// Elements `first..first + 16 * N` of R heads of `out`; where N is 1 and there are fewer, as many
/// as there are.
///
/// # Safety
/// `values` points at `positions` vectors, `scores` at as many floats in each of R rows, `out` at R
/// heads; where N is more than 1, `head_dim` has all the elements.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn values_of_heads<const R: usize, const N: usize>(
    values: *const f32,
    scores: *const f32,
    [positions, stride, head_dim, first]: [usize; 4],
    out: *mut f32,
) {
    let left = (head_dim - first).min(16 * N);
    let mut sums = [[_mm512_setzero_ps(); N]; R];
    let load = |at: *const f32, i: usize| {
        // SAFETY: the caller's promise.
        let x = unsafe { std::slice::from_raw_parts(at.add(16 * i), (left - 16 * i).min(16)) };
        super::vector::load(x, 0.0)
    };
    // SAFETY: the caller's promise.
    unsafe {
        for (r, sums) in sums.iter_mut().enumerate() {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = load(out.add(r * head_dim + first), i);
            }
        }
        for t in 0..positions {
            let values = values.add(t * head_dim + first);
            for (r, sums) in sums.iter_mut().enumerate() {
                let score = _mm512_set1_ps(*scores.add(r * stride + t));
                for (i, sum) in sums.iter_mut().enumerate() {
                    let product = _mm512_mul_ps(score, load(values, i));
                    *sum = _mm512_add_ps(*sum, product);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (i, sum) in sums.into_iter().enumerate() {
                let out = out.add(r * head_dim + first + 16 * i);
                let out = std::slice::from_raw_parts_mut(out, (left - 16 * i).min(16));
                super::vector::store(out, sum);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn attention_values(
    values: &[f32],
    scores: &[f32],
    stride: usize,
    head_dim: usize,
    out: &mut [f32],
) {
    let [positions, heads] = check_attention(values, out, scores, stride, head_dim);
    let values = values.as_ptr();
    let mut r = 0;
    while r < heads {
        let together = (heads - r).min(3);
        let scores = scores[r * stride..].as_ptr();
        let out = out[r * head_dim..].as_mut_ptr();
        let mut first = 0;
        while first < head_dim {
            let shape = [positions, stride, head_dim, first];
            let left = head_dim - first;
            // SAFETY: `check_attention` found so many heads, positions and scores.
            unsafe {
                match (together, left) {
                    (1, 64..) => values_of_heads::<1, 4>(values, scores, shape, out),
                    (1, 32..) => values_of_heads::<1, 2>(values, scores, shape, out),
                    (1, _) => values_of_heads::<1, 1>(values, scores, shape, out),
                    (2, 64..) => values_of_heads::<2, 4>(values, scores, shape, out),
                    (2, 32..) => values_of_heads::<2, 2>(values, scores, shape, out),
                    (2, _) => values_of_heads::<2, 1>(values, scores, shape, out),
                    (_, 64..) => values_of_heads::<3, 4>(values, scores, shape, out),
                    (_, 32..) => values_of_heads::<3, 2>(values, scores, shape, out),
                    (_, _) => values_of_heads::<3, 1>(values, scores, shape, out),
                }
            }
            first += match left {
                64.. => 64,
                32.. => 32,
                _ => 16,
            };
        }
        r += together;
    }
}

/// The scalar code, which these features turn into vectors of its own loops.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn widen_keys(quants: &[i8], scales: &[f32], head_dim: usize, out: &mut [f32]) {
    crate::scalar::widen_keys(quants, scales, head_dim, out);
}

/// See [`widen_keys`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn widen_values(quants: &[i8], scales: &[f32], head_dim: usize, out: &mut [f32]) {
    crate::scalar::widen_values(quants, scales, head_dim, out);
}
