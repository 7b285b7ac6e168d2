//! Weights in blocks of 32. Layouts: `scalar/block32.rs`.

use core::arch::wasm32::*;

use meetara_format::block;

use super::reduce::{half, halves, sum_each, to_array};
use super::split::{self, Split};
use crate::{Q8, Q8_LEN, check_product};

/// A type of weights.
pub(super) trait Block {
    /// Bytes in a block. The scale is its first half-precision float.
    const BYTES: usize;
    /// Whether a minimum follows the scale.
    const HAS_MIN: bool;
    /// What was added to each weight to make it unsigned.
    const OFFSET: i32;

    /// Weights 0 to 15, then 16 to 31, each at even and at odd places.
    ///
    /// # Safety
    /// `BYTES` bytes can be read at `w`.
    unsafe fn unpack(w: *const u8) -> [[v128; 2]; 2];
}

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;

/// Bits 0 to 15 and 16 to 31 of the 32 at `at`: each becomes 16 or 0 at its weight's place.
///
/// # Safety
/// Four bytes can be read at `at`.
#[inline]
unsafe fn fifth_bits(at: *const u8) -> [[v128; 2]; 2] {
    // SAFETY: the caller's promise.
    let bits = u32x4_splat(unsafe { at.cast::<u32>().read_unaligned() });
    let places = u64x2_splat(0x8040_2010_0804_0201);
    let spread = |bytes| {
        let set = i8x16_eq(v128_and(bytes, places), places);
        split::unsigned(v128_and(set, u8x16_splat(16)))
    };
    [
        spread(i8x16_shuffle::<
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            1,
            1,
            1,
            1,
            1,
            1,
            1,
            1,
        >(bits, bits)),
        spread(i8x16_shuffle::<
            2,
            2,
            2,
            2,
            2,
            2,
            2,
            2,
            3,
            3,
            3,
            3,
            3,
            3,
            3,
            3,
        >(bits, bits)),
    ]
}

#[inline]
fn or([[a, b], [c, d]]: [[v128; 2]; 2], [[e, f], [g, h]]: [[v128; 2]; 2]) -> [[v128; 2]; 2] {
    [
        [v128_or(a, e), v128_or(b, f)],
        [v128_or(c, g), v128_or(d, h)],
    ]
}

macro_rules! block {
    ($name:ident, $layout:ident, min: $min:literal, offset: $offset:literal, |$w:ident| $unpack:expr) => {
        impl Block for $name {
            const BYTES: usize = block::$layout::BLOCK_BYTES;
            const HAS_MIN: bool = $min;
            const OFFSET: i32 = $offset;

            #[inline]
            unsafe fn unpack($w: *const u8) -> [[v128; 2]; 2] {
                // SAFETY: the offsets are those of the layout, all inside `BYTES`.
                unsafe { $unpack }
            }
        }
    };
}

block!(Q4_0, q4_0, min: false, offset: 8, |w| split::nibbles(v128_load(w.add(2).cast())));
block!(Q4_1, q4_1, min: true, offset: 0, |w| split::nibbles(v128_load(w.add(4).cast())));
block!(Q5_0, q5_0, min: false, offset: 16, |w| {
    or(split::nibbles(v128_load(w.add(6).cast())), fifth_bits(w.add(2)))
});
block!(Q5_1, q5_1, min: true, offset: 0, |w| {
    or(split::nibbles(v128_load(w.add(8).cast())), fifth_bits(w.add(4)))
});
block!(Q8_0, q8_0, min: false, offset: 0, |w| {
    [split::signed(v128_load(w.add(2).cast())), split::signed(v128_load(w.add(18).cast()))]
});

/// Four partial sums of weights times activations.
///
/// # Safety
/// `x` is a split column of 32.
#[inline]
unsafe fn dot([low, high]: [[v128; 2]; 2], x: *const i16) -> v128 {
    // SAFETY: the caller's promise.
    let (x_low, x_high) = unsafe { (split::load(x, 0), split::load(x, 16)) };
    let pair = |w: [v128; 2], x: [v128; 2]| {
        i32x4_add(i32x4_dot_i16x8(w[0], x[0]), i32x4_dot_i16x8(w[1], x[1]))
    };
    i32x4_add(pair(low, x_low), pair(high, x_high))
}

/// What four blocks add: `d`, `m` and `big_d` the scales, `s` the dots, `t` the activations' sums.
#[inline]
fn contribution<B: Block>(d: v128, m: v128, big_d: v128, s: v128, t: v128) -> v128 {
    let s = match B::OFFSET {
        0 => s,
        offset => i32x4_sub(s, i32x4_mul(t, i32x4_splat(offset))),
    };
    let scaled = f32x4_mul(f32x4_mul(d, big_d), f32x4_convert_i32x4(s));
    if B::HAS_MIN {
        f32x4_add(
            scaled,
            f32x4_mul(f32x4_mul(m, big_d), f32x4_convert_i32x4(t)),
        )
    } else {
        scaled
    }
}

/// One vector, four rows at a time.
pub(super) fn matvec<B: Block>(weights: &[u8], x: Q8<'_>, out: &mut [f32]) {
    x.check();
    assert_eq!(x.columns(), 1, "matvec takes one vector");
    let blocks = x.len / Q8_LEN;
    let row_bytes = blocks * B::BYTES;
    let rows = check_product(weights, row_bytes, 1, out);
    out.fill(0.0);
    let mut split = Split::<1, Q8_LEN>::new();
    for block in 0..blocks {
        split.fill(0, &x.quants[block * Q8_LEN..]);
        let [quants] = split.columns();
        let big_d = f32x4_splat(x.scales[block * x.stride]);
        let t = i32x4_splat(x.sums[block * x.stride]);
        for (tile, out) in out.chunks_mut(4).enumerate() {
            let mut at = [weights.as_ptr(); 4];
            let mut parts = [i32x4_splat(0); 4];
            // SAFETY: past the last row, the last row again, so that every pointer is to block
            // `block` of a row of `weights` (rows, row_bytes). `quants` is a split column.
            let (d, m) = unsafe {
                for (i, (at, part)) in at.iter_mut().zip(&mut parts).enumerate() {
                    let row = (tile * 4 + i).min(rows - 1);
                    *at = at.add(row * row_bytes + block * B::BYTES);
                    *part = dot(B::unpack(*at), quants);
                }
                let m = if B::HAS_MIN {
                    halves(at, 2)
                } else {
                    f32x4_splat(0.0)
                };
                (halves(at, 0), m)
            };
            add_each(out, contribution::<B>(d, m, big_d, sum_each(parts), t));
        }
    }
}

/// `out[i] += lanes[i]`, for at most four.
#[inline]
pub(super) fn add_each(out: &mut [f32], lanes: v128) {
    if let Ok(out) = <&mut [f32; 4]>::try_from(&mut *out) {
        // SAFETY: `out` is four floats.
        unsafe {
            let at = out.as_mut_ptr().cast();
            v128_store(at, f32x4_add(v128_load(at), lanes));
        }
    } else {
        for (y, lane) in out.iter_mut().zip(to_array(lanes)) {
            *y += lane;
        }
    }
}

/// Many vectors, four columns at a time.
pub(super) fn matmul<B: Block>(weights: &[u8], x: Q8<'_>, out: &mut [f32]) {
    x.check();
    let blocks = x.len / Q8_LEN;
    let row_bytes = blocks * B::BYTES;
    let columns = x.columns();
    let rows = check_product(weights, row_bytes, columns, out);
    assert!(x.scales.len() >= blocks * x.stride && x.sums.len() >= blocks * x.stride);
    out.fill(0.0);
    let mut split = Split::<4, Q8_LEN>::new();
    for first in (0..columns).step_by(4) {
        let real = (columns - first).min(4);
        if real == 1 {
            matvec::<B>(weights, x.column(first), &mut out[first * rows..][..rows]);
            continue;
        }
        for block in 0..blocks {
            for i in 0..real {
                split.fill(i, &x.quants[(first + i) * x.len + block * Q8_LEN..]);
            }
            let quants = split.columns();
            let at = block * x.stride + first;
            // SAFETY: scales and sums are (blocks, stride), and the stride is a multiple of 8
            // above `first`, a multiple of 4, so that four can be read.
            let (big_d, t) = unsafe {
                (
                    v128_load(x.scales.as_ptr().add(at).cast()),
                    v128_load(x.sums.as_ptr().add(at).cast()),
                )
            };
            for row in 0..rows {
                let mut parts = [i32x4_splat(0); 4];
                // SAFETY: block `block` of row `row` lies in `weights`; the columns are split.
                let (d, m) = unsafe {
                    let w = weights.as_ptr().add(row * row_bytes + block * B::BYTES);
                    let unpacked = B::unpack(w);
                    for (part, quants) in parts.iter_mut().zip(quants) {
                        *part = dot(unpacked, quants);
                    }
                    let m = if B::HAS_MIN {
                        half(w.add(2))
                    } else {
                        f32x4_splat(0.0)
                    };
                    (half(w), m)
                };
                let lanes = to_array(contribution::<B>(d, m, big_d, sum_each(parts), t));
                for (i, lane) in lanes[..real].iter().enumerate() {
                    out[(first + i) * rows + row] += lane;
                }
            }
        }
    }
}
