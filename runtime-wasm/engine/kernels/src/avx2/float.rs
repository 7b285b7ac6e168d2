//! Float weights against `f32` activations: one vector is the eight lanes.
//!
//! A length that is no multiple of eight ends in a vector padded with zeros.
//! That changes nothing: a lane starts at +0 and so never holds -0, and adding
//! +0 to anything else gives it back.

use std::arch::x86_64::*;

use super::f16c::widen;
use super::reduce::{fold, fold_each};
use crate::check_product;

/// A type of float weights.
pub(super) trait Float {
    /// Bytes of one.
    const BYTES: usize;

    /// Eight of them as `f32`.
    ///
    /// # Safety
    /// The CPU has AVX2 and F16C, and `8 * BYTES` bytes can be read at `w`.
    unsafe fn load(w: *const u8) -> __m256;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;

impl Float for F32 {
    const BYTES: usize = 4;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn load(w: *const u8) -> __m256 {
        // SAFETY: the caller's promise; any alignment will do.
        unsafe { _mm256_loadu_ps(w.cast()) }
    }
}

impl Float for F16 {
    const BYTES: usize = 2;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn load(w: *const u8) -> __m256 {
        // SAFETY: the caller's promise; any alignment will do.
        widen(unsafe { _mm_loadu_si128(w.cast()) })
    }
}

impl Float for Bf16 {
    const BYTES: usize = 2;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn load(w: *const u8) -> __m256 {
        // SAFETY: the caller's promise; any alignment will do.
        let upper = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(w.cast()) });
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(upper))
    }
}

/// The first `n < 8` of them, then zeros.
///
/// # Safety
/// The CPU has AVX2 and F16C, and `n * BYTES` bytes can be read at `w`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn load_part<F: Float>(w: *const u8, n: usize) -> __m256 {
    let mut padded = [0_u8; 32];
    // SAFETY: `n * BYTES` is at most 28; the rest of `padded` is zero.
    unsafe {
        std::ptr::copy_nonoverlapping(w, padded.as_mut_ptr(), n * F::BYTES);
        F::load(padded.as_ptr())
    }
}

/// Lanes of A rows of `F` against B rows of `f32`, all of `len`; A or B is 1.
///
/// # Safety
/// The CPU has AVX2 and F16C, and each pointer has `len` elements.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn dots<F: Float, const A: usize, const B: usize>(
    w: [*const u8; A],
    x: [*const f32; B],
    len: usize,
) -> [[__m256; B]; A] {
    let mut sums = [[_mm256_setzero_ps(); B]; A];
    let whole = len - len % 8;
    // SAFETY: `i + 8 <= len`, and afterwards `whole + len % 8 == len`.
    unsafe {
        let mut i = 0;
        while i < whole {
            for (sums, w) in sums.iter_mut().zip(w) {
                let w = F::load(w.add(i * F::BYTES));
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = _mm256_add_ps(*sum, _mm256_mul_ps(w, _mm256_loadu_ps(x.add(i))));
                }
            }
            i += 8;
        }
        if whole < len {
            for (sums, w) in sums.iter_mut().zip(w) {
                let w = load_part::<F>(w.add(whole * F::BYTES), len - whole);
                for (sum, x) in sums.iter_mut().zip(x) {
                    let x = load_part::<F32>(x.add(whole).cast(), len - whole);
                    *sum = _mm256_add_ps(*sum, _mm256_mul_ps(w, x));
                }
            }
        }
    }
    sums
}

/// `out[row] = w[row] . x`, four rows at a time.
///
/// # Safety
/// The CPU has AVX2 and F16C; `w` points at `out.len()` rows of `x.len()` elements.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn rows<F: Float>(w: *const u8, x: &[f32], out: &mut [f32]) {
    let (len, rows) = (x.len(), out.len());
    for (tile, out) in out.chunks_mut(4).enumerate() {
        let mut at = [w; 4];
        for (i, at) in at.iter_mut().enumerate() {
            // Past the last row, the last row again: its result is dropped.
            // SAFETY: the row is below `rows`.
            *at = unsafe { at.add((tile * 4 + i).min(rows - 1) * len * F::BYTES) };
        }
        // SAFETY: rows and `x` have `len` elements.
        let [[a], [b], [c], [d]] = unsafe { dots::<F, 4, 1>(at, [x.as_ptr()], len) };
        let mut folded = [0.0; 4];
        // SAFETY: `folded` has room for four floats.
        unsafe { _mm_storeu_ps(folded.as_mut_ptr(), fold_each([a, b, c, d])) };
        out.copy_from_slice(&folded[..out.len()]);
    }
}

/// One vector.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn matvec<F: Float>(weights: &[u8], x: &[f32], out: &mut [f32]) {
    check_product(weights, x.len() * F::BYTES, 1, out);
    // SAFETY: `weights` is (rows, x.len()), as was just asserted.
    unsafe { rows::<F>(weights.as_ptr(), x, out) };
}

/// Many vectors, four columns at a time.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn matmul<F: Float>(weights: &[u8], len: usize, x: &[f32], out: &mut [f32]) {
    let columns = x.len() / len.max(1);
    assert_eq!(x.len(), columns * len);
    let rows = check_product(weights, len * F::BYTES, columns, out);
    for first in (0..columns).step_by(4) {
        let real = (columns - first).min(4);
        let mut at = [x.as_ptr(); 4];
        for (i, at) in at.iter_mut().enumerate() {
            // Past the last column, the last column again: its result is dropped.
            // SAFETY: the column is below `columns`, and `x` is (columns, len).
            *at = unsafe { at.add((first + i.min(real - 1)) * len) };
        }
        for row in 0..rows {
            // SAFETY: `weights` is (rows, len), and the columns have `len` elements.
            let [sums] =
                unsafe { dots::<F, 1, 4>([weights.as_ptr().add(row * len * F::BYTES)], at, len) };
            let mut folded = [0.0; 4];
            // SAFETY: `folded` has room for four floats.
            unsafe { _mm_storeu_ps(folded.as_mut_ptr(), fold_each(sums)) };
            for (i, y) in folded[..real].iter().enumerate() {
                out[(first + i) * rows + row] = *y;
            }
        }
    }
}

/// See [`crate::scalar::dot`].
#[target_feature(enable = "avx2,f16c")]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // SAFETY: both have `a.len()` elements.
    let [[sum]] = unsafe { dots::<F32, 1, 1>([a.as_ptr().cast()], [b.as_ptr()], a.len()) };
    fold(sum)
}

/// See [`crate::scalar::dot_rows`].
#[target_feature(enable = "avx2,f16c")]
pub(super) fn dot_rows(matrix: &[f32], x: &[f32], out: &mut [f32]) {
    assert_eq!(matrix.len(), x.len() * out.len());
    if !x.is_empty() {
        // SAFETY: `matrix` is (out.len(), x.len()), as was just asserted.
        unsafe { rows::<F32>(matrix.as_ptr().cast(), x, out) };
    }
}
