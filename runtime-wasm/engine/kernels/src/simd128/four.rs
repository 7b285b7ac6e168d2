//! Four activations against four weights of each of four rows.
//!
//! With relaxed SIMD one instruction multiplies bytes and adds pairs. Its
//! second operand must stay below 128 for the result to be defined; weights
//! do, once unpacked, so activations as they are will do for the first.
//!
//! Plain simd128 has no product of bytes, so both operands become `i16`: bytes
//! at even places by a mask, those at odd places by a shift, where widening in
//! order would cost a shuffle. Activations are split once for many rows, a run
//! at a time.
//!
//! ```text
//! 16 bytes     b0 b1 b2 b3 .. b15
//! even         b0 b2 .. b14            as i16:  v & 0x00ff
//! odd          b1 b3 .. b15            as i16:  v >> 8
//! ```

use core::arch::wasm32::*;

#[cfg(not(target_feature = "relaxed-simd"))]
use core::marker::PhantomData;

/// The most values of a column that are prepared at once.
#[cfg(not(target_feature = "relaxed-simd"))]
pub(super) const RUN_LEN: Option<usize> = Some(SPLIT_LEN);
#[cfg(not(target_feature = "relaxed-simd"))]
const SPLIT_LEN: usize = 256;
/// The most values of a column that are prepared at once: all.
#[cfg(target_feature = "relaxed-simd")]
pub(super) const RUN_LEN: Option<usize> = None;

/// A run of C columns.
#[cfg(target_feature = "relaxed-simd")]
pub(super) struct Prepared<'a, const C: usize>([&'a [i8]; C]);

/// A run of C columns: of each 16 values first the even ones, then the odd ones.
#[cfg(not(target_feature = "relaxed-simd"))]
pub(super) struct Prepared<'a, const C: usize>([[i16; SPLIT_LEN]; C], PhantomData<&'a [i8]>);

/// Four activations, in every lane.
#[cfg(target_feature = "relaxed-simd")]
pub(super) type Four = v128;
/// Four activations, in every lane: those at even, and those at odd places.
#[cfg(not(target_feature = "relaxed-simd"))]
pub(super) type Four = [v128; 2];

#[cfg(target_feature = "relaxed-simd")]
impl<'a, const C: usize> Prepared<'a, C> {
    pub(super) fn new() -> Self {
        Self([&[]; C])
    }

    /// Makes `x` the run of column `column`.
    #[inline]
    pub(super) fn fill(&mut self, column: usize, x: &'a [i8]) {
        self.0[column] = x;
    }

    /// Values `index..index + 4` of column `column`.
    ///
    /// # Safety
    /// The run has them.
    #[inline]
    pub(super) unsafe fn four(&self, column: usize, index: usize) -> Four {
        // SAFETY: the caller's promise; any alignment will do.
        unsafe { v128_load32_splat(self.0[column].as_ptr().add(index).cast()) }
    }
}

#[cfg(not(target_feature = "relaxed-simd"))]
impl<'a, const C: usize> Prepared<'a, C> {
    pub(super) fn new() -> Self {
        Self([[0; SPLIT_LEN]; C], PhantomData)
    }

    /// Makes `x`, a multiple of 16 and at most `SPLIT_LEN`, the run of column `column`.
    #[inline]
    pub(super) fn fill(&mut self, column: usize, x: &'a [i8]) {
        split(x, &mut self.0[column]);
    }

    /// Values `index..index + 4` of column `column`; `index` is a multiple of four.
    ///
    /// # Safety
    /// The run has them.
    #[inline]
    pub(super) unsafe fn four(&self, column: usize, index: usize) -> Four {
        // SAFETY: the caller's promise: `index / 16 * 16 + 8 + 7` is inside the run.
        unsafe {
            let even = self.0[column]
                .as_ptr()
                .add((index & !15) | ((index & 15) / 2));
            [
                v128_load32_splat(even.cast()),
                v128_load32_splat(even.add(8).cast()),
            ]
        }
    }
}

#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(never)]
fn split(x: &[i8], out: &mut [i16; SPLIT_LEN]) {
    let runs = x.as_chunks::<16>().0.iter();
    for (x, split) in runs.zip(out.as_chunks_mut::<16>().0) {
        // SAFETY: `x` has 16 bytes, and `split` room for twice as many.
        unsafe {
            let x = v128_load(x.as_ptr().cast());
            let split = split.as_mut_ptr().cast::<v128>();
            v128_store(split, i16x8_shr(i16x8_shl(x, 8), 8));
            v128_store(split.add(1), i16x8_shr(x, 8));
        }
    }
}

/// Keeps every second turn of a loop a turn: unrolled in full, the browsers' compilers run out of
/// registers, and the code is several times as long.
#[inline]
pub(super) fn keep_loop(turn: usize) {
    if turn.is_multiple_of(2) {
        core::hint::black_box(());
    }
}

/// Adds weights (bytes below 128) times activations to sums: two `i16` to a row.
#[cfg(target_feature = "relaxed-simd")]
#[inline]
pub(super) fn add_products(sums: v128, weights: v128, x: Four) -> v128 {
    i16x8_add(sums, i16x8_relaxed_dot_i8x16_i7x16(x, weights))
}

/// Adds weights (bytes below 128) times activations to sums: two `i16` to a row.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline]
pub(super) fn add_products(sums: v128, weights: v128, [x_even, x_odd]: Four) -> v128 {
    let (even, odd) = (v128_and(weights, u16x8_splat(0xff)), u16x8_shr(weights, 8));
    let products = i16x8_add(i16x8_mul(even, x_even), i16x8_mul(odd, x_odd));
    i16x8_add(sums, products)
}

/// Signed weights times activations: S of four rows.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline]
pub(super) fn dot_signed(weights: v128, [x_even, x_odd]: Four) -> v128 {
    let (even, odd) = (i16x8_shr(i16x8_shl(weights, 8), 8), i16x8_shr(weights, 8));
    i32x4_add(i32x4_dot_i16x8(even, x_even), i32x4_dot_i16x8(odd, x_odd))
}
