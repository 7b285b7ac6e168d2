//! The kernels between the matrix products.

use super::super::math::{self, exp};
use super::float::{dot_lanes, fold};

/// Sum of `a[i] * b[i]` in eight lanes.
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    dot_lanes(a.iter().copied(), b.iter().copied())
}

/// `out[t] = rows[t] . x`: rows (out.len(), x.len()).
pub fn dot_rows(rows: &[f32], x: &[f32], out: &mut [f32]) {
    assert_eq!(rows.len(), x.len() * out.len());
    if !x.is_empty() {
        for (row, y) in rows.chunks_exact(x.len()).zip(out) {
            *y = dot(row, x);
        }
    }
}

/// `y += factor * x`, element by element.
pub fn axpy(factor: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    for (y, x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

/// `y += factors[t] * rows[t]` for each `t` in order: rows (factors.len(), y.len()).
pub fn axpy_rows(factors: &[f32], rows: &[f32], y: &mut [f32]) {
    assert_eq!(rows.len(), factors.len() * y.len());
    if !y.is_empty() {
        for (&factor, row) in factors.iter().zip(rows.chunks_exact(y.len())) {
            axpy(factor, row, y);
        }
    }
}

/// `out[i] = (x[i] * s) * weight[i]` with `s = 1 / sqrt(x . x / len + eps)`.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len());
    let mean = dot(x, x) / x.len() as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    for ((y, x), w) in out.iter_mut().zip(x).zip(weight) {
        *y = (x * scale) * w;
    }
}

/// `out[i] = ((x[i] - mean) * s) * weight[i] + bias[i]` with `s = 1 / sqrt(variance + eps)`: the mean
/// and the mean square of what is left by its subtraction, both summed in eight lanes.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    assert!([weight.len(), bias.len(), out.len()] == [x.len(); 3]);
    let mut lanes = [0.0; 8];
    for (i, x) in x.iter().enumerate() {
        lanes[i % 8] += x;
    }
    let mean = fold(lanes) / x.len() as f32;
    for (y, x) in out.iter_mut().zip(x) {
        *y = x - mean;
    }
    let scale = 1.0 / (dot(out, out) / x.len() as f32 + eps).sqrt();
    for ((y, w), b) in out.iter_mut().zip(weight).zip(bias) {
        *y = (*y * scale) * w + b;
    }
}

/// Rotates adjacent pairs of every head of `x` (heads, cos.len()) in place:
/// `x[i] * cos[i] + x[partner of i] * sin[i]`, where `cos` holds each pair's
/// cosine twice and `sin` its sine, first negated, then as it is.
pub fn rope(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let len = cos.len();
    assert!(len.is_multiple_of(2) && len == sin.len() && x.len().is_multiple_of(len.max(1)));
    if len == 0 {
        return;
    }
    for head in x.chunks_exact_mut(len) {
        for i in (0..len).step_by(2) {
            let (a, b) = (head[i], head[i + 1]);
            head[i] = a * cos[i] + b * sin[i];
            head[i + 1] = b * cos[i + 1] + a * sin[i + 1];
        }
    }
}

/// `x` becomes `exp(x - max) * (1 / sum)`, the sum of the exponentials in eight lanes.
pub fn softmax(x: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut lanes = [0.0; 8];
    for (i, x) in x.iter_mut().enumerate() {
        *x = exp(*x - max);
        lanes[i % 8] += *x;
    }
    let inverse = 1.0 / fold(lanes);
    for x in x {
        *x *= inverse;
    }
}

/// `gate[i] = (gate[i] / (1 + exp(-gate[i]))) * up[i]`: SwiGLU's product.
pub fn silu_mul(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len());
    for (g, u) in gate.iter_mut().zip(up) {
        *g = (*g / (1.0 + exp(-*g))) * u;
    }
}

/// Each element becomes its [`math::gelu`].
pub fn gelu(x: &mut [f32]) {
    for x in x {
        *x = math::gelu(*x);
    }
}

/// The largest finite half.
pub const F16_MAX: f32 = 65504.0;

/// `x`, at most the largest half, and 0 for NaN.
#[must_use]
pub fn finite(x: f32) -> f32 {
    if x.is_nan() {
        0.0
    } else {
        x.clamp(-F16_MAX, F16_MAX)
    }
}

/// `x` as IEEE halves, nearest even. Values past the largest half become it,
/// and NaN becomes 0, so that what is stored is always finite.
pub fn f32_to_f16(x: &[f32], out: &mut [u16]) {
    assert_eq!(x.len(), out.len());
    for (y, &x) in out.iter_mut().zip(x) {
        *y = half::f16::from_f32(finite(x)).to_bits();
    }
}

/// Finite IEEE halves as `f32`, exactly.
pub fn f16_to_f32(x: &[u16], out: &mut [f32]) {
    assert_eq!(x.len(), out.len());
    for (y, &x) in out.iter_mut().zip(x) {
        *y = half::f16::from_bits(x).to_f32();
    }
}
