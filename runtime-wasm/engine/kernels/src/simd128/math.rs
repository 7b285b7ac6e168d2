//! [`crate::math::exp`], four at a time: the same steps in the same order.

use core::arch::wasm32::*;

use crate::math::{EXP_HIGH, EXP_LOW, EXP_TAYLOR, LN2_HIGH, LN2_LOW, LOG2_E, ROUND_MAGIC};

/// The integers nearest to `x`, half to even, for |x| <= 2^22.
#[inline]
pub(super) fn round_half_even(x: v128) -> v128 {
    let shifted = f32x4_add(x, f32x4_splat(ROUND_MAGIC));
    i32x4_sub(shifted, i32x4_splat(ROUND_MAGIC.to_bits() as i32))
}

/// 2^n.
#[inline]
fn power_of_two(n: v128) -> v128 {
    i32x4_shl(i32x4_add(n, i32x4_splat(127)), 23)
}

/// e^x in each lane.
#[inline]
pub(super) fn exp(x: v128) -> v128 {
    // As integers: an instruction each, where `f32x4.max` takes six on x86. Without sign, what is
    // below EXP_LOW is larger than it and nothing else is; with sign, what is above EXP_HIGH. (Of
    // `f32x4.pmax` LLVM makes, where it may, a relaxed maximum, which loses a NaN on some CPUs.)
    let clamped = u32x4_min(x, f32x4_splat(EXP_LOW));
    let clamped = i32x4_min(clamped, f32x4_splat(EXP_HIGH));
    let n = round_half_even(f32x4_mul(clamped, f32x4_splat(LOG2_E)));
    let whole = f32x4_convert_i32x4(n);
    let r = f32x4_sub(clamped, f32x4_mul(whole, f32x4_splat(LN2_HIGH)));
    let r = f32x4_sub(r, f32x4_mul(whole, f32x4_splat(LN2_LOW)));
    let [c2, c3, c4, c5, c6, c7] = EXP_TAYLOR;
    let mut p = f32x4_splat(c7);
    for c in [c6, c5, c4, c3, c2] {
        p = f32x4_add(f32x4_mul(p, r), f32x4_splat(c));
    }
    let tail = f32x4_add(r, f32x4_mul(f32x4_mul(r, r), p));
    let power = f32x4_add(f32x4_splat(1.0), tail);
    let half = i32x4_shr(n, 1);
    let rest = i32x4_sub(n, half);
    let scaled = f32x4_mul(f32x4_mul(power, power_of_two(half)), power_of_two(rest));
    // All ones are a NaN.
    let scaled = v128_or(scaled, f32x4_ne(x, x));
    v128_andnot(scaled, f32x4_lt(x, f32x4_splat(EXP_LOW)))
}
