//! RMSNorm (Zhang and Sennrich 2019): `y = x / sqrt(mean(x^2) + eps) * w`, row by row.

/// Normalises each row of `x` `[T, C]` into `y`; `inv_rms` `[T]` keeps 1 / rms for the backward pass.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub fn forward(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32], inv_rms: &mut [f32]) {
    let c = weight.len();
    for ((x, y), inv) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).zip(inv_rms) {
        let mut lanes = [0.0f32; 16];
        for chunk in x.chunks(16) {
            for (l, v) in lanes.iter_mut().zip(chunk) {
                *l += v * v;
            }
        }
        *inv = 1.0 / (lanes.iter().sum::<f32>() / c as f32 + eps).sqrt();
        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * *inv * w;
        }
    }
}

/// Recomputes `y` from the `inv_rms` kept by [`forward`].
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub fn replay(x: &[f32], weight: &[f32], inv_rms: &[f32], y: &mut [f32]) {
    let c = weight.len();
    for ((x, y), inv) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).zip(inv_rms) {
        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * inv * w;
        }
    }
}

/// Adds the gradient of the input to `dx` `[T, C]` and, where asked for, that of the weight to `dw` `[C]`.
///
/// With `n = x * inv` and `g = dy * w`: `dx += inv * (g - n * mean(g * n))`, `dw += dy * n`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub fn backward(
    x: &[f32],
    weight: &[f32],
    inv_rms: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    mut dw: Option<&mut [f32]>,
) {
    let c = weight.len();
    let rows = x
        .chunks_exact(c)
        .zip(dy.chunks_exact(c))
        .zip(dx.chunks_exact_mut(c));
    for (((x, dy), dx), inv) in rows.zip(inv_rms) {
        let mut lanes = [0.0f32; 16];
        for ((x, dy), w) in x.chunks(16).zip(dy.chunks(16)).zip(weight.chunks(16)) {
            for (((l, x), dy), w) in lanes.iter_mut().zip(x).zip(dy).zip(w) {
                *l += x * dy * w;
            }
        }
        let mean = lanes.iter().sum::<f32>() * inv * inv / c as f32;
        for (((dx, dy), x), w) in dx.iter_mut().zip(dy).zip(x).zip(weight) {
            *dx += inv * (dy * w - x * mean);
        }
        if let Some(dw) = dw.as_deref_mut() {
            for ((dw, dy), x) in dw.iter_mut().zip(dy).zip(x) {
                *dw += dy * x * inv;
            }
        }
    }
}
