//! What every kernel means, one element at a time.
//!
//! Written to be seen to be right, and to be what faster kernels are compared
//! with; also what runs where nothing faster can.

mod block32;
mod block_k;
mod float;
mod quantize;
mod vector;

use super::dispatch::{Kernels, MatmulF32, MatmulQ8};
use super::{Q8, check_product};

pub use float::{
    bf16_row, f16_row, f32_row, fold, matvec_bf16_f32, matvec_f16_f32, matvec_f32_f32,
};
pub use quantize::{quantize_q8, quantize_q8k};
pub use vector::{
    axpy, axpy_rows, dot, dot_rows, f16_to_f32, f32_to_f16, rms_norm, rope, silu_mul, softmax,
};

/// The scalar kernels: any CPU runs them.
pub const KERNELS: Kernels = Kernels {
    name: "scalar",
    quantize_q8,
    quantize_q8k,
    q4_0: MatmulQ8 {
        matvec: matvec_q4_0_q8,
        matmul: matmul::<block32::Q4_0>,
    },
    q4_1: MatmulQ8 {
        matvec: matvec_q4_1_q8,
        matmul: matmul::<block32::Q4_1>,
    },
    q5_0: MatmulQ8 {
        matvec: matvec_q5_0_q8,
        matmul: matmul::<block32::Q5_0>,
    },
    q5_1: MatmulQ8 {
        matvec: matvec_q5_1_q8,
        matmul: matmul::<block32::Q5_1>,
    },
    q8_0: MatmulQ8 {
        matvec: matvec_q8_0_q8,
        matmul: matmul::<block32::Q8_0>,
    },
    q4_k: MatmulQ8 {
        matvec: matvec_q4k_q8k,
        matmul: matmul::<block_k::Q4K>,
    },
    q5_k: MatmulQ8 {
        matvec: matvec_q5k_q8k,
        matmul: matmul::<block_k::Q5K>,
    },
    q6_k: MatmulQ8 {
        matvec: matvec_q6k_q8k,
        matmul: matmul::<block_k::Q6K>,
    },
    f32: MatmulF32 {
        matvec: matvec_f32_f32,
        matmul: float::matmul_f32_f32,
    },
    f16: MatmulF32 {
        matvec: matvec_f16_f32,
        matmul: float::matmul_f16_f32,
    },
    bf16: MatmulF32 {
        matvec: matvec_bf16_f32,
        matmul: float::matmul_bf16_f32,
    },
    dot,
    dot_rows,
    axpy,
    axpy_rows,
    rms_norm,
    rope,
    softmax,
    silu_mul,
    f32_to_f16,
    f16_to_f32,
};

/// One block of 8-bit activations.
#[derive(Clone, Copy)]
struct ActivationBlock<'a> {
    /// (block_len)
    quants: &'a [i8],
    scale: f32,
    /// (block_len / 16)
    sums: &'a [i16],
}

/// A type of quantised weights.
trait Block {
    /// Weights in a block.
    const LEN: usize;
    /// Bytes in a block.
    const BYTES: usize;

    /// What one block adds to its row, by the formula in [`super`].
    fn contribution(weights: &[u8], x: ActivationBlock<'_>) -> f32;
}

/// `out[row] = weights[row] . x`, `weights` (rows, x.len), `x` one vector, `out` (rows).
fn matvec<B: Block>(weights: &[u8], x: Q8<'_>, out: &mut [f32]) {
    x.check(B::LEN);
    assert_eq!(x.columns(), 1, "matvec takes one vector");
    let row_bytes = x.len / B::LEN * B::BYTES;
    check_product(weights, row_bytes, 1, out);
    for (row, y) in weights.chunks_exact(row_bytes).zip(out) {
        let mut sum = 0.0;
        for (index, block) in row.chunks_exact(B::BYTES).enumerate() {
            sum += B::contribution(
                block,
                ActivationBlock {
                    quants: &x.quants[index * B::LEN..][..B::LEN],
                    scale: x.scales[index],
                    sums: &x.sums[index * B::LEN / 16..][..B::LEN / 16],
                },
            );
        }
        *y = sum;
    }
}

/// `out[column][row] = weights[row] . x[column]`: a matvec for every column.
fn matmul<B: Block>(weights: &[u8], x: Q8<'_>, out: &mut [f32]) {
    x.check(B::LEN);
    let rows = check_product(weights, x.len / B::LEN * B::BYTES, x.columns(), out);
    if rows > 0 {
        for (column, out) in out.chunks_exact_mut(rows).enumerate() {
            matvec::<B>(weights, x.column(column), out);
        }
    }
}

macro_rules! matvec {
    ($($(#[$doc:meta])* $name:ident = $block:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(weights: &[u8], x: Q8<'_>, out: &mut [f32]) {
            matvec::<$block>(weights, x, out);
        }
    )*};
}

matvec! {
    /// Q4_0 weights, activations in blocks of 32.
    matvec_q4_0_q8 = block32::Q4_0;
    /// Q4_1 weights, activations in blocks of 32.
    matvec_q4_1_q8 = block32::Q4_1;
    /// Q5_0 weights, activations in blocks of 32.
    matvec_q5_0_q8 = block32::Q5_0;
    /// Q5_1 weights, activations in blocks of 32.
    matvec_q5_1_q8 = block32::Q5_1;
    /// Q8_0 weights, activations in blocks of 32.
    matvec_q8_0_q8 = block32::Q8_0;
    /// Q4_K weights, activations in blocks of 256.
    matvec_q4k_q8k = block_k::Q4K;
    /// Q5_K weights, activations in blocks of 256.
    matvec_q5k_q8k = block_k::Q5K;
    /// Q6_K weights, activations in blocks of 256.
    matvec_q6k_q8k = block_k::Q6K;
}

/// The half-precision float in `bytes[at..at + 2]`.
fn f16_at(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
