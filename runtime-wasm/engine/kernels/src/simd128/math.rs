//! [`crate::math::exp`] and [`crate::math::erf`], four at a time: the same results.
//!
//! Two steps are taken another way. A power of two is multiplied by adding to the exponent's bits,
//! where the product is a normal number; and clamps are minima of integers, an instruction each where
//! `f32x4.max` takes six on x86. (Of `f32x4.pmax` LLVM makes, where it may, a relaxed maximum, which
//! loses a NaN on some CPUs.)

use core::arch::wasm32::*;
use core::hint::black_box;

use crate::math::{
    ERF_HIGH, ERF_P, ERF_Q, EXP_HIGH, EXP_LOW, EXP_TAYLOR, LN2_HIGH, LN2_LOW, LOG2_E, ROUND_MAGIC,
};

/// The integers nearest to `x`, half to even, for |x| <= 2^22.
#[inline]
pub(super) fn round_half_even(x: v128) -> v128 {
    let shifted = f32x4_add(x, f32x4_splat(ROUND_MAGIC));
    i32x4_sub(shifted, i32x4_splat(ROUND_MAGIC.to_bits() as i32))
}

const C: [f32; 6] = EXP_TAYLOR;
/// In the order in which [`Exp::new`] takes them.
static NUMBERS: [f32; 12] = [
    EXP_LOW,
    EXP_HIGH,
    LOG2_E,
    ROUND_MAGIC,
    LN2_HIGH,
    LN2_LOW,
    C[5],
    C[4],
    C[3],
    C[2],
    C[1],
    C[0],
];

/// The numbers that exponentials take, loaded once for many: written out they would be more than
/// there are registers, and browsers' compilers make each anew, in three instructions, where it is used.
#[derive(Clone, Copy)]
pub(super) struct Exp([v128; 12]);

impl Exp {
    #[inline]
    pub(super) fn new() -> Self {
        let numbers = black_box(&NUMBERS);
        // SAFETY: each is a float.
        Self(core::array::from_fn(|i| unsafe {
            v128_load32_splat((&raw const numbers[i]).cast())
        }))
    }

    /// e^r of `x` = n ln 2 + r, and n, below the bits of [`ROUND_MAGIC`].
    #[inline]
    fn split(&self, x: v128) -> [v128; 2] {
        let [
            _,
            _,
            log2_e,
            magic,
            ln2_high,
            ln2_low,
            c7,
            c6,
            c5,
            c4,
            c3,
            c2,
        ] = self.0;
        let shifted = f32x4_add(f32x4_mul(x, log2_e), magic);
        let whole = f32x4_sub(shifted, magic);
        let r = f32x4_sub(x, f32x4_mul(whole, ln2_high));
        let r = f32x4_sub(r, f32x4_mul(whole, ln2_low));
        let mut p = c7;
        for c in [c6, c5, c4, c3, c2] {
            p = f32x4_add(f32x4_mul(p, r), c);
        }
        let tail = f32x4_add(r, f32x4_mul(f32x4_mul(r, r), p));
        [f32x4_add(f32x4_splat(1.0), tail), shifted]
    }

    /// `power`, where `x` is not below [`EXP_LOW`] and no NaN.
    #[inline]
    fn finish(&self, x: v128, power: v128) -> v128 {
        // All ones are a NaN.
        let power = v128_or(power, f32x4_ne(x, x));
        v128_andnot(power, f32x4_lt(x, self.0[0]))
    }

    /// e^x in each lane.
    #[inline]
    pub(super) fn of(&self, x: v128) -> v128 {
        // Without sign, what is below EXP_LOW is larger than it and nothing else is; with sign, what
        // is above EXP_HIGH.
        let clamped = i32x4_min(u32x4_min(x, self.0[0]), self.0[1]);
        let [power, shifted] = self.split(clamped);
        let n = i32x4_sub(shifted, self.0[3]);
        let half = i32x4_shr(n, 1);
        let rest = i32x4_add(i32x4_sub(n, half), i32x4_splat(127));
        // The first half of 2^n leaves a normal number, the second may overflow.
        let scaled = i32x4_add(power, i32x4_shl(half, 23));
        self.finish(x, f32x4_mul(scaled, i32x4_shl(rest, 23)))
    }

    /// e^x in each lane, for x not above 0: all of 2^n leaves a normal number.
    #[inline]
    pub(super) fn of_negative(&self, x: v128) -> v128 {
        let [power, shifted] = self.split(u32x4_min(x, self.0[0]));
        // Nothing of ROUND_MAGIC is left above.
        self.finish(x, i32x4_add(power, i32x4_shl(shifted, 23)))
    }
}

/// P, then Q without its last, which is 1.
static ERF_NUMBERS: [f32; 11] = [
    ERF_P[0], ERF_P[1], ERF_P[2], ERF_P[3], ERF_P[4], ERF_P[5], ERF_Q[0], ERF_Q[1], ERF_Q[2],
    ERF_Q[3], ERF_Q[4],
];

/// The numbers of the error function, loaded once, as for [`Exp`].
#[derive(Clone, Copy)]
pub(super) struct Erf([v128; 11]);

impl Erf {
    #[inline]
    pub(super) fn new() -> Self {
        let numbers = black_box(&ERF_NUMBERS);
        // SAFETY: each is a float.
        Self(core::array::from_fn(|i| unsafe {
            v128_load32_splat((&raw const numbers[i]).cast())
        }))
    }

    /// erf(x) in each lane; of a NaN that of [`ERF_HIGH`].
    #[inline]
    pub(super) fn of(&self, x: v128) -> v128 {
        let [p5, p4, p3, p2, p1, p0, q5, q4, q3, q2, q1] = self.0;
        // Sizes of floats are in the order of their bits.
        let sign = v128_and(x, u32x4_splat(0x8000_0000));
        let size = u32x4_min(v128_xor(x, sign), u32x4_splat(ERF_HIGH.to_bits()));
        let x = v128_or(size, sign);
        let t = f32x4_mul(x, x);
        let step = |sum, c| f32x4_add(f32x4_mul(sum, t), c);
        let p = [p4, p3, p2, p1, p0].into_iter().fold(p5, step);
        let q = [q4, q3, q2, q1, f32x4_splat(1.0)]
            .into_iter()
            .fold(q5, step);
        f32x4_div(f32x4_mul(x, p), q)
    }
}
