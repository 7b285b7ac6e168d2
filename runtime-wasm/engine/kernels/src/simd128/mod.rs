//! WebAssembly with 128-bit vectors, for builds with `-C target-feature=+simd128`.
//!
//! Vectors hold 16 bytes, 8 `i16`, 4 `i32` or 4 `f32`; the eight virtual lanes
//! of [`super`] are two vectors of floats. A build that may use relaxed SIMD
//! besides has a product of bytes ([`four`]), which is exact, as it is used
//! here; nothing else differs.
//!
//! The instructions are those that the build allows, so nothing has to be
//! detected: a module that uses one that the engine lacks does not start.

mod attention;
mod block32;
mod block_k;
mod float;
mod four;
mod math;
mod quantize;
mod reduce;
mod vector;
mod woven;

use super::dispatch::{Kernels, kernels};
use super::{Q8, Q8K, Weights};

use super::scalar::{widen_keys, widen_values};
use attention::{attention_scores, attention_values};
use float::{dot, dot_rows};
use quantize::{quantize_q8, quantize_q8k};
use vector::{
    axpy, axpy_rows, f16_to_f32, f32_to_f16, gelu, layer_norm, rms_norm, rope, silu_mul, softmax,
};

/// The kernels of this build.
pub const KERNELS: Kernels = if cfg!(target_feature = "relaxed-simd") {
    kernels!("relaxed")
} else {
    kernels!("simd128")
};

macro_rules! products {
    ($($name:ident = $driver:ident::<$module:ident::$block:ident>($activations:ident);)*) => {$(
        fn $name(weights: Weights<'_>, x: $activations<'_>, out: &mut [f32]) {
            woven::$driver::<$module::$block, _>(weights, x, out);
        }
    )*};
}

products! {
    matvec_q4_0_q8 = matvec::<block32::Q4_0>(Q8);
    matmul_q4_0_q8 = matmul::<block32::Q4_0>(Q8);
    matvec_q4_1_q8 = matvec::<block32::Q4_1>(Q8);
    matmul_q4_1_q8 = matmul::<block32::Q4_1>(Q8);
    matvec_q5_0_q8 = matvec::<block32::Q5_0>(Q8);
    matmul_q5_0_q8 = matmul_unpacked::<block32::Q5_0>(Q8);
    matvec_q5_1_q8 = matvec::<block32::Q5_1>(Q8);
    matmul_q5_1_q8 = matmul::<block32::Q5_1>(Q8);
    matvec_q8_0_q8 = matvec::<block32::Q8_0>(Q8);
    matmul_q8_0_q8 = matmul::<block32::Q8_0>(Q8);
    matvec_q4k_q8k = matvec::<block_k::Q4K>(Q8K);
    matmul_q4k_q8k = matmul::<block_k::Q4K>(Q8K);
    matvec_q5k_q8k = matvec::<block_k::Q5K>(Q8K);
    matmul_q5k_q8k = matmul::<block_k::Q5K>(Q8K);
    matvec_q6k_q8k = matvec::<block_k::Q6K>(Q8K);
    matmul_q6k_q8k = matmul::<block_k::Q6K>(Q8K);
}

macro_rules! float_products {
    ($($matvec:ident, $matmul:ident = $float:ident;)*) => {$(
        fn $matvec(weights: &[u8], x: &[f32], out: &mut [f32]) {
            float::matvec::<float::$float>(weights, x, out);
        }

        fn $matmul(weights: &[u8], len: usize, x: &[f32], out: &mut [f32]) {
            float::matmul::<float::$float>(weights, len, x, out);
        }
    )*};
}

float_products! {
    matvec_f32_f32, matmul_f32_f32 = F32;
    matvec_f16_f32, matmul_f16_f32 = F16;
    matvec_bf16_f32, matmul_bf16_f32 = Bf16;
}
