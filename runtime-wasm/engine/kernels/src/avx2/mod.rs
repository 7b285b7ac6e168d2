//! x86-64 with AVX2 and F16C (every AVX2 CPU that was ever sold has both).
//!
//! Vectors hold 32 bytes, 16 `i16`, 8 `i32` or 8 `f32`; so one vector of
//! floats is exactly the eight virtual lanes of [`super`]. Products of bytes
//! use `maddubs`, unsigned weights times signed activations, whose pairs stay
//! within `i16` for every type: at most 2 * 128 * 127 (Q8_0).
//!
//! Functions here are private; they leave in a [`Kernels`] that an [`Avx2`]
//! gives out, and an `Avx2` exists only where the CPU has the instructions.

mod attention;
mod block32;
mod block_k;
mod f16c;
mod float;
mod math;
mod quantize;
mod reduce;
mod vector;
mod woven;

use super::dispatch::{Kernels, kernels};
use super::x86::{export, export_products};
use super::{Q8, Q8K, Weights};

/// Proof that this CPU has AVX2 and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, where there is one.
    #[must_use]
    pub fn new() -> Option<Self> {
        let present = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c");
        present.then_some(Self(()))
    }

    /// The kernels that this proof allows to run.
    #[must_use]
    pub fn kernels(self) -> Kernels {
        kernels!("avx2")
    }
}

export_products!();

export! {
    matvec_f32_f32 = float::matvec::<float::F32>(weights: &[u8], x: &[f32], out: &mut [f32]);
    matmul_f32_f32 = float::matmul::<float::F32>(weights: &[u8], len: usize, x: &[f32], out: &mut [f32]);
    matvec_f16_f32 = float::matvec::<float::F16>(weights: &[u8], x: &[f32], out: &mut [f32]);
    matmul_f16_f32 = float::matmul::<float::F16>(weights: &[u8], len: usize, x: &[f32], out: &mut [f32]);
    matvec_bf16_f32 = float::matvec::<float::Bf16>(weights: &[u8], x: &[f32], out: &mut [f32]);
    matmul_bf16_f32 = float::matmul::<float::Bf16>(weights: &[u8], len: usize, x: &[f32], out: &mut [f32]);
    quantize_q8 = quantize::quantize_q8(x: &[f32], quants: &mut [i8], scales: &mut [f32], sums: &mut [i32], stride: usize);
    quantize_q8k = quantize::quantize_q8k(x: &[f32], quants: &mut [i8], scales: &mut [f32], sums: &mut [i16], stride: usize);
    dot = float::dot(a: &[f32], b: &[f32]) -> f32;
    dot_rows = float::dot_rows(rows: &[f32], x: &[f32], out: &mut [f32]);
    axpy = vector::axpy(factor: f32, x: &[f32], y: &mut [f32]);
    axpy_rows = vector::axpy_rows(factors: &[f32], rows: &[f32], y: &mut [f32]);
    attention_scores = attention::attention_scores(keys: &[f32], q: &[f32], scores: &mut [f32], stride: usize, head_dim: usize);
    attention_values = attention::attention_values(values: &[f32], scores: &[f32], stride: usize, head_dim: usize, out: &mut [f32]);
    widen_keys = attention::widen_keys(quants: &[i8], scales: &[f32], head_dim: usize, out: &mut [f32]);
    widen_values = attention::widen_values(quants: &[i8], scales: &[f32], head_dim: usize, out: &mut [f32]);
    rms_norm = vector::rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]);
    layer_norm = vector::layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]);
    rope = vector::rope(x: &mut [f32], cos: &[f32], sin: &[f32]);
    softmax = vector::softmax(x: &mut [f32]);
    silu_mul = vector::silu_mul(gate: &mut [f32], up: &[f32]);
    gelu = vector::gelu(x: &mut [f32]);
    f32_to_f16 = vector::f32_to_f16(x: &[f32], out: &mut [u16]);
    f16_to_f32 = vector::f16_to_f32(x: &[u16], out: &mut [f32]);
}
