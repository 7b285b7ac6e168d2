//! Float weights against `f32` activations: two vectors are the eight lanes.
//!
//! A length that is no multiple of eight ends in lanes padded with zeros.
//! That changes nothing: a lane starts at +0 and so never holds -0, and adding
//! +0 to anything else gives it back.

use core::arch::wasm32::*;

use super::reduce::{Lanes, fold, fold_each, to_array, widen, zero};
use crate::check_product;

/// A type of float weights.
pub(super) trait Float {
    /// Bytes of one.
    const BYTES: usize;

    /// Eight of them as `f32`.
    ///
    /// # Safety
    /// `8 * BYTES` bytes can be read at `w`.
    unsafe fn load(w: *const u8) -> Lanes;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;

impl Float for F32 {
    const BYTES: usize = 4;

    #[inline]
    unsafe fn load(w: *const u8) -> Lanes {
        // SAFETY: the caller's promise; any alignment will do.
        unsafe { [v128_load(w.cast()), v128_load(w.add(16).cast())] }
    }
}

impl Float for F16 {
    const BYTES: usize = 2;

    #[inline]
    unsafe fn load(w: *const u8) -> Lanes {
        // SAFETY: the caller's promise; any alignment will do.
        let halves = unsafe { v128_load(w.cast()) };
        [
            widen(u32x4_extend_low_u16x8(halves)),
            widen(u32x4_extend_high_u16x8(halves)),
        ]
    }
}

impl Float for Bf16 {
    const BYTES: usize = 2;

    #[inline]
    unsafe fn load(w: *const u8) -> Lanes {
        // SAFETY: the caller's promise; any alignment will do.
        let uppers = unsafe { v128_load(w.cast()) };
        [
            u32x4_shl(u32x4_extend_low_u16x8(uppers), 16),
            u32x4_shl(u32x4_extend_high_u16x8(uppers), 16),
        ]
    }
}

/// The first `n < 8` of them, then zeros.
///
/// # Safety
/// `n * BYTES` bytes can be read at `w`.
#[inline]
unsafe fn load_part<F: Float>(w: *const u8, n: usize) -> Lanes {
    let mut padded = [0_u8; 32];
    // SAFETY: `n * BYTES` is at most 28; the rest of `padded` is zero.
    unsafe {
        core::ptr::copy_nonoverlapping(w, padded.as_mut_ptr(), n * F::BYTES);
        F::load(padded.as_ptr())
    }
}

/// `sum + a * b` in each lane, rounded twice.
#[inline]
fn add_product(sum: Lanes, a: Lanes, b: Lanes) -> Lanes {
    [
        f32x4_add(sum[0], f32x4_mul(a[0], b[0])),
        f32x4_add(sum[1], f32x4_mul(a[1], b[1])),
    ]
}

/// Lanes of A rows of `F` against B rows of `f32`, all of `len`; A or B is 1.
///
/// # Safety
/// Each pointer has `len` elements.
#[inline]
unsafe fn dots<F: Float, const A: usize, const B: usize>(
    w: [*const u8; A],
    x: [*const f32; B],
    len: usize,
) -> [[Lanes; B]; A] {
    let mut sums = [[zero(); B]; A];
    let whole = len - len % 8;
    // SAFETY: `i + 8 <= len`, and afterwards `whole + len % 8 == len`.
    unsafe {
        let mut i = 0;
        while i < whole {
            for (sums, w) in sums.iter_mut().zip(w) {
                let w = F::load(w.add(i * F::BYTES));
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = add_product(*sum, w, F32::load(x.add(i).cast()));
                }
            }
            i += 8;
        }
        if whole < len {
            for (sums, w) in sums.iter_mut().zip(w) {
                let w = load_part::<F>(w.add(whole * F::BYTES), len - whole);
                for (sum, x) in sums.iter_mut().zip(x) {
                    let x = load_part::<F32>(x.add(whole).cast(), len - whole);
                    *sum = add_product(*sum, w, x);
                }
            }
        }
    }
    sums
}

/// `out[row] = w[row] . x`, four rows at a time.
///
/// # Safety
/// `w` points at `out.len()` rows of `x.len()` elements.
#[inline]
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
        out.copy_from_slice(&to_array(fold_each([a, b, c, d]))[..out.len()]);
    }
}

/// One vector.
pub(super) fn matvec<F: Float>(weights: &[u8], x: &[f32], out: &mut [f32]) {
    check_product(weights, x.len() * F::BYTES, 1, out);
    // SAFETY: `weights` is (rows, x.len()), as was just asserted.
    unsafe { rows::<F>(weights.as_ptr(), x, out) };
}

/// Many vectors, four columns at a time.
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
            for (i, y) in to_array(fold_each(sums))[..real].iter().enumerate() {
                out[(first + i) * rows + row] = *y;
            }
        }
    }
}

/// See [`crate::scalar::dot`].
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // SAFETY: both have `a.len()` elements.
    let [[sum]] = unsafe { dots::<F32, 1, 1>([a.as_ptr().cast()], [b.as_ptr()], a.len()) };
    fold(sum)
}

/// See [`crate::scalar::dot_rows`].
pub(super) fn dot_rows(matrix: &[f32], x: &[f32], out: &mut [f32]) {
    assert_eq!(matrix.len(), x.len() * out.len());
    if !x.is_empty() {
        // SAFETY: `matrix` is (out.len(), x.len()), as was just asserted.
        unsafe { rows::<F32>(matrix.as_ptr().cast(), x, out) };
    }
}
