//! The kernels between the matrix products. Meanings: `scalar/vector.rs`.
//!
//! What is left over when a length is no multiple of eight goes through the
//! scalar code, element by element.

use std::arch::x86_64::*;

use super::f16c::{narrow, widen};
use super::float::dot;
use super::math::exp;
use super::reduce::lanes;
use crate::{math, scalar};

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn load(x: &[f32; 8]) -> __m256 {
    // SAFETY: `x` has eight floats.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn store(y: &mut [f32; 8], x: __m256) {
    // SAFETY: `y` has room for eight floats.
    unsafe { _mm256_storeu_ps(y.as_mut_ptr(), x) };
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn axpy(factor: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    axpy_rows(&[factor], x, y);
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn axpy_rows(factors: &[f32], rows: &[f32], y: &mut [f32]) {
    let width = y.len();
    assert_eq!(rows.len(), factors.len() * width);
    // Four vectors of y stay in registers while all rows pass.
    let mut first = 0;
    while first + 32 <= width {
        columns::<4>(factors, rows, first, y);
        first += 32;
    }
    while first + 8 <= width {
        columns::<1>(factors, rows, first, y);
        first += 8;
    }
    if first < width {
        for (factor, row) in factors.iter().zip(rows.chunks_exact(width)) {
            scalar::axpy(*factor, &row[first..], &mut y[first..]);
        }
    }
}

/// `axpy_rows` on elements `first..first + 8 * N` of every row.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn columns<const N: usize>(factors: &[f32], rows: &[f32], first: usize, y: &mut [f32]) {
    let width = y.len();
    let y = &mut y[first..first + 8 * N].as_chunks_mut::<8>().0[..N];
    let mut sums = [_mm256_setzero_ps(); N];
    for (sum, y) in sums.iter_mut().zip(y.iter()) {
        *sum = load(y);
    }
    for (&factor, row) in factors.iter().zip(rows.chunks_exact(width)) {
        let factor = _mm256_set1_ps(factor);
        let row = row[first..first + 8 * N].as_chunks::<8>().0;
        for (sum, row) in sums.iter_mut().zip(row) {
            *sum = _mm256_add_ps(*sum, _mm256_mul_ps(factor, load(row)));
        }
    }
    for (sum, y) in sums.into_iter().zip(y) {
        store(y, sum);
    }
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len());
    let mean = dot(x, x) / x.len() as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    for ((y, x), w) in out.iter_mut().zip(x).zip(weight) {
        *y = (x * scale) * w;
    }
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    assert!([weight.len(), bias.len(), out.len()] == [x.len(); 3]);
    let (whole, rest) = x.as_chunks::<8>();
    let mut sum = _mm256_setzero_ps();
    for x in whole {
        sum = _mm256_add_ps(sum, load(x));
    }
    let mut lanes = lanes(sum);
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

#[target_feature(enable = "avx2,f16c")]
pub(super) fn rope(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let len = cos.len();
    if !len.is_multiple_of(8) || len == 0 {
        return scalar::rope(x, cos, sin);
    }
    assert!(len == sin.len() && x.len().is_multiple_of(len));
    for head in x.chunks_exact_mut(len) {
        let angles = cos.as_chunks().0.iter().zip(sin.as_chunks().0);
        for (x, (cos, sin)) in head.as_chunks_mut::<8>().0.iter_mut().zip(angles) {
            let own = load(x);
            let partner = _mm256_permute_ps::<0b10_11_00_01>(own);
            let turned = _mm256_mul_ps(partner, load(sin));
            store(x, _mm256_add_ps(_mm256_mul_ps(own, load(cos)), turned));
        }
    }
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn softmax(x: &mut [f32]) {
    let (whole, rest) = x.as_chunks_mut::<8>();
    let mut max = _mm256_set1_ps(f32::NEG_INFINITY);
    for x in whole.iter() {
        max = _mm256_max_ps(load(x), max);
    }
    let max = lanes(max)
        .into_iter()
        .chain(rest.iter().copied())
        .fold(f32::NEG_INFINITY, f32::max);
    let mut sum = _mm256_setzero_ps();
    for x in whole.iter_mut() {
        let e = exp(_mm256_sub_ps(load(x), _mm256_set1_ps(max)));
        sum = _mm256_add_ps(sum, e);
        store(x, e);
    }
    let mut lanes = lanes(sum);
    for (x, lane) in rest.iter_mut().zip(&mut lanes) {
        *x = math::exp(*x - max);
        *lane += *x;
    }
    let inverse = 1.0 / scalar::fold(lanes);
    for x in x {
        *x *= inverse;
    }
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn silu_mul(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len());
    let ((gate, gate_rest), (up, up_rest)) = (gate.as_chunks_mut::<8>(), up.as_chunks::<8>());
    let one = _mm256_set1_ps(1.0);
    for (gate, up) in gate.iter_mut().zip(up) {
        let g = load(gate);
        let negative = _mm256_xor_ps(g, _mm256_set1_ps(-0.0));
        let silu = _mm256_div_ps(g, _mm256_add_ps(one, exp(negative)));
        store(gate, _mm256_mul_ps(silu, load(up)));
    }
    scalar::silu_mul(gate_rest, up_rest);
}

/// The compiler makes vectors of it.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn gelu(x: &mut [f32]) {
    for x in x {
        *x = math::gelu(*x);
    }
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn f32_to_f16(x: &[f32], out: &mut [u16]) {
    assert_eq!(x.len(), out.len());
    let ((x, x_rest), (out, out_rest)) = (x.as_chunks::<8>(), out.as_chunks_mut::<8>());
    let limit = _mm256_set1_ps(scalar::F16_MAX);
    let negative_limit = _mm256_set1_ps(-scalar::F16_MAX);
    for (x, out) in x.iter().zip(out) {
        let x = load(x);
        let number = _mm256_cmp_ps::<_CMP_ORD_Q>(x, x);
        let clamped = _mm256_min_ps(_mm256_max_ps(x, negative_limit), limit);
        let halves = narrow(_mm256_and_ps(clamped, number));
        // SAFETY: `out` has room for eight halves.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), halves) };
    }
    scalar::f32_to_f16(x_rest, out_rest);
}

/// Also asks for as many halves behind `x`: in a KV cache those of the next head.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn f16_to_f32(x: &[u16], out: &mut [f32]) {
    assert_eq!(x.len(), out.len());
    let len = x.len();
    let ((x, x_rest), (out, out_rest)) = (x.as_chunks::<8>(), out.as_chunks_mut::<8>());
    for (i, (x, out)) in x.iter().zip(out).enumerate() {
        if i.is_multiple_of(4) {
            _mm_prefetch::<_MM_HINT_T1>(x.as_ptr().wrapping_add(len).cast());
        }
        // SAFETY: `x` has eight halves.
        let halves = unsafe { _mm_loadu_si128(x.as_ptr().cast()) };
        store(out, widen(halves));
    }
    scalar::f16_to_f32(x_rest, out_rest);
}
