//! The arithmetic that the time goes into, once per kind of CPU.
//!
//! `scalar` says what is right; every other module holds functions of the same
//! names that give **bitwise** the same results, faster. [`dispatch`] is the
//! one place that chooses, and a [`Kernels`] is the choice: holding one proves
//! that the CPU can run it.
//!
//! Four rules make the results the same everywhere:
//!
//! 1. **Integer dot products are exact.** Quantised weights meet activations
//!    quantised to 8 bits; every sum of products inside a block is an `i32`
//!    that cannot overflow, so its order does not matter.
//! 2. **A row is the sum of its blocks, in order.** With `d`, `m` the block's
//!    scale and minimum, `D` the activations' scale and `S`, `T` exact
//!    integers, a block adds one `f32`, and the sum starts from 0:
//!    ```text
//!    types without a minimum   y += (d * D) * S
//!    Q4_K, Q5_K                y += (d * D) * S - (m * D) * T
//!    Q4_1, Q5_1                y += (d * D) * S + (m * D) * T
//!    ```
//! 3. **Float dot products have eight virtual lanes.** Element `i` goes to
//!    lane `i % 8`, each lane adds in order from 0, and the lanes fold as
//!    `((0+4) + (2+6)) + ((1+5) + (3+7))`, whatever the width of the vectors.
//! 4. **No fused multiply-add**, and `exp` is [`math::exp`] or its twin.
//!
//! NaN is the exception: where one appears, it appears everywhere, but its
//! sign and payload may differ.
//!
//! Lengths are the caller's duty: the engine checks every dimension
//! against the file before a kernel sees it, and kernels assert them again.

#[cfg(any(
    target_arch = "x86_64",
    all(target_arch = "wasm32", target_feature = "simd128")
))]
mod activations;
#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod dispatch;
pub mod layout;
pub mod math;
pub mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub mod simd128;

use core::ops::Range;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use dispatch::Kernels;
pub use layout::{GROUP, Weights};

/// Activations of a K-quant weight share a scale in blocks of this many.
pub const Q8K_LEN: usize = 256;
/// Activations of any other quantised weight share a scale in blocks of this many.
pub const Q8_LEN: usize = 32;
/// The finer sums of [`Q8K`] run over this many values.
pub const SUM_LEN: usize = 16;
/// Sums to a block of [`Q8K`]: 16 over 16 values each, then 8 over 32 each.
pub const SUMS: usize = 24;
/// Where those over 32 values begin.
pub const SUMS_32: usize = 16;
/// Fast products take this many columns at once and read scales in such
/// groups, so the stride of scales is a multiple of it.
pub const COLUMN_TILE: usize = 8;
/// Positions whose keys are woven together: one vector load then brings the same element of
/// several keys, and no score needs a sum across lanes.
pub const KEY_GROUP: usize = 16;

/// Vectors of activations, quantised to 8 bits in blocks of 32.
#[derive(Clone, Copy, Debug)]
pub struct Q8<'a> {
    /// Length of one vector, a multiple of [`Q8_LEN`].
    pub len: usize,
    /// From one block's scales and sums to the next block's; a multiple of
    /// [`COLUMN_TILE`] and at least the number of columns.
    pub stride: usize,
    /// The quantised values, -127..=127: (columns, len).
    pub quants: &'a [i8],
    /// What one step is worth: (len / 32, stride).
    pub scales: &'a [f32],
    /// Sum of each block's values: (len / 32, stride).
    pub sums: &'a [i32],
}

/// Vectors of activations, quantised to 8 bits in blocks of 256.
#[derive(Clone, Copy, Debug)]
pub struct Q8K<'a> {
    /// Length of one vector, a multiple of [`Q8K_LEN`].
    pub len: usize,
    /// From one block's scales to the next block's; a multiple of
    /// [`COLUMN_TILE`] and at least the number of columns.
    pub stride: usize,
    /// The quantised values, -127..=127: (columns, len).
    pub quants: &'a [i8],
    /// What one step is worth: (len / 256, stride).
    pub scales: &'a [f32],
    /// Of each block 16 sums of runs of 16 values, then 8 of runs of 32, both in the order
    /// of [`sum_place`]: (columns, len / 256, 24).
    pub sums: &'a [i16],
}

/// Where run `i` is among the sums: of each four 0, 2, 1, 3, so that even
/// runs are next to one another, and odd ones.
#[must_use]
pub const fn sum_place(i: usize) -> usize {
    i & !3 | [0, 2, 1, 3][i & 3]
}

/// The sums of one block of [`Q8K`] from those of its 16 runs.
#[must_use]
pub(crate) fn arrange_sums(runs: [i16; Q8K_LEN / SUM_LEN]) -> [i16; SUMS] {
    let mut sums = [0; SUMS];
    for (i, run) in runs.into_iter().enumerate() {
        sums[sum_place(i)] = run;
        sums[SUMS_32 + sum_place(i / 2)] += run;
    }
    sums
}

impl<'a> Q8<'a> {
    /// How many vectors.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.quants.len() / self.len.max(1)
    }

    /// Vector `column` alone.
    #[must_use]
    pub fn column(&self, column: usize) -> Q8<'a> {
        Q8 {
            quants: &self.quants[column * self.len..][..self.len],
            scales: &self.scales[column..],
            sums: &self.sums[column..],
            ..*self
        }
    }

    /// Some of the vectors; `columns.start` is a multiple of [`COLUMN_TILE`].
    #[must_use]
    pub fn part(&self, columns: Range<usize>) -> Q8<'a> {
        Q8 {
            quants: &self.quants[columns.start * self.len..columns.end * self.len],
            scales: &self.scales[columns.start..],
            sums: &self.sums[columns.start..],
            ..*self
        }
    }

    /// Asserts that the slices hold what the shapes promise.
    #[inline(never)]
    pub(crate) fn check(&self) {
        check_blocks(
            self.len,
            Q8_LEN,
            self.quants.len(),
            self.stride,
            self.scales.len(),
        );
        assert_eq!(self.sums.len(), self.scales.len());
    }
}

impl<'a> Q8K<'a> {
    /// How many vectors.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.quants.len() / self.len.max(1)
    }

    /// Vector `column` alone.
    #[must_use]
    pub fn column(&self, column: usize) -> Q8K<'a> {
        let sums = self.len / Q8K_LEN * SUMS;
        Q8K {
            quants: &self.quants[column * self.len..][..self.len],
            scales: &self.scales[column..],
            sums: &self.sums[column * sums..][..sums],
            ..*self
        }
    }

    /// Some of the vectors; `columns.start` is a multiple of [`COLUMN_TILE`].
    #[must_use]
    pub fn part(&self, columns: Range<usize>) -> Q8K<'a> {
        let sums = self.len / Q8K_LEN * SUMS;
        Q8K {
            quants: &self.quants[columns.start * self.len..columns.end * self.len],
            scales: &self.scales[columns.start..],
            sums: &self.sums[columns.start * sums..columns.end * sums],
            ..*self
        }
    }

    /// Asserts that the slices hold what the shapes promise.
    #[inline(never)]
    pub(crate) fn check(&self) {
        check_blocks(
            self.len,
            Q8K_LEN,
            self.quants.len(),
            self.stride,
            self.scales.len(),
        );
        assert_eq!(self.sums.len(), self.quants.len() / Q8K_LEN * SUMS);
    }
}

fn check_blocks(len: usize, block_len: usize, quants: usize, stride: usize, scales: usize) {
    assert!(len > 0 && len.is_multiple_of(block_len) && quants.is_multiple_of(len));
    let columns = quants / len;
    assert!(stride.is_multiple_of(COLUMN_TILE) && stride >= columns);
    assert!(scales >= (len / block_len - 1) * stride + columns);
}

/// Asserts the shapes of attention over one KV head: `vectors` (T, head_dim) are keys or values,
/// `heads` (R, head_dim) queries or outputs, `scores` holds T in each of its R rows, `stride` apart.
pub(crate) fn check_attention(
    vectors: &[f32],
    heads: &[f32],
    scores: &[f32],
    stride: usize,
    head_dim: usize,
) -> [usize; 2] {
    assert!(head_dim > 0 && heads.len().is_multiple_of(head_dim));
    let [positions, heads] = [vectors.len(), heads.len()].map(|len| len / head_dim);
    assert!(vectors.len().is_multiple_of(head_dim) && heads > 0);
    assert!(stride >= positions && scores.len() >= (heads - 1) * stride + positions);
    [positions, heads]
}

/// Asserts the shapes of a product: `weights` is (rows, row_bytes), `out` is
/// (columns, rows). Returns the number of rows.
pub(crate) fn check_product(
    weights: &[u8],
    row_bytes: usize,
    columns: usize,
    out: &[f32],
) -> usize {
    let rows = weights.len() / row_bytes.max(1);
    assert_eq!(weights.len(), rows * row_bytes, "weights end inside a row");
    assert_eq!(out.len(), rows * columns, "output of another shape");
    rows
}
