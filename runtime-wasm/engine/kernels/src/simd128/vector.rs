//! The kernels between the matrix products. Meanings: `scalar/vector.rs`.
//!
//! What is left over when a length is no multiple of four or eight goes
//! through the scalar code, element by element.

use core::arch::wasm32::*;

use super::float::dot;
use super::math::{Erf, Exp};
use super::reduce::to_array;
use crate::{math, scalar};

#[inline]
fn load(x: &[f32; 4]) -> v128 {
    // SAFETY: `x` has four floats.
    unsafe { v128_load(x.as_ptr().cast()) }
}

#[inline]
fn store(y: &mut [f32; 4], x: v128) {
    // SAFETY: `y` has room for four floats.
    unsafe { v128_store(y.as_mut_ptr().cast(), x) };
}

pub(super) fn axpy(factor: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    axpy_rows(&[factor], x, y);
}

pub(super) fn axpy_rows(factors: &[f32], rows: &[f32], y: &mut [f32]) {
    let width = y.len();
    assert_eq!(rows.len(), factors.len() * width);
    // Eight vectors of y stay in registers while all rows pass.
    let mut first = 0;
    while first + 32 <= width {
        columns::<8>(factors, rows, first, y);
        first += 32;
    }
    while first + 4 <= width {
        columns::<1>(factors, rows, first, y);
        first += 4;
    }
    if first < width {
        for (factor, row) in factors.iter().zip(rows.chunks_exact(width)) {
            scalar::axpy(*factor, &row[first..], &mut y[first..]);
        }
    }
}

/// `axpy_rows` on elements `first..first + 4 * N` of every row.
#[inline]
fn columns<const N: usize>(factors: &[f32], rows: &[f32], first: usize, y: &mut [f32]) {
    let width = y.len();
    let y = &mut y[first..first + 4 * N].as_chunks_mut::<4>().0[..N];
    let mut sums = [f32x4_splat(0.0); N];
    for (sum, y) in sums.iter_mut().zip(y.iter()) {
        *sum = load(y);
    }
    for (&factor, row) in factors.iter().zip(rows.chunks_exact(width)) {
        let factor = f32x4_splat(factor);
        let row = row[first..first + 4 * N].as_chunks::<4>().0;
        for (sum, row) in sums.iter_mut().zip(row) {
            *sum = f32x4_add(*sum, f32x4_mul(factor, load(row)));
        }
    }
    for (sum, y) in sums.into_iter().zip(y) {
        store(y, sum);
    }
}

pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len());
    let mean = dot(x, x) / x.len() as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    for ((y, x), w) in out.iter_mut().zip(x).zip(weight) {
        *y = (x * scale) * w;
    }
}

pub(super) fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    assert!([weight.len(), bias.len(), out.len()] == [x.len(); 3]);
    let (whole, rest) = x.as_chunks::<8>();
    let mut sums = [f32x4_splat(0.0); 2];
    for x in whole {
        for (sum, x) in sums.iter_mut().zip(x.as_chunks().0) {
            *sum = f32x4_add(*sum, load(x));
        }
    }
    let ([a, b, c, d], [e, f, g, h]) = (to_array(sums[0]), to_array(sums[1]));
    let mut lanes = [a, b, c, d, e, f, g, h];
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    let mean = scalar::fold(lanes) / x.len() as f32;
    for (y, x) in out.iter_mut().zip(x) {
        *y = x - mean;
    }
    let scale = 1.0 / (dot(out, out) / x.len() as f32 + eps).sqrt();
    for ((y, w), b) in out.iter_mut().zip(weight).zip(bias) {
        *y = (*y * scale) * w + b;
    }
}

pub(super) fn rope(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let len = cos.len();
    if !len.is_multiple_of(4) || len == 0 {
        return scalar::rope(x, cos, sin);
    }
    assert!(len == sin.len() && x.len().is_multiple_of(len));
    for head in x.chunks_exact_mut(len) {
        let angles = cos.as_chunks().0.iter().zip(sin.as_chunks().0);
        for (x, (cos, sin)) in head.as_chunks_mut::<4>().0.iter_mut().zip(angles) {
            let own = load(x);
            let partner = i32x4_shuffle::<1, 0, 3, 2>(own, own);
            let turned = f32x4_mul(partner, load(sin));
            store(x, f32x4_add(f32x4_mul(own, load(cos)), turned));
        }
    }
}

pub(super) fn softmax(x: &mut [f32]) {
    let (whole, rest) = x.as_chunks_mut::<8>();
    let halves = |x: &[f32; 8]| {
        let (low, high) = (x.as_chunks::<4>().0[0], x.as_chunks::<4>().0[1]);
        [load(&low), load(&high)]
    };
    let mut max = f32x4_splat(f32::NEG_INFINITY);
    for x in whole.iter() {
        let [low, high] = halves(x);
        // Whatever this makes of a NaN: its own exponential, and so the sum, will be one.
        max = f32x4_pmax(f32x4_pmax(max, low), high);
    }
    let max = to_array(max)
        .into_iter()
        .chain(rest.iter().copied())
        .fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [f32x4_splat(0.0); 2];
    let exp = Exp::new();
    for x in whole.iter_mut() {
        let values = halves(x);
        for ((part, value), sum) in x
            .as_chunks_mut::<4>()
            .0
            .iter_mut()
            .zip(values)
            .zip(&mut sums)
        {
            let e = exp.of_negative(f32x4_sub(value, f32x4_splat(max)));
            *sum = f32x4_add(*sum, e);
            store(part, e);
        }
    }
    let ([a, b, c, d], [e, f, g, h]) = (to_array(sums[0]), to_array(sums[1]));
    let mut lanes = [a, b, c, d, e, f, g, h];
    for (x, lane) in rest.iter_mut().zip(&mut lanes) {
        *x = math::exp(*x - max);
        *lane += *x;
    }
    let inverse = 1.0 / scalar::fold(lanes);
    for x in x {
        *x *= inverse;
    }
}

pub(super) fn silu_mul(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len());
    let ((gate, gate_rest), (up, up_rest)) = (gate.as_chunks_mut::<4>(), up.as_chunks::<4>());
    let exp = Exp::new();
    for (gate, up) in gate.iter_mut().zip(up) {
        let g = load(gate);
        let silu = f32x4_div(g, f32x4_add(f32x4_splat(1.0), exp.of(f32x4_neg(g))));
        store(gate, f32x4_mul(silu, load(up)));
    }
    scalar::silu_mul(gate_rest, up_rest);
}

/// [`math::gelu`], four at a time. Of the compiler's own vectors of it browsers make three times the
/// instructions: a minimum or maximum of floats takes six on x86, and every number is made anew.
pub(super) fn gelu(x: &mut [f32]) {
    let (x, rest) = x.as_chunks_mut::<4>();
    let erf = Erf::new();
    let (half, one) = (f32x4_splat(0.5), f32x4_splat(1.0));
    for x in x {
        let value = load(x);
        let erf = erf.of(f32x4_mul(
            value,
            f32x4_splat(core::f32::consts::FRAC_1_SQRT_2),
        ));
        store(x, f32x4_mul(f32x4_mul(half, value), f32x4_add(one, erf)));
    }
    scalar::gelu(rest);
}

/// Four floats as the bits of halves, nearest even; the sizes up to the largest half, NaN as 0.
///
/// From 2^-14 on, where halves are normal, rounding is done on the bits: half of what is dropped,
/// less one where the result would be even, is added, and the exponent's offset taken off. Below,
/// adding 1/2 leaves a multiple of 2^-24, the step of subnormal halves, in the lowest bits.
#[inline]
fn halves(x: v128) -> v128 {
    const SMALLEST_NORMAL: i32 = (127 - 14) << 23;
    const OFFSET: i32 = ((15 - 127) << 23) + 0xfff;
    let size = v128_and(x, u32x4_splat(0x7fff_ffff));
    let sign = u32x4_shr(v128_xor(x, size), 16);
    let size = f32x4_pmin(f32x4_splat(scalar::F16_MAX), size);
    let odd = v128_and(u32x4_shr(size, 13), i32x4_splat(1));
    let normal = i32x4_add(i32x4_add(size, i32x4_splat(OFFSET)), odd);
    let half = f32x4_splat(0.5);
    let small = i32x4_sub(f32x4_add(size, half), half);
    let is_small = i32x4_lt(size, i32x4_splat(SMALLEST_NORMAL));
    let number = v128_bitselect(small, u32x4_shr(normal, 13), is_small);
    v128_and(v128_or(number, sign), f32x4_eq(x, x))
}

pub(super) fn f32_to_f16(x: &[f32], out: &mut [u16]) {
    assert_eq!(x.len(), out.len());
    let ((x, x_rest), (out, out_rest)) = (x.as_chunks::<8>(), out.as_chunks_mut::<8>());
    for (x, out) in x.iter().zip(out) {
        // SAFETY: `x` has eight floats, and `out` room for as many halves.
        unsafe {
            let x = x.as_ptr().cast::<v128>();
            let (low, high) = (halves(v128_load(x)), halves(v128_load(x.add(1))));
            v128_store(out.as_mut_ptr().cast(), u16x8_narrow_i32x4(low, high));
        }
    }
    scalar::f32_to_f16(x_rest, out_rest);
}

/// Finite halves only, so their bits, moved to a float's place, are a number
/// 2^112 times too small, and the sign comes along by widening with it.
pub(super) fn f16_to_f32(x: &[u16], out: &mut [f32]) {
    assert_eq!(x.len(), out.len());
    let ((x, x_rest), (out, out_rest)) = (x.as_chunks::<8>(), out.as_chunks_mut::<8>());
    let places = u32x4_splat(0x8fff_e000);
    let scale = f32x4_splat(f32::from_bits((127 + 112) << 23));
    for (x, out) in x.iter().zip(out) {
        // SAFETY: `x` has eight halves, and `out` room for as many floats.
        unsafe {
            let halves = v128_load(x.as_ptr().cast());
            let parts = [
                i32x4_extend_low_i16x8(halves),
                i32x4_extend_high_i16x8(halves),
            ];
            let out = out.as_mut_ptr().cast::<v128>();
            for (i, part) in parts.into_iter().enumerate() {
                let small = v128_and(i32x4_shl(part, 13), places);
                v128_store(out.add(i), f32x4_mul(small, scale));
            }
        }
    }
    scalar::f16_to_f32(x_rest, out_rest);
}
