//! Weights in blocks of 256. Layouts: `scalar/block_k.rs`.
//!
//! Products of one sub-block are added in `i16`: at most four per lane, and
//! 4 * 31 * 127 < 2^15 (Q5_K), 2 * 63 * 127 < 2^15 (Q6_K, 16 to a scale). One
//! `i32x4.dot_i16x8` then multiplies by the scale and widens.

use core::arch::wasm32::*;

use meetara_format::block;

use super::block32::add_each;
use super::reduce::{half, halves, sum_each, to_array};
use super::split::{self, Split};
use crate::{Q8K, Q8K_LEN, SUM_LEN, check_product};

/// A type of weights.
pub(super) trait Block {
    /// Bytes in a block.
    const BYTES: usize;
    /// Where the half-precision scale is.
    const D_AT: usize;
    /// Whether minima are taken off; their half-precision scale is at 2.
    const HAS_MIN: bool;

    /// Partial sums of S and of T of one block against C columns.
    ///
    /// # Safety
    /// `BYTES` bytes can be read at `w`, 16 sums at each of `sums`, and each
    /// of `x` is a split column of 256.
    unsafe fn dots<const C: usize>(
        w: *const u8,
        x: [*const i16; C],
        sums: [*const i16; C],
    ) -> ([v128; C], [v128; C]);
}

pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

/// The 12 packed bytes at `at`: eight scales, and eight minima, each twice, as `i16`.
///
/// # Safety
/// 12 bytes can be read at `at`.
#[inline]
unsafe fn scales_mins(at: *const u8) -> ([u8; 8], [v128; 2]) {
    // SAFETY: the caller's promise; WebAssembly is little-endian.
    let [a, b, c] = unsafe { at.cast::<[u32; 3]>().read_unaligned() };
    let low_two = 0x0303_0303;
    let low_four = 0x0f0f_0f0f;
    let low_six = 0x3f3f_3f3f;
    let scales = [a & low_six, c & low_four | (a >> 6 & low_two) << 4];
    let mins = [b & low_six, c >> 4 & low_four | (b >> 6 & low_two) << 4];
    let wide = |[low, high]: [u32; 2]| u64::from(high) << 32 | u64::from(low);
    let mins = u64x2_splat(wide(mins));
    let mins = i8x16_shuffle::<0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7>(mins, mins);
    (
        wide(scales).to_le_bytes(),
        [u16x8_extend_low_u8x16(mins), u16x8_extend_high_u8x16(mins)],
    )
}

/// Adds weights times activations, lane by lane, to each column's `i16` sums.
///
/// # Safety
/// Each of `x` is a split column with 16 activations from `index` on.
#[inline]
unsafe fn add_products<const C: usize>(
    sums: &mut [v128; C],
    [even, odd]: [v128; 2],
    x: [*const i16; C],
    index: usize,
) {
    for (sum, x) in sums.iter_mut().zip(x) {
        // SAFETY: the caller's promise.
        let [x_even, x_odd] = unsafe { split::load(x, index) };
        let products = i16x8_add(i16x8_mul(even, x_even), i16x8_mul(odd, x_odd));
        *sum = i16x8_add(*sum, products);
    }
}

/// Adds `i16` sums times their scale to each column's partial sums.
#[inline]
fn add_scaled<const C: usize>(dots: &mut [v128; C], sums: [v128; C], scale: i16) {
    let scale = i16x8_splat(scale);
    for (dot, sum) in dots.iter_mut().zip(sums) {
        *dot = i32x4_add(*dot, i32x4_dot_i16x8(sum, scale));
    }
}

/// Partial sums of `factors` times the stored sums of 16.
///
/// # Safety
/// 16 sums can be read at each of `sums`.
#[inline]
unsafe fn dot_sums<const C: usize>([low, high]: [v128; 2], sums: [*const i16; C]) -> [v128; C] {
    let mut dots = [i32x4_splat(0); C];
    for (dot, sums) in dots.iter_mut().zip(sums) {
        let sums = sums.cast::<v128>();
        // SAFETY: the caller's promise.
        let (a, b) = unsafe { (v128_load(sums), v128_load(sums.add(1))) };
        *dot = i32x4_add(i32x4_dot_i16x8(low, a), i32x4_dot_i16x8(high, b));
    }
    dots
}

impl Block for Q4K {
    const BYTES: usize = block::q4_k::BLOCK_BYTES;
    const D_AT: usize = 0;
    const HAS_MIN: bool = true;

    #[inline]
    unsafe fn dots<const C: usize>(
        w: *const u8,
        x: [*const i16; C],
        sums: [*const i16; C],
    ) -> ([v128; C], [v128; C]) {
        let mut dots = [i32x4_splat(0); C];
        // SAFETY: the offsets are those of the layout, inside what the caller promises.
        unsafe {
            let (scales, mins) = scales_mins(w.add(4));
            for pair in 0..4 {
                let (mut low, mut high) = ([i16x8_splat(0); C], [i16x8_splat(0); C]);
                for half in 0..2 {
                    let packed = v128_load(w.add(16 + 32 * pair + 16 * half).cast());
                    let [low_weights, high_weights] = split::nibbles(packed);
                    let index = 64 * pair + 16 * half;
                    add_products(&mut low, low_weights, x, index);
                    add_products(&mut high, high_weights, x, index + 32);
                }
                add_scaled(&mut dots, low, i16::from(scales[2 * pair]));
                add_scaled(&mut dots, high, i16::from(scales[2 * pair + 1]));
            }
            (dots, dot_sums(mins, sums))
        }
    }
}

impl Block for Q5K {
    const BYTES: usize = block::q5_k::BLOCK_BYTES;
    const D_AT: usize = 0;
    const HAS_MIN: bool = true;

    #[inline]
    unsafe fn dots<const C: usize>(
        w: *const u8,
        x: [*const i16; C],
        sums: [*const i16; C],
    ) -> ([v128; C], [v128; C]) {
        let (nibble, sixteen) = (u8x16_splat(15), u8x16_splat(16));
        let mut dots = [i32x4_splat(0); C];
        // SAFETY: the offsets are those of the layout, inside what the caller promises.
        unsafe {
            let (scales, mins) = scales_mins(w.add(4));
            // The fifth bit of sub-block j is bit j: brought to bit 4 by a shift of 4 - j.
            let mut high_bits = [v128_load(w.add(16).cast()), v128_load(w.add(32).cast())];
            for pair in 0..4 {
                let (mut low, mut high) = ([i16x8_splat(0); C], [i16x8_splat(0); C]);
                for (half, bits) in high_bits.iter_mut().enumerate() {
                    let packed = v128_load(w.add(48 + 32 * pair + 16 * half).cast());
                    let fifth = v128_and(u16x8_shl(*bits, 4), sixteen);
                    let low_weights = v128_or(v128_and(packed, nibble), fifth);
                    let fifth = v128_and(u16x8_shl(*bits, 3), sixteen);
                    let high_weights = v128_or(v128_and(u16x8_shr(packed, 4), nibble), fifth);
                    let index = 64 * pair + 16 * half;
                    add_products(&mut low, split::unsigned(low_weights), x, index);
                    add_products(&mut high, split::unsigned(high_weights), x, index + 32);
                    *bits = u16x8_shr(*bits, 2);
                }
                add_scaled(&mut dots, low, i16::from(scales[2 * pair]));
                add_scaled(&mut dots, high, i16::from(scales[2 * pair + 1]));
            }
            (dots, dot_sums(mins, sums))
        }
    }
}

impl Block for Q6K {
    const BYTES: usize = block::q6_k::BLOCK_BYTES;
    const D_AT: usize = 208;
    const HAS_MIN: bool = false;

    #[inline]
    unsafe fn dots<const C: usize>(
        w: *const u8,
        x: [*const i16; C],
        sums: [*const i16; C],
    ) -> ([v128; C], [v128; C]) {
        let (nibble, upper) = (u8x16_splat(15), u8x16_splat(0x30));
        let mut dots = [i32x4_splat(0); C];
        // SAFETY: the offsets are those of the layout, inside what the caller promises.
        unsafe {
            let scale = |i: usize| i16::from(w.add(192 + i).cast::<i8>().read());
            for half in 0..2 {
                // 16 places of the four runs of 32, which share bytes.
                for part in 0..2 {
                    let at = w.add(64 * half + 16 * part);
                    let (a, b) = (v128_load(at.cast()), v128_load(at.add(32).cast()));
                    let bits = v128_load(w.add(128 + 32 * half + 16 * part).cast());
                    let runs = [
                        v128_or(v128_and(a, nibble), v128_and(u16x8_shl(bits, 4), upper)),
                        v128_or(v128_and(b, nibble), v128_and(u16x8_shl(bits, 2), upper)),
                        v128_or(v128_and(u16x8_shr(a, 4), nibble), v128_and(bits, upper)),
                        v128_or(
                            v128_and(u16x8_shr(b, 4), nibble),
                            v128_and(u16x8_shr(bits, 2), upper),
                        ),
                    ];
                    for (run, weights) in runs.into_iter().enumerate() {
                        let sixteen = 8 * half + 2 * run + part;
                        let mut products = [i16x8_splat(0); C];
                        add_products(&mut products, split::unsigned(weights), x, 16 * sixteen);
                        add_scaled(&mut dots, products, scale(sixteen));
                    }
                }
            }
            // Weights are stored 32 too large: take off 32 * scale * sum.
            let scales = v128_load(w.add(192).cast());
            let scales = [
                i16x8_extend_low_i8x16(scales),
                i16x8_extend_high_i8x16(scales),
            ];
            for (dot, excess) in dots.iter_mut().zip(dot_sums(scales, sums)) {
                *dot = i32x4_sub(*dot, i32x4_shl(excess, 5));
            }
            (dots, [i32x4_splat(0); C])
        }
    }
}

/// What four blocks add: `d`, `m` and `big_d` the scales, `s` and `t` the sums.
#[inline]
fn contribution<B: Block>(d: v128, m: v128, big_d: v128, s: v128, t: v128) -> v128 {
    let scaled = f32x4_mul(f32x4_mul(d, big_d), f32x4_convert_i32x4(s));
    if B::HAS_MIN {
        f32x4_sub(
            scaled,
            f32x4_mul(f32x4_mul(m, big_d), f32x4_convert_i32x4(t)),
        )
    } else {
        scaled
    }
}

/// One vector, four rows at a time.
pub(super) fn matvec<B: Block>(weights: &[u8], x: Q8K<'_>, out: &mut [f32]) {
    x.check();
    assert_eq!(x.columns(), 1, "matvec takes one vector");
    let blocks = x.len / Q8K_LEN;
    let row_bytes = blocks * B::BYTES;
    let rows = check_product(weights, row_bytes, 1, out);
    out.fill(0.0);
    let mut split = Split::<1, Q8K_LEN>::new();
    for block in 0..blocks {
        split.fill(0, &x.quants[block * Q8K_LEN..]);
        let quants = split.columns();
        let sums = [x.sums[block * (Q8K_LEN / SUM_LEN)..][..Q8K_LEN / SUM_LEN].as_ptr()];
        let big_d = f32x4_splat(x.scales[block * x.stride]);
        for (tile, out) in out.chunks_mut(4).enumerate() {
            let mut at = [weights.as_ptr(); 4];
            let mut s = [i32x4_splat(0); 4];
            let mut t = s;
            // SAFETY: past the last row, the last row again, so that every pointer is to block
            // `block` of a row of `weights` (rows, row_bytes). `quants` is a split column, and
            // `sums` has 16.
            let (d, m) = unsafe {
                for i in 0..4 {
                    let row = (tile * 4 + i).min(rows - 1);
                    at[i] = at[i].add(row * row_bytes + block * B::BYTES);
                    let ([dot], [min]) = B::dots(at[i], quants, sums);
                    (s[i], t[i]) = (dot, min);
                }
                let m = if B::HAS_MIN {
                    halves(at, 2)
                } else {
                    f32x4_splat(0.0)
                };
                (halves(at, B::D_AT), m)
            };
            let t = if B::HAS_MIN { sum_each(t) } else { t[0] };
            add_each(out, contribution::<B>(d, m, big_d, sum_each(s), t));
        }
    }
}

/// Many vectors, four columns at a time.
pub(super) fn matmul<B: Block>(weights: &[u8], x: Q8K<'_>, out: &mut [f32]) {
    x.check();
    let blocks = x.len / Q8K_LEN;
    let row_bytes = blocks * B::BYTES;
    let columns = x.columns();
    let rows = check_product(weights, row_bytes, columns, out);
    assert!(x.scales.len() >= blocks * x.stride);
    out.fill(0.0);
    let mut split = Split::<4, Q8K_LEN>::new();
    for first in (0..columns).step_by(4) {
        let real = (columns - first).min(4);
        if real == 1 {
            matvec::<B>(weights, x.column(first), &mut out[first * rows..][..rows]);
            continue;
        }
        for block in 0..blocks {
            let mut sums = [x.sums.as_ptr(); 4];
            for (i, sums) in sums.iter_mut().enumerate() {
                // Past the last column, the last column again: its results are dropped.
                let column = first + i.min(real - 1);
                split.fill(i, &x.quants[column * x.len + block * Q8K_LEN..]);
                *sums = x.sums[(column * x.len + block * Q8K_LEN) / SUM_LEN..][..Q8K_LEN / SUM_LEN]
                    .as_ptr();
            }
            let quants = split.columns();
            // SAFETY: scales are (blocks, stride), and the stride is a multiple of 8 above
            // `first`, a multiple of 4, so that four can be read.
            let big_d =
                unsafe { v128_load(x.scales.as_ptr().add(block * x.stride + first).cast()) };
            for row in 0..rows {
                // SAFETY: block `block` of row `row` lies in `weights`; the columns are split,
                // and each of `sums` has 16.
                let (d, m, s, t) = unsafe {
                    let w = weights.as_ptr().add(row * row_bytes + block * B::BYTES);
                    let (s, t) = B::dots(w, quants, sums);
                    let m = if B::HAS_MIN {
                        half(w.add(2))
                    } else {
                        f32x4_splat(0.0)
                    };
                    (half(w.add(B::D_AT)), m, s, t)
                };
                let t = if B::HAS_MIN { sum_each(t) } else { t[0] };
                let lanes = to_array(contribution::<B>(d, m, big_d, sum_each(s), t));
                for (i, lane) in lanes[..real].iter().enumerate() {
                    out[(first + i) * rows + row] += lane;
                }
            }
        }
    }
}
