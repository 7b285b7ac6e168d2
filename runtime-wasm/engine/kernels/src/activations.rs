//! What the products of woven weights ask of activations, in blocks of 32 or of 256.

use super::{Q8, Q8_LEN, Q8K, Q8K_LEN, SUMS};

/// Quantised vectors of either kind.
pub(crate) trait Activations: Copy {
    /// What stands beside the quantised values of a block.
    type Sums: Copy;
    /// Values in a block.
    const LEN: usize;

    /// The length of a vector, after all slices were checked.
    fn check(&self) -> usize;
    fn columns(&self) -> usize;
    /// (columns, len)
    fn quants(&self) -> &[i8];
    /// What a step of block `block` of `column` is worth.
    ///
    /// # Safety
    /// `check` was called; `column` and `block` are below what it found.
    unsafe fn scale(&self, column: usize, block: usize) -> f32;
    /// # Safety
    /// See [`Self::scale`].
    unsafe fn sums(&self, column: usize, block: usize) -> Self::Sums;
}

impl Activations for Q8<'_> {
    type Sums = i32;
    const LEN: usize = Q8_LEN;

    fn check(&self) -> usize {
        Q8::check(self);
        self.len
    }

    fn columns(&self) -> usize {
        Q8::columns(self)
    }

    fn quants(&self) -> &[i8] {
        self.quants
    }

    #[inline]
    unsafe fn scale(&self, column: usize, block: usize) -> f32 {
        // SAFETY: the caller's promise; scales are (blocks, stride).
        unsafe { *self.scales.get_unchecked(block * self.stride + column) }
    }

    #[inline]
    unsafe fn sums(&self, column: usize, block: usize) -> i32 {
        // SAFETY: the caller's promise; sums are (blocks, stride).
        unsafe { *self.sums.get_unchecked(block * self.stride + column) }
    }
}

impl Activations for Q8K<'_> {
    type Sums = *const i16;
    const LEN: usize = Q8K_LEN;

    fn check(&self) -> usize {
        Q8K::check(self);
        self.len
    }

    fn columns(&self) -> usize {
        Q8K::columns(self)
    }

    fn quants(&self) -> &[i8] {
        self.quants
    }

    #[inline]
    unsafe fn scale(&self, column: usize, block: usize) -> f32 {
        // SAFETY: the caller's promise; scales are (blocks, stride).
        unsafe { *self.scales.get_unchecked(block * self.stride + column) }
    }

    #[inline]
    unsafe fn sums(&self, column: usize, block: usize) -> *const i16 {
        let index = (column * (self.len / Q8K_LEN) + block) * SUMS;
        // SAFETY: the caller's promise; sums are (columns, blocks, 24).
        unsafe { self.sums.as_ptr().add(index) }
    }
}
