//! What every kernel means, one element at a time.
//!
//! Written to be seen to be right, and to be what faster kernels are compared
//! with; also what runs where nothing faster can.

mod attention;
mod block32;
mod block_k;
mod float;
mod quantize;
mod vector;

use super::dispatch::Kernels;
use super::layout::{GROUP, Weights, unweave_block};
use super::{Q8, Q8K, SUMS};
use meetara_format::GgmlType;

pub use attention::{attention_scores, attention_values, widen_keys, widen_values};
pub use float::{
    fold, matmul_bf16_f32, matmul_f16_f32, matmul_f32_f32, matvec_bf16_f32, matvec_f16_f32,
    matvec_f32_f32,
};
pub use quantize::{block_scales, quantize_q8, quantize_q8k};
pub use vector::{
    F16_MAX, axpy, axpy_rows, dot, dot_rows, f16_to_f32, f32_to_f16, finite, gelu, layer_norm,
    rms_norm, rope, silu_mul, softmax,
};

/// The scalar kernels: any CPU runs them.
pub const KERNELS: Kernels = super::dispatch::kernels!("scalar");

/// One block of 8-bit activations: 32 with their sum, or 256 with sums of 16.
#[derive(Clone, Copy)]
struct Activations<'a, S> {
    quants: &'a [i8],
    scale: f32,
    sums: S,
}

/// A type of quantised weights; `S` is the kind of sums that its activations have.
trait Block<S> {
    /// Weights in a block.
    const LEN: usize;
    /// Bytes in a block.
    const BYTES: usize;

    /// What one block adds to its row, by the formula in [`super`].
    fn contribution(weights: &[u8], x: Activations<'_, S>) -> f32;
}

/// `out[column][row] = weights[row] . x[column]`: `weights` (rows, blocks) woven, `out` (columns,
/// rows), `activations(column, block)`. Each block is brought back to the order of a file first,
/// once for all columns: that order is what types are defined in.
#[inline(always)]
fn product<'a, S, B: Block<S>>(
    ty: GgmlType,
    weights: Weights<'_>,
    [blocks, columns]: [usize; 2],
    out: &mut [f32],
    activations: impl Fn(usize, usize) -> Activations<'a, S>,
) {
    let rows = weights.check(B::BYTES, blocks, columns, out);
    let (mut scratch, block_bytes) = ([0; 256], GROUP * B::BYTES);
    out.fill(0.0);
    for row in 0..rows {
        let group = weights.group(row / GROUP, blocks * block_bytes);
        for (block, woven) in group.chunks_exact(block_bytes).enumerate() {
            let weights = &mut scratch[..B::BYTES];
            unweave_block(ty, woven, row % GROUP, weights);
            for column in 0..columns {
                out[column * rows + row] += B::contribution(weights, activations(column, block));
            }
        }
    }
}

/// With activations in blocks of 32.
#[inline(always)]
fn product_q8<B: Block<i32>>(ty: GgmlType, weights: Weights<'_>, x: Q8<'_>, out: &mut [f32]) {
    x.check();
    let shape = [x.len / B::LEN, x.columns()];
    product::<_, B>(ty, weights, shape, out, |column, block| Activations {
        quants: &x.quants[column * x.len + block * B::LEN..][..B::LEN],
        scale: x.scales[block * x.stride + column],
        sums: x.sums[block * x.stride + column],
    });
}

/// With activations in blocks of 256.
#[inline(always)]
fn product_q8k<'s, B: Block<&'s [i16]>>(
    ty: GgmlType,
    weights: Weights<'_>,
    x: Q8K<'s>,
    out: &mut [f32],
) {
    x.check();
    let shape = [x.len / B::LEN, x.columns()];
    product::<_, B>(ty, weights, shape, out, |column, block| Activations {
        quants: &x.quants[column * x.len + block * B::LEN..][..B::LEN],
        scale: x.scales[block * x.stride + column],
        sums: &x.sums[(column * shape[0] + block) * SUMS..][..SUMS],
    });
}

macro_rules! products {
    ($activations:ident, $product:ident: $($matvec:ident, $matmul:ident = $block:ty, $ty:ident;)*) => {$(
        #[doc = concat!("`out[row] = weights[row] . x`: weights of ", stringify!($ty), " (rows, x.len), `x` one vector, `out` (rows).")]
        pub fn $matvec(weights: Weights<'_>, x: $activations<'_>, out: &mut [f32]) {
            assert_eq!(x.columns(), 1, "matvec takes one vector");
            $matmul(weights, x, out);
        }

        #[doc = concat!("`out[column][row] = weights[row] . x[column]`, weights of ", stringify!($ty), ": a matvec for every column.")]
        pub fn $matmul(weights: Weights<'_>, x: $activations<'_>, out: &mut [f32]) {
            $product::<$block>(GgmlType::$ty, weights, x, out);
        }
    )*};
}

products! { Q8, product_q8:
    matvec_q4_0_q8, matmul_q4_0_q8 = block32::Q4_0, Q4_0;
    matvec_q4_1_q8, matmul_q4_1_q8 = block32::Q4_1, Q4_1;
    matvec_q5_0_q8, matmul_q5_0_q8 = block32::Q5_0, Q5_0;
    matvec_q5_1_q8, matmul_q5_1_q8 = block32::Q5_1, Q5_1;
    matvec_q8_0_q8, matmul_q8_0_q8 = block32::Q8_0, Q8_0;
}

products! { Q8K, product_q8k:
    matvec_q4k_q8k, matmul_q4k_q8k = block_k::Q4K, Q4_K;
    matvec_q5k_q8k, matmul_q5k_q8k = block_k::Q5K, Q5_K;
    matvec_q6k_q8k, matmul_q6k_q8k = block_k::Q6K, Q6_K;
}

/// The half-precision float in `bytes[at..at + 2]`.
fn f16_at(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
