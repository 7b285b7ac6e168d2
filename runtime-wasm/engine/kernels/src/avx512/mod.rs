//! x86-64 with AVX-512 and its products of bytes (VNNI).
//!
//! A vector holds the same four columns of 16 rows: those of two woven groups,
//! of which each load brings a half. `vpdpbusd` multiplies bytes, unsigned
//! weights times signed activations, and adds four products to an `i32`
//! without a limit in between. The eight virtual lanes of floats fit no vector
//! of 16, so what adds floats across a vector is [`super::avx2`]'s.

mod attention;
mod block32;
mod block_k;
mod vector;
mod woven;

use super::avx2::Avx2;
use super::dispatch::{Kernels, ProductQ8, ProductQ8K};
use super::x86::{export, export_products};
use super::{Q8, Q8K, Weights};

/// Proof that this CPU has AVX-512 with VNNI.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(Avx2);

impl Avx512 {
    /// The proof, where there is one.
    #[must_use]
    pub fn new() -> Option<Self> {
        let present = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        Avx2::new().filter(|_| present).map(Self)
    }

    /// The kernels that this proof allows to run.
    #[must_use]
    pub fn kernels(self) -> Kernels {
        macro_rules! product {
            ($kind:ident, $matvec:ident, $matmul:ident) => {
                $kind {
                    matvec: $matvec,
                    matmul: $matmul,
                }
            };
        }
        Kernels {
            name: "avx512",
            q4_0: product!(ProductQ8, matvec_q4_0_q8, matmul_q4_0_q8),
            q4_1: product!(ProductQ8, matvec_q4_1_q8, matmul_q4_1_q8),
            q5_0: product!(ProductQ8, matvec_q5_0_q8, matmul_q5_0_q8),
            q5_1: product!(ProductQ8, matvec_q5_1_q8, matmul_q5_1_q8),
            q8_0: product!(ProductQ8, matvec_q8_0_q8, matmul_q8_0_q8),
            q4_k: product!(ProductQ8K, matvec_q4k_q8k, matmul_q4k_q8k),
            q5_k: product!(ProductQ8K, matvec_q5k_q8k, matmul_q5k_q8k),
            q6_k: product!(ProductQ8K, matvec_q6k_q8k, matmul_q6k_q8k),
            attention_scores,
            attention_values,
            widen_keys,
            widen_values,
            softmax,
            silu_mul,
            f16_to_f32,
            ..self.0.kernels()
        }
    }
}

export_products!();

export! {
    attention_scores = attention::attention_scores(keys: &[f32], q: &[f32], scores: &mut [f32], stride: usize, head_dim: usize);
    attention_values = attention::attention_values(values: &[f32], scores: &[f32], stride: usize, head_dim: usize, out: &mut [f32]);
    widen_keys = attention::widen_keys(quants: &[i8], scales: &[f32], head_dim: usize, out: &mut [f32]);
    widen_values = attention::widen_values(quants: &[i8], scales: &[f32], head_dim: usize, out: &mut [f32]);
    softmax = vector::softmax(x: &mut [f32]);
    silu_mul = vector::silu_mul(gate: &mut [f32], up: &[f32]);
    f16_to_f32 = vector::f16_to_f32(x: &[u16], out: &mut [f32]);
}
