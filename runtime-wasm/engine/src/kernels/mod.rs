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
//! Lengths are the caller's duty: [`crate::model`] checks every dimension
//! against the file before a kernel sees it, and kernels assert them again.

pub mod dispatch;
pub mod math;
pub mod scalar;

pub use dispatch::Kernels;

/// Activations of a K-quant weight share a scale in blocks of this many.
pub const Q8K_LEN: usize = 256;
/// Activations of any other quantised weight share a scale in blocks of this many.
pub const Q8_LEN: usize = 32;
/// Each run of this many 8-bit activations has its sum stored.
pub const SUM_LEN: usize = 16;

/// Vectors of activations, each quantised to 8 bits in blocks.
#[derive(Clone, Copy, Debug)]
pub struct Q8<'a> {
    /// Length of one vector, a multiple of `block_len`.
    pub len: usize,
    /// [`Q8K_LEN`] or [`Q8_LEN`].
    pub block_len: usize,
    /// The quantised values, -127..=127: (columns, len).
    pub quants: &'a [i8],
    /// What one step is worth: (columns, len / block_len).
    pub scales: &'a [f32],
    /// Sums of runs of 16 values: (columns, len / 16).
    pub sums: &'a [i16],
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
        self.slice(column, 1)
    }

    /// `count` vectors from `first` on.
    #[must_use]
    pub fn slice(&self, first: usize, count: usize) -> Q8<'a> {
        let part = |len: usize| first * len..(first + count) * len;
        Q8 {
            quants: &self.quants[part(self.len)],
            scales: &self.scales[part(self.len / self.block_len)],
            sums: &self.sums[part(self.len / SUM_LEN)],
            ..*self
        }
    }

    /// Asserts that the three slices describe the same number of whole vectors
    /// in blocks of `block_len`.
    pub(crate) fn check(&self, block_len: usize) {
        let columns = self.columns();
        assert_eq!(
            self.block_len, block_len,
            "activations of another block length"
        );
        assert!(self.len > 0 && self.len.is_multiple_of(block_len));
        assert_eq!(self.quants.len(), columns * self.len);
        assert_eq!(self.scales.len(), columns * (self.len / block_len));
        assert_eq!(self.sums.len(), columns * (self.len / SUM_LEN));
    }
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
