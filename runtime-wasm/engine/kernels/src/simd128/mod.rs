//! WebAssembly with 128-bit vectors, for builds with `-C target-feature=+simd128`.
//!
//! Vectors hold 16 bytes, 8 `i16`, 4 `i32` or 4 `f32`; the eight virtual lanes
//! of [`super`] are two vectors of floats. There is no product of bytes, so
//! both operands become `i16`. Bytes are split into those at even and those at
//! odd places, which costs one mask or one shift each, where widening in order
//! would cost a shuffle:
//!
//! ```text
//! 16 bytes     b0 b1 b2 b3 .. b15
//! even         b0 b2 .. b14            as i16:  v & 0x00ff
//! odd          b1 b3 .. b15            as i16:  v >> 8
//! ```
//!
//! A block's activations are split once ([`split::Split`]) and then meet all
//! rows, so blocks are the outer loop and rows the inner one. Each row still
//! adds its blocks in order.
//!
//! The instructions are those that the build allows, so nothing has to be
//! detected: a module that uses one that the engine lacks does not start.

mod block32;
mod block_k;
mod float;
mod math;
mod quantize;
mod reduce;
mod split;
mod vector;

use super::dispatch::{Kernels, kernels};
use super::{Q8, Q8K};

use float::{dot, dot_rows};
use quantize::{quantize_q8, quantize_q8k};
use vector::{axpy, axpy_rows, f16_to_f32, f32_to_f16, rms_norm, rope, silu_mul, softmax};

/// The kernels of this build.
pub const KERNELS: Kernels = kernels!("simd128");

macro_rules! products {
    ($($name:ident = $module:ident::$driver:ident::<$block:ident>($activations:ident);)*) => {$(
        fn $name(weights: &[u8], x: $activations<'_>, out: &mut [f32]) {
            $module::$driver::<$module::$block>(weights, x, out);
        }
    )*};
}

products! {
    matvec_q4_0_q8 = block32::matvec::<Q4_0>(Q8);
    matmul_q4_0_q8 = block32::matmul::<Q4_0>(Q8);
    matvec_q4_1_q8 = block32::matvec::<Q4_1>(Q8);
    matmul_q4_1_q8 = block32::matmul::<Q4_1>(Q8);
    matvec_q5_0_q8 = block32::matvec::<Q5_0>(Q8);
    matmul_q5_0_q8 = block32::matmul::<Q5_0>(Q8);
    matvec_q5_1_q8 = block32::matvec::<Q5_1>(Q8);
    matmul_q5_1_q8 = block32::matmul::<Q5_1>(Q8);
    matvec_q8_0_q8 = block32::matvec::<Q8_0>(Q8);
    matmul_q8_0_q8 = block32::matmul::<Q8_0>(Q8);
    matvec_q4k_q8k = block_k::matvec::<Q4K>(Q8K);
    matmul_q4k_q8k = block_k::matmul::<Q4K>(Q8K);
    matvec_q5k_q8k = block_k::matvec::<Q5K>(Q8K);
    matmul_q5k_q8k = block_k::matmul::<Q5K>(Q8K);
    matvec_q6k_q8k = block_k::matvec::<Q6K>(Q8K);
    matmul_q6k_q8k = block_k::matmul::<Q6K>(Q8K);
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
