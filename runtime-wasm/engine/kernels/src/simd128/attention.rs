//! Attention of the query heads that share one KV head. Meanings: `scalar/attention.rs`.

use core::arch::wasm32::*;

use super::four::keep_loop;
use super::vector::axpy_rows;
use crate::{KEY_GROUP, check_attention};

/// Vectors of scores that are formed at once.
const VECTORS: usize = 2;

/// Scores of R heads over eight keys.
///
/// # Safety
/// `keys` points at `head_dim` runs of eight floats, one every 16, `q` at R heads, `scores` at eight
/// floats in each of R rows.
#[inline]
unsafe fn scores_of_keys<const R: usize>(
    keys: *const f32,
    q: *const f32,
    scores: *mut f32,
    stride: usize,
    head_dim: usize,
) {
    let zero = [[f32x4_splat(0.0); VECTORS]; R];
    let mut scored = zero;
    // One virtual lane after another, in the order in which they fold. No sum of them is -0, so
    // that adding the first to a zero changes nothing.
    for half in 0..2 {
        keep_loop(0);
        let mut fours = zero;
        for pair in 0..2 {
            keep_loop(0);
            let mut twos = zero;
            for lane in 0..2 {
                keep_loop(0);
                let mut sums = zero;
                let mut d = half + 2 * pair + 4 * lane;
                while d < head_dim {
                    // SAFETY: the caller's promise; d is below head_dim.
                    unsafe {
                        let keys = keys.add(d * KEY_GROUP).cast::<v128>();
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let q = v128_load32_splat(q.add(r * head_dim + d).cast());
                            for (i, sum) in sums.iter_mut().enumerate() {
                                *sum = f32x4_add(*sum, f32x4_mul(v128_load(keys.add(i)), q));
                            }
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
        for (i, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { v128_store(scores.add(r * stride + 4 * i).cast(), sum) };
        }
    }
}

#[inline]
fn add<const R: usize>(a: &mut [[v128; VECTORS]; R], b: [[v128; VECTORS]; R]) {
    for r in 0..R {
        for i in 0..VECTORS {
            a[r][i] = f32x4_add(a[r][i], b[r][i]);
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

pub(super) fn attention_values(
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
