//! Woven weights in blocks of 256. Layouts: `scalar/block_k.rs` and `layout.rs`.
//!
//! Products are added in `i16`, so many to a lane that they stay below 2^15:
//! 16 of 15 * 127 (Q4_K), 8 of 31 * 127 (Q5_K), 4 of 63 * 127 (Q6_K). One
//! `i32x4.dot_i16x8` then multiplies by the scale, adds a row's two and widens.

use core::arch::wasm32::*;

use meetara_format::block;

use super::four::{Prepared, add_products, keep_loop};
use super::woven::{Block, halves};
use crate::{Q8K, SUMS_32};

pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

/// The scales and the minima of four rows: each lane holds those of sub-blocks
/// 0 to 3, or of 4 to 7, of its row as bytes.
#[derive(Clone, Copy)]
struct Scales {
    scales: [v128; 2],
    mins: [v128; 2],
}

/// # Safety
/// 16 bytes can be read at `w`, at `w + 32` and at `w + 64`.
#[inline]
unsafe fn scales_mins(w: *const u8) -> Scales {
    let and = |x, mask| v128_and(x, u8x16_splat(mask));
    // SAFETY: the caller's promise.
    let (a, b, c) = unsafe {
        let at = w.cast::<v128>();
        (v128_load(at), v128_load(at.add(2)), v128_load(at.add(4)))
    };
    // The upper two of six bits, brought from bits 6 and 7 to bits 4 and 5.
    let upper = |x| and(u32x4_shr(x, 2), 0x30);
    Scales {
        scales: [and(a, 0x3f), v128_or(and(c, 15), upper(a))],
        mins: [and(b, 0x3f), v128_or(and(u32x4_shr(c, 4), 15), upper(b))],
    }
}

/// Four bytes for each lane: `bytes`, moved on by four for each lane and by `step` for each byte
/// of interest. What is 128 or more stays so, which picks a zero.
const fn picks(bytes: [u8; 4], step: u8) -> [[u8; 16]; 4] {
    let mut picks = [[128; 16]; 4];
    let mut i = 0;
    while i < 64 {
        let (j, lane, byte) = (i / 16, i / 4 % 4, bytes[i % 4]);
        if byte < 128 {
            picks[j][i % 16] = byte + step * j as u8 + 4 * lane as u8;
        }
        i += 1;
    }
    picks
}

/// Byte `j` of each lane twice, in the lower halves of two `i16`.
static LOWER: [[u8; 16]; 4] = picks([0, 128, 0, 128], 1);
/// Byte `j` of each lane twice, in the upper halves of two `i16`.
static UPPER: [[u8; 16]; 4] = picks([128, 0, 128, 0], 1);

/// Bytes at the places that `pick` names, 0 where it is 128.
#[inline]
fn pick(bytes: v128, pick: &[u8; 16]) -> v128 {
    // SAFETY: 16 bytes can be read there.
    let pick = unsafe { v128_load(pick.as_ptr().cast()) };
    // An index of 128 or more gives 0 in either; between 16 and 127 the two would differ.
    #[cfg(target_feature = "relaxed-simd")]
    return i8x16_relaxed_swizzle(bytes, pick);
    #[cfg(not(target_feature = "relaxed-simd"))]
    i8x16_swizzle(bytes, pick)
}

/// Byte `j` of each lane, without sign, as a pair of `i16`.
#[inline]
fn pair(bytes: v128, j: usize) -> v128 {
    pick(bytes, &LOWER[j])
}

/// Two sums, in all lanes.
///
/// # Safety
/// Two sums can be read at `sums`.
#[inline]
unsafe fn two(sums: *const i16) -> v128 {
    // SAFETY: the caller's promise.
    unsafe { v128_load32_splat(sums.cast()) }
}

/// `i16` at even, then at odd bytes of `bytes`, times the sums at `sums`.
///
/// # Safety
/// Four sums can be read there, in the order of `crate::sum_place`.
#[inline]
unsafe fn dot_sums([even, odd]: [v128; 2], sums: *const i16) -> v128 {
    // SAFETY: the caller's promise.
    let (x_even, x_odd) = unsafe { (two(sums), two(sums.add(2))) };
    i32x4_add(i32x4_dot_i16x8(even, x_even), i32x4_dot_i16x8(odd, x_odd))
}

/// Q4_K, or with the fifth bits at `high` Q5_K; `qs` are the nibbles.
///
/// # Safety
/// See [`Block::add`].
#[inline]
#[expect(
    clippy::too_many_arguments,
    reason = "those of `Block::add`, and where the fields are"
)]
unsafe fn add_affine<const C: usize, const H: usize>(
    w: *const u8,
    [high, qs]: [usize; 2],
    first: usize,
    x: &Prepared<'_, C>,
    at: usize,
    sums: [*const i16; C],
    scales: [f32; C],
    y: &mut [[v128; H]; C],
) {
    let (nibble, fifth) = (u8x16_splat(15), u8x16_splat(16));
    let zero = [[i16x8_splat(0); H]; C];
    let has_fifth = high > 0;
    // Fifth bits leave room for half as many products in an i16.
    let runs = if has_fifth { 2 } else { 1 };
    let mut dots = zero;
    // SAFETY: the offsets are those of the layout, inside what the caller promises.
    unsafe {
        let chunk = |at: usize, h: usize| w.add(at + 16 * (first + h));
        let mut small = [scales_mins(chunk(32, 0)); H];
        for (h, small) in small.iter_mut().enumerate().skip(1) {
            *small = scales_mins(chunk(32, h));
        }
        for j in 0..4 {
            keep_loop(j);
            for run in 0..runs {
                let (mut lows, mut highs) = (zero, zero);
                for t in run * 4..run * 4 + 8 / runs {
                    keep_loop(t);
                    let (mut low, mut upper) = ([nibble; H], [nibble; H]);
                    for h in 0..H {
                        let packed = v128_load(chunk(qs + 256 * j + 32 * t, h).cast());
                        low[h] = v128_and(packed, nibble);
                        upper[h] = v128_and(u16x8_shr(packed, 4), nibble);
                        if has_fifth {
                            // Bit 2j is for the lower, bit 2j + 1 for the upper nibbles.
                            let bits = v128_load(chunk(high + 32 * t, h).cast());
                            let bits = u16x8_shr(bits, 2 * j as u32);
                            low[h] = v128_or(low[h], v128_and(u16x8_shl(bits, 4), fifth));
                            upper[h] = v128_or(upper[h], v128_and(u16x8_shl(bits, 3), fifth));
                        }
                    }
                    for c in 0..C {
                        let index = at + 64 * j + 4 * t;
                        let (x_low, x_upper) = (x.four(c, index), x.four(c, index + 32));
                        for h in 0..H {
                            lows[c][h] = add_products(lows[c][h], low[h], x_low);
                            highs[c][h] = add_products(highs[c][h], upper[h], x_upper);
                        }
                    }
                }
                for h in 0..H {
                    let bytes = small[h].scales[j / 2];
                    let (one, two) = (pair(bytes, 2 * j % 4), pair(bytes, 2 * j % 4 + 1));
                    for c in 0..C {
                        let both = i32x4_add(
                            i32x4_dot_i16x8(lows[c][h], one),
                            i32x4_dot_i16x8(highs[c][h], two),
                        );
                        dots[c][h] = i32x4_add(dots[c][h], both);
                    }
                }
            }
        }
        for h in 0..H {
            let (d, m) = (
                halves(w.add(8 * (first + h))),
                halves(w.add(16 + 8 * (first + h))),
            );
            let split = |bytes| [v128_and(bytes, u16x8_splat(0xff)), u16x8_shr(bytes, 8)];
            let mins = small[h].mins.map(split);
            for c in 0..C {
                let sums = sums[c].add(SUMS_32);
                let t = i32x4_add(dot_sums(mins[0], sums), dot_sums(mins[1], sums.add(4)));
                let big_d = f32x4_splat(scales[c]);
                let scaled = f32x4_mul(f32x4_mul(d, big_d), f32x4_convert_i32x4(dots[c][h]));
                let min = f32x4_mul(f32x4_mul(m, big_d), f32x4_convert_i32x4(t));
                y[c][h] = f32x4_add(y[c][h], f32x4_sub(scaled, min));
            }
        }
    }
}

macro_rules! affine {
    ($name:ident, $layout:ident, $fields:expr) => {
        impl Block<Q8K<'_>> for $name {
            const BYTES: usize = block::$layout::BLOCK_BYTES;

            #[inline]
            unsafe fn add<const C: usize, const H: usize>(
                w: *const u8,
                first: usize,
                x: &Prepared<'_, C>,
                at: usize,
                sums: [*const i16; C],
                scales: [f32; C],
                y: &mut [[v128; H]; C],
            ) {
                // SAFETY: the caller's promise.
                unsafe { add_affine(w, $fields, first, x, at, sums, scales, y) }
            }
        }
    };
}

affine!(Q4K, q4_k, [0, 128]);
affine!(Q5K, q5_k, [128, 384]);

/// Where the scales of Q6_K lie in a group's block, and its d.
const SCALES_Q6K: usize = 1536;
const D_Q6K: usize = 1664;

impl Block<Q8K<'_>> for Q6K {
    const BYTES: usize = block::q6_k::BLOCK_BYTES;

    #[inline]
    unsafe fn add<const C: usize, const H: usize>(
        w: *const u8,
        first: usize,
        x: &Prepared<'_, C>,
        at: usize,
        sums: [*const i16; C],
        scales: [f32; C],
        y: &mut [[v128; H]; C],
    ) {
        let zero = [[i16x8_splat(0); H]; C];
        let mut dots = zero;
        // SAFETY: the offsets are those of the layout, inside what the caller promises.
        unsafe {
            let chunk = |at: usize, h: usize| w.add(at + 16 * (first + h));
            for half in 0..2 {
                keep_loop(half);
                // `a` and `b` hold two runs of 32 each, in their lower and upper nibbles.
                for part in 0..4 {
                    keep_loop(part);
                    let scale = |run: usize, h: usize| {
                        let index = 8 * half + 2 * run + part / 2;
                        scale_pair(chunk(SCALES_Q6K + 32 * (index / 4), h), index % 4)
                    };
                    for pair in 0..2 {
                        let (mut lows, mut highs) = (zero, zero);
                        for t in 2 * part..2 * part + 2 {
                            let (mut low, mut upper) = ([zero[0][0]; H], [zero[0][0]; H]);
                            for h in 0..H {
                                let packed = chunk(512 * half + 256 * pair + 32 * t, h);
                                let bits = chunk(1024 + 256 * half + 32 * t, h);
                                [low[h], upper[h]] = weights_q6k(packed, bits, pair);
                            }
                            for c in 0..C {
                                let index = at + 128 * half + 32 * pair + 4 * t;
                                let (x_low, x_upper) = (x.four(c, index), x.four(c, index + 64));
                                for h in 0..H {
                                    lows[c][h] = add_products(lows[c][h], low[h], x_low);
                                    highs[c][h] = add_products(highs[c][h], upper[h], x_upper);
                                }
                            }
                        }
                        for h in 0..H {
                            let (one, two) = (scale(pair, h), scale(pair + 2, h));
                            for c in 0..C {
                                let both = i32x4_add(
                                    i32x4_dot_i16x8(lows[c][h], one),
                                    i32x4_dot_i16x8(highs[c][h], two),
                                );
                                dots[c][h] = i32x4_add(dots[c][h], both);
                            }
                        }
                    }
                }
            }
            for h in 0..H {
                let d = halves(w.add(D_Q6K + 8 * (first + h)));
                for c in 0..C {
                    // Weights are stored 32 too large: take off 32 * scale * sum.
                    let mut excess = i32x4_splat(0);
                    for i in 0..4 {
                        let bytes = v128_load(chunk(SCALES_Q6K + 32 * i, h).cast());
                        let split = [i16x8_shr(i16x8_shl(bytes, 8), 8), i16x8_shr(bytes, 8)];
                        excess = i32x4_add(excess, dot_sums(split, sums[c].add(4 * i)));
                    }
                    let s = i32x4_sub(dots[c][h], i32x4_shl(excess, 5));
                    let scaled = f32x4_mul(d, f32x4_splat(scales[c]));
                    let scaled = f32x4_mul(scaled, f32x4_convert_i32x4(s));
                    y[c][h] = f32x4_add(y[c][h], scaled);
                }
            }
        }
    }
}

/// Weights of runs `pair` and `pair + 2`, 0 to 63, from 16 bytes of nibbles and of upper bits.
///
/// # Safety
/// 16 bytes can be read at both.
#[inline]
unsafe fn weights_q6k(packed: *const u8, bits: *const u8, pair: usize) -> [v128; 2] {
    let (nibble, two) = (u8x16_splat(15), u8x16_splat(0x30));
    // SAFETY: the caller's promise.
    let (packed, bits) = unsafe { (v128_load(packed.cast()), v128_load(bits.cast())) };
    // Bits 2 pair of each byte at 4, and two pairs of bits higher up. By a number and not by a
    // choice between two shifts, which LLVM would make a shift of each lane by itself.
    let down = 2 * pair as u32;
    let (low, upper) = (u16x8_shl(bits, 4 - down), u16x8_shr(bits, down));
    [
        v128_or(v128_and(packed, nibble), v128_and(low, two)),
        v128_or(v128_and(u16x8_shr(packed, 4), nibble), v128_and(upper, two)),
    ]
}

/// Signed byte `j` of each lane as a pair of `i16`.
///
/// # Safety
/// 16 bytes can be read at `bytes`.
#[inline]
unsafe fn scale_pair(bytes: *const u8, j: usize) -> v128 {
    // Down from the upper half of each i16, with its sign.
    // SAFETY: the caller's promise.
    i16x8_shr(pick(unsafe { v128_load(bytes.cast()) }, &UPPER[j]), 8)
}
