//! Where the gradient of a linear layer's weight goes: nowhere, into the full matrix, or into a
//! low-rank pair.
//!
//! For `y = x W^T` with LoRA `W = W0 + s B A` (Hu et al. 2021), the full gradient `dy^T x` is never
//! formed: `dA = s (dy B)^T x` and `dB = s dy^T (x A^T)` are thin products.

use super::gemm::{Mat, MatMut, Store, gemm};

/// A low-rank pair of one linear layer: `a` `[r, in]`, `b` `[out, r]`.
#[derive(Clone, Copy)]
pub struct LowRank<'a> {
    /// `A`, `[r, in]`.
    pub a: &'a [f32],
    /// `B`, `[out, r]`.
    pub b: &'a [f32],
    /// `r`.
    pub rank: usize,
    /// `alpha / r`.
    pub scale: f32,
}

/// Adds `dy^T x` to `dw` `[out, in]`.
pub fn full_grad(dy: Mat, x: Mat, dw: &mut [f32], out: usize, inputs: usize) {
    gemm(Store::Add, 1.0, dy.t(), x, MatMut::new(dw, out, inputs));
}

/// Adds the gradients of a low-rank pair to `da` `[r, in]` and `db` `[out, r]`; `scratch` holds `[T, r]`.
pub fn low_rank_grad(
    dy: Mat,
    x: Mat,
    pair: LowRank,
    da: &mut [f32],
    db: &mut [f32],
    (positions, out, inputs): (usize, usize, usize),
    scratch: &mut [f32],
) {
    let r = pair.rank;
    let thin = &mut scratch[..positions * r];
    gemm(
        Store::Set,
        pair.scale,
        dy,
        Mat::new(pair.b, out, r),
        MatMut::new(thin, positions, r),
    );
    gemm(
        Store::Add,
        1.0,
        Mat::new(thin, positions, r).t(),
        x,
        MatMut::new(da, r, inputs),
    );
    gemm(
        Store::Set,
        pair.scale,
        x,
        Mat::new(pair.a, r, inputs).t(),
        MatMut::new(thin, positions, r),
    );
    gemm(
        Store::Add,
        1.0,
        dy.t(),
        Mat::new(thin, positions, r),
        MatMut::new(db, out, r),
    );
}
