//! Activations split into even and odd places, as [`super`] explains.

use core::arch::wasm32::*;

/// Of each 16 activations first the even ones, then the odd ones: (C, N).
pub(super) struct Split<const C: usize, const N: usize>([[i16; N]; C]);

impl<const C: usize, const N: usize> Split<C, N> {
    pub(super) fn new() -> Self {
        Self([[0; N]; C])
    }

    /// Splits `x` (at least N) into column `column`.
    #[inline]
    pub(super) fn fill(&mut self, column: usize, x: &[i8]) {
        let runs = x[..N].as_chunks::<16>().0.iter();
        for (x, split) in runs.zip(self.0[column].as_chunks_mut::<16>().0) {
            // SAFETY: `x` has 16 bytes, and `split` room for twice as many.
            unsafe {
                let [even, odd] = signed(v128_load(x.as_ptr().cast()));
                let split = split.as_mut_ptr().cast::<v128>();
                v128_store(split, even);
                v128_store(split.add(1), odd);
            }
        }
    }

    /// Where the activations of column `column` begin.
    #[inline]
    pub(super) fn columns(&self) -> [*const i16; C] {
        let mut columns = [core::ptr::null(); C];
        for (column, x) in columns.iter_mut().zip(&self.0) {
            *column = x.as_ptr();
        }
        columns
    }
}

/// Signed bytes at even and at odd places.
#[inline]
pub(super) fn signed(bytes: v128) -> [v128; 2] {
    [i16x8_shr(i16x8_shl(bytes, 8), 8), i16x8_shr(bytes, 8)]
}

/// Unsigned bytes at even and at odd places.
#[inline]
pub(super) fn unsigned(bytes: v128) -> [v128; 2] {
    [v128_and(bytes, u16x8_splat(0x00ff)), u16x8_shr(bytes, 8)]
}

/// The low nibbles of 16 bytes at even and at odd places, then the high ones.
#[inline]
pub(super) fn nibbles(packed: v128) -> [[v128; 2]; 2] {
    let mask = u16x8_splat(0x000f);
    let low = [v128_and(packed, mask), v128_and(u16x8_shr(packed, 8), mask)];
    let high = [v128_and(u16x8_shr(packed, 4), mask), u16x8_shr(packed, 12)];
    [low, high]
}

/// Even and odd activations `index..index + 16` of a split column.
///
/// # Safety
/// `index` is a multiple of 16, and the column has 16 from there on.
#[inline]
pub(super) unsafe fn load(column: *const i16, index: usize) -> [v128; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let at = column.add(index).cast::<v128>();
        [v128_load(at), v128_load(at.add(1))]
    }
}
