//! Woven weights in blocks of 32. Layouts: `scalar/block32.rs` and `layout.rs`.
//!
//! Products are added in `i16`: 16 of 15 * 127 to a lane, or, with fifth bits,
//! 8 of 31 * 127, both below 2^15.

use core::arch::wasm32::*;

use meetara_format::block;

use super::four::{Prepared, add_products, keep_loop};
use super::woven::{Block, halves};
use crate::Q8;

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;

/// Two `i16` to a row, added.
#[inline]
fn add_pairs(sums: v128) -> v128 {
    i32x4_extadd_pairwise_i16x8(sums)
}

/// S of H vectors of rows and C columns, from nibbles at `w` and fifth bits at `high`, if any.
///
/// # Safety
/// See [`Block::add`].
#[inline]
unsafe fn dots<const C: usize, const H: usize>(
    w: *const u8,
    high: Option<*const u8>,
    x: &Prepared<'_, C>,
    at: usize,
) -> [[v128; H]; C] {
    let (nibble, fifth) = (u8x16_splat(15), u8x16_splat(16));
    let zero = [[i16x8_splat(0); H]; C];
    let (mut lows, mut highs) = (zero, zero);
    let mut bits = [i32x4_splat(0); H];
    // SAFETY: the caller's promise; t < 4.
    unsafe {
        if let Some(high) = high {
            for (h, bits) in bits.iter_mut().enumerate() {
                *bits = v128_load(high.add(16 * h).cast());
            }
        }
        for t in 0..4 {
            keep_loop(t);
            let (mut low, mut upper) = ([nibble; H], [nibble; H]);
            for h in 0..H {
                let packed = v128_load(w.add(32 * t + 16 * h).cast());
                low[h] = v128_and(packed, nibble);
                upper[h] = v128_and(u16x8_shr(packed, 4), nibble);
                if high.is_some() {
                    // Bit 2t for the first half, bit 2t + 1 for the second.
                    low[h] = v128_or(low[h], v128_and(u16x8_shl(bits[h], 4), fifth));
                    upper[h] = v128_or(upper[h], v128_and(u16x8_shl(bits[h], 3), fifth));
                    bits[h] = u16x8_shr(bits[h], 2);
                }
            }
            for c in 0..C {
                let (first, second) = (x.four(c, at + 4 * t), x.four(c, at + 16 + 4 * t));
                for h in 0..H {
                    lows[c][h] = add_products(lows[c][h], low[h], first);
                    highs[c][h] = add_products(highs[c][h], upper[h], second);
                }
            }
        }
    }
    let mut dots = zero;
    for c in 0..C {
        for h in 0..H {
            dots[c][h] = i32x4_add(add_pairs(lows[c][h]), add_pairs(highs[c][h]));
        }
    }
    dots
}

/// Adds `(d * D) * (S - offset * T)`, and `(m * D) * T` where there is a minimum at `m`.
///
/// # Safety
/// 8 H bytes can be read at `d` and at `m`.
#[inline]
unsafe fn add_scaled<const C: usize, const H: usize>(
    (d, m): (*const u8, Option<*const u8>),
    offset: i32,
    dots: [[v128; H]; C],
    sums: [i32; C],
    scales: [f32; C],
    y: &mut [[v128; H]; C],
) {
    for h in 0..H {
        // SAFETY: the caller's promise.
        let (d, m) = unsafe { (halves(d.add(8 * h)), m.map(|m| halves(m.add(8 * h)))) };
        for c in 0..C {
            let big_d = f32x4_splat(scales[c]);
            let s = i32x4_sub(dots[c][h], i32x4_splat(offset * sums[c]));
            let mut term = f32x4_mul(f32x4_mul(d, big_d), f32x4_convert_i32x4(s));
            if let Some(m) = m {
                let t = f32x4_splat(sums[c] as f32);
                term = f32x4_add(term, f32x4_mul(f32x4_mul(m, big_d), t));
            }
            y[c][h] = f32x4_add(y[c][h], term);
        }
    }
}

macro_rules! block {
    ($name:ident, $layout:ident, min: $min:expr, offset: $offset:literal, fifth bits: $bits:expr, nibbles: $nibbles:literal) => {
        impl Block<Q8<'_>> for $name {
            const BYTES: usize = block::$layout::BLOCK_BYTES;

            #[inline]
            unsafe fn add<const C: usize, const H: usize>(
                w: *const u8,
                first: usize,
                x: &Prepared<'_, C>,
                at: usize,
                sums: [i32; C],
                scales: [f32; C],
                y: &mut [[v128; H]; C],
            ) {
                let (m, bits): (Option<usize>, Option<usize>) = ($min, $bits);
                // SAFETY: the offsets are those of the layout, inside what the caller promises.
                unsafe {
                    let chunk = |at: usize| w.add(at + 16 * first);
                    let half = |at: usize| w.add(at + 8 * first);
                    let dots = dots(chunk($nibbles), bits.map(chunk), x, at);
                    add_scaled((half(0), m.map(half)), $offset, dots, sums, scales, y);
                }
            }
        }
    };
}

block!(Q4_0, q4_0, min: None, offset: 8, fifth bits: None, nibbles: 16);
block!(Q4_1, q4_1, min: Some(16), offset: 0, fifth bits: None, nibbles: 32);
block!(Q5_0, q5_0, min: None, offset: 16, fifth bits: Some(16), nibbles: 48);
block!(Q5_1, q5_1, min: Some(16), offset: 0, fifth bits: Some(32), nibbles: 64);

#[cfg(all(target_feature = "relaxed-simd", feature = "unpack"))]
impl super::woven::Unpack<Q8<'_>> for Q5_0 {
    /// Of each four columns the first half's, then the second half's.
    type Weights = [[v128; 2]; 4];
    const EMPTY: Self::Weights = [[i32x4(0, 0, 0, 0); 2]; 4];

    #[inline]
    unsafe fn unpack(w: *const u8, first: usize) -> Self::Weights {
        let (nibble, fifth) = (u8x16_splat(15), u8x16_splat(16));
        let mut weights = Self::EMPTY;
        // SAFETY: the offsets are those of the layout, inside what the caller promises.
        unsafe {
            let mut bits = v128_load(w.add(16 + 16 * first).cast());
            for (t, [low, upper]) in weights.iter_mut().enumerate() {
                let packed = v128_load(w.add(48 + 32 * t + 16 * first).cast());
                *low = v128_or(
                    v128_and(packed, nibble),
                    v128_and(u16x8_shl(bits, 4), fifth),
                );
                *upper = v128_or(
                    v128_and(u16x8_shr(packed, 4), nibble),
                    v128_and(u16x8_shl(bits, 3), fifth),
                );
                bits = u16x8_shr(bits, 2);
            }
        }
        weights
    }

    #[inline]
    unsafe fn add_unpacked<const C: usize>(
        weights: &Self::Weights,
        w: *const u8,
        first: usize,
        x: &Prepared<'_, C>,
        at: usize,
        sums: [i32; C],
        scales: [f32; C],
        y: &mut [[v128; 1]; C],
    ) {
        let zero = [i16x8_splat(0); C];
        let (mut lows, mut highs) = (zero, zero);
        // SAFETY: the caller's promise; t < 4.
        unsafe {
            for (t, [low, upper]) in weights.iter().enumerate() {
                keep_loop(t);
                for c in 0..C {
                    lows[c] = add_products(lows[c], *low, x.four(c, at + 4 * t));
                    highs[c] = add_products(highs[c], *upper, x.four(c, at + 16 + 4 * t));
                }
            }
            let dots =
                core::array::from_fn(|c| [i32x4_add(add_pairs(lows[c]), add_pairs(highs[c]))]);
            add_scaled((w.add(8 * first), None), 16, dots, sums, scales, y);
        }
    }
}

impl Block<Q8<'_>> for Q8_0 {
    const BYTES: usize = block::q8_0::BLOCK_BYTES;

    #[inline]
    unsafe fn add<const C: usize, const H: usize>(
        w: *const u8,
        first: usize,
        x: &Prepared<'_, C>,
        at: usize,
        sums: [i32; C],
        scales: [f32; C],
        y: &mut [[v128; H]; C],
    ) {
        // SAFETY: the offsets are those of the layout, inside what the caller promises.
        unsafe {
            let (dots, offset) = dots_q8_0(w.add(16 + 16 * first), x, at);
            add_scaled((w.add(8 * first), None), offset, dots, sums, scales, y);
        }
    }
}

/// S of signed bytes at `w`, and by how much weights are too large in it.
///
/// # Safety
/// See [`Block::add`].
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline]
unsafe fn dots_q8_0<const C: usize, const H: usize>(
    w: *const u8,
    x: &Prepared<'_, C>,
    at: usize,
) -> ([[v128; H]; C], i32) {
    let mut dots = [[i32x4_splat(0); H]; C];
    for t in 0..8 {
        keep_loop(t);
        for h in 0..H {
            // SAFETY: the caller's promise; t < 8.
            let weights = unsafe { v128_load(w.add(32 * t + 16 * h).cast()) };
            for (c, dots) in dots.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                let x = unsafe { x.four(c, at + 4 * t) };
                dots[h] = i32x4_add(dots[h], super::four::dot_signed(weights, x));
            }
        }
    }
    (dots, 0)
}

/// S of signed bytes at `w`, and by how much weights are too large in it.
///
/// A byte is `16 * (upper - 8) + lower` with both nibbles unsigned, so each is an operand below
/// 128; the 128 that are left over are taken off with the activations' sum.
///
/// # Safety
/// See [`Block::add`].
#[cfg(target_feature = "relaxed-simd")]
#[inline]
unsafe fn dots_q8_0<const C: usize, const H: usize>(
    w: *const u8,
    x: &Prepared<'_, C>,
    at: usize,
) -> ([[v128; H]; C], i32) {
    let (nibble, eight) = (u8x16_splat(15), u8x16_splat(8));
    let zero = [[i16x8_splat(0); H]; C];
    let (mut lows, mut highs) = (zero, zero);
    for t in 0..8 {
        keep_loop(t);
        for h in 0..H {
            // SAFETY: the caller's promise; t < 8.
            let weights = unsafe { v128_load(w.add(32 * t + 16 * h).cast()) };
            let low = v128_and(weights, nibble);
            let upper = v128_xor(v128_and(u16x8_shr(weights, 4), nibble), eight);
            for c in 0..C {
                // SAFETY: the caller's promise.
                let x = unsafe { x.four(c, at + 4 * t) };
                lows[c][h] = add_products(lows[c][h], low, x);
                highs[c][h] = add_products(highs[c][h], upper, x);
            }
        }
    }
    let mut dots = zero;
    for c in 0..C {
        for h in 0..H {
            let upper = i32x4_shl(add_pairs(highs[c][h]), 4);
            dots[c][h] = i32x4_add(add_pairs(lows[c][h]), upper);
        }
    }
    (dots, 128)
}
