//! LayerNorm (Ba et al. 2016): `y = (x - mean) / sqrt(var + eps) * w + b`, row by row.
//!
//! What the backward pass needs is kept in place of `x`: the normalised rows `n` and one `1 / std` each.

/// Learnt scale and shift, `[C]` each.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// `w`
    pub weight: &'a [f32],
    /// `b`
    pub bias: &'a [f32],
}

/// Normalises the rows of `x` `[T, C]` in place, so that it holds `n`; writes `y` `[T, C]` and `inv_std` `[T]`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub fn forward(x: &mut [f32], affine: Affine, eps: f32, y: &mut [f32], inv_std: &mut [f32]) {
    let c = affine.weight.len();
    for ((x, y), inv) in x
        .chunks_exact_mut(c)
        .zip(y.chunks_exact_mut(c))
        .zip(inv_std)
    {
        let mut lanes = [0.0f32; 16];
        for chunk in x.chunks(16) {
            for (l, v) in lanes.iter_mut().zip(chunk) {
                *l += v;
            }
        }
        let mean = lanes.iter().sum::<f32>() / c as f32;
        let mut lanes = [0.0f32; 16];
        for chunk in x.chunks(16) {
            for (l, v) in lanes.iter_mut().zip(chunk) {
                *l += (v - mean) * (v - mean);
            }
        }
        *inv = 1.0 / (lanes.iter().sum::<f32>() / c as f32 + eps).sqrt();
        for (((y, x), w), b) in y.iter_mut().zip(x).zip(affine.weight).zip(affine.bias) {
            *x = (*x - mean) * *inv;
            *y = *x * w + b;
        }
    }
}

/// Recomputes `y` from the normalised rows that [`forward`] left.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub fn replay(normed: &[f32], affine: Affine, y: &mut [f32]) {
    let c = affine.weight.len();
    for (n, y) in normed.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
        for (((y, n), w), b) in y.iter_mut().zip(n).zip(affine.weight).zip(affine.bias) {
            *y = n * w + b;
        }
    }
}

/// Turns `dy` `[T, C]` into the gradient of the input, in place; adds to `dw` and `db` `[C]`.
///
/// With `g = dy * w`: `dx = inv * (g - mean(g) - n * mean(g * n))`, `dw += dy * n`, `db += dy`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub fn backward(
    normed: &[f32],
    weight: &[f32],
    inv_std: &[f32],
    dy: &mut [f32],
    dw: &mut [f32],
    db: &mut [f32],
) {
    let c = weight.len();
    let rows = normed.chunks_exact(c).zip(dy.chunks_exact_mut(c));
    for ((n, dy), inv) in rows.zip(inv_std) {
        let (mut sums, mut dots) = ([0.0f32; 16], [0.0f32; 16]);
        for ((n, dy), w) in n.chunks(16).zip(dy.chunks(16)).zip(weight.chunks(16)) {
            for (((s, d), n), (dy, w)) in
                sums.iter_mut().zip(&mut dots).zip(n).zip(dy.iter().zip(w))
            {
                *s += dy * w;
                *d += dy * w * n;
            }
        }
        let mean = sums.iter().sum::<f32>() / c as f32;
        let dot = dots.iter().sum::<f32>() / c as f32;
        for (((dy, n), w), (dw, db)) in dy
            .iter_mut()
            .zip(n)
            .zip(weight)
            .zip(dw.iter_mut().zip(db.iter_mut()))
        {
            *dw += *dy * n;
            *db += *dy;
            *dy = inv * (*dy * w - mean - n * dot);
        }
    }
}
