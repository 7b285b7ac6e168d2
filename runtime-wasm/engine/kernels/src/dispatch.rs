//! The one place that chooses kernels.
//!
//! A native build asks the CPU once, when a model is loaded. A WebAssembly
//! build cannot ask: it has the instructions that it was compiled with, and
//! the page chooses between builds before it fetches one.

use meetara_format::GgmlType;

use super::{Q8, Q8K, Weights, scalar};

/// Products of one type of weights in blocks of 32.
#[derive(Clone, Copy, Debug)]
pub struct ProductQ8 {
    /// `f(weights, x, out)`, one vector: `out` is (rows).
    pub matvec: fn(Weights<'_>, Q8<'_>, &mut [f32]),
    /// `f(weights, x, out)`, any number of vectors: `out` is (columns, rows).
    /// A block of weights is unpacked once for several columns.
    pub matmul: fn(Weights<'_>, Q8<'_>, &mut [f32]),
}

/// Products of one type of weights in blocks of 256.
#[derive(Clone, Copy, Debug)]
pub struct ProductQ8K {
    /// `f(weights, x, out)`, one vector: `out` is (rows).
    pub matvec: fn(Weights<'_>, Q8K<'_>, &mut [f32]),
    /// `f(weights, x, out)`, any number of vectors: `out` is (columns, rows).
    /// A block of weights is unpacked once for several columns.
    pub matmul: fn(Weights<'_>, Q8K<'_>, &mut [f32]),
}

/// Products of one float type with `f32` activations.
#[derive(Clone, Copy, Debug)]
pub struct ProductF32 {
    /// `f(weights, x, out)`, one vector: `out` is (rows).
    pub matvec: fn(&[u8], &[f32], &mut [f32]),
    /// `f(weights, len, x, out)`, vectors of `len`: `out` is (columns, rows).
    pub matmul: fn(&[u8], usize, &[f32], &mut [f32]),
}

/// `f(x, quants, scales, sums, stride)`: one vector to 8 bits.
pub type Quantize<S> = fn(&[f32], &mut [i8], &mut [f32], &mut [S], usize);

/// `f(x, weight, bias, eps, out)`, all of one length.
pub type LayerNorm = fn(&[f32], &[f32], &[f32], f32, &mut [f32]);

/// A set of kernels that this CPU can run. What each does, shapes included, is
/// said at the function of the same name in [`scalar`].
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each is documented at its scalar twin")]
pub struct Kernels {
    /// The set's name, as in `avx2`.
    pub name: &'static str,
    pub quantize_q8: Quantize<i32>,
    pub quantize_q8k: Quantize<i16>,
    pub q4_0: ProductQ8,
    pub q4_1: ProductQ8,
    pub q5_0: ProductQ8,
    pub q5_1: ProductQ8,
    pub q8_0: ProductQ8,
    pub q4_k: ProductQ8K,
    pub q5_k: ProductQ8K,
    pub q6_k: ProductQ8K,
    pub f32: ProductF32,
    pub f16: ProductF32,
    pub bf16: ProductF32,
    pub dot: fn(&[f32], &[f32]) -> f32,
    pub dot_rows: fn(&[f32], &[f32], &mut [f32]),
    pub axpy: fn(f32, &[f32], &mut [f32]),
    pub axpy_rows: fn(&[f32], &[f32], &mut [f32]),
    pub attention_scores: fn(&[f32], &[f32], &mut [f32], usize, usize),
    pub attention_values: fn(&[f32], &[f32], usize, usize, &mut [f32]),
    pub widen_keys: fn(&[i8], &[f32], usize, &mut [f32]),
    pub widen_values: fn(&[i8], &[f32], usize, &mut [f32]),
    pub rms_norm: fn(&[f32], &[f32], f32, &mut [f32]),
    pub layer_norm: LayerNorm,
    pub rope: fn(&mut [f32], &[f32], &[f32]),
    pub softmax: fn(&mut [f32]),
    pub silu_mul: fn(&mut [f32], &[f32]),
    pub gelu: fn(&mut [f32]),
    pub f32_to_f16: fn(&[f32], &mut [u16]),
    pub f16_to_f32: fn(&[u16], &mut [f32]),
}

/// A [`Kernels`] of the functions that are in scope under their own names.
macro_rules! kernels {
    ($name:literal) => {{
        use $crate::dispatch::{Kernels, ProductF32, ProductQ8, ProductQ8K};
        Kernels {
            name: $name,
            q4_0: ProductQ8 {
                matvec: matvec_q4_0_q8,
                matmul: matmul_q4_0_q8,
            },
            q4_1: ProductQ8 {
                matvec: matvec_q4_1_q8,
                matmul: matmul_q4_1_q8,
            },
            q5_0: ProductQ8 {
                matvec: matvec_q5_0_q8,
                matmul: matmul_q5_0_q8,
            },
            q5_1: ProductQ8 {
                matvec: matvec_q5_1_q8,
                matmul: matmul_q5_1_q8,
            },
            q8_0: ProductQ8 {
                matvec: matvec_q8_0_q8,
                matmul: matmul_q8_0_q8,
            },
            q4_k: ProductQ8K {
                matvec: matvec_q4k_q8k,
                matmul: matmul_q4k_q8k,
            },
            q5_k: ProductQ8K {
                matvec: matvec_q5k_q8k,
                matmul: matmul_q5k_q8k,
            },
            q6_k: ProductQ8K {
                matvec: matvec_q6k_q8k,
                matmul: matmul_q6k_q8k,
            },
            f32: ProductF32 {
                matvec: matvec_f32_f32,
                matmul: matmul_f32_f32,
            },
            f16: ProductF32 {
                matvec: matvec_f16_f32,
                matmul: matmul_f16_f32,
            },
            bf16: ProductF32 {
                matvec: matvec_bf16_f32,
                matmul: matmul_bf16_f32,
            },
            quantize_q8,
            quantize_q8k,
            dot,
            dot_rows,
            axpy,
            axpy_rows,
            attention_scores,
            attention_values,
            widen_keys,
            widen_values,
            rms_norm,
            layer_norm,
            rope,
            softmax,
            silu_mul,
            gelu,
            f32_to_f16,
            f16_to_f32,
        }
    }};
}
pub(crate) use kernels;

/// The products of one weight type, and so the activations it wants.
#[derive(Clone, Copy, Debug)]
pub enum Product {
    /// Activations in blocks of 32.
    Q8(ProductQ8),
    /// Activations in blocks of 256.
    Q8K(ProductQ8K),
    /// Activations as they are.
    F32(ProductF32),
}

impl Kernels {
    /// The scalar kernels, which say what is right.
    #[must_use]
    pub fn scalar() -> Self {
        scalar::KERNELS
    }

    /// Every set that this CPU can run, the fastest last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Self::scalar()];
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = super::avx2::Avx2::new() {
            sets.push(avx2.kernels());
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(avx512) = super::avx512::Avx512::new() {
            sets.push(avx512.kernels());
        }
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        sets.push(super::simd128::KERNELS);
        sets
    }

    /// The fastest set that this CPU can run.
    #[must_use]
    pub fn best() -> Self {
        // Not the last of `available`: so no scalar kernel is named, and the linker drops them all.
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        {
            super::simd128::KERNELS
        }
        #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
        {
            Self::available().pop().unwrap_or(scalar::KERNELS)
        }
    }

    /// The products of weights of type `ty`, or `None` for a type without kernels.
    #[must_use]
    pub fn product(&self, ty: GgmlType) -> Option<Product> {
        Some(match ty {
            GgmlType::F32 => Product::F32(self.f32),
            GgmlType::F16 => Product::F32(self.f16),
            GgmlType::BF16 => Product::F32(self.bf16),
            GgmlType::Q4_0 => Product::Q8(self.q4_0),
            GgmlType::Q4_1 => Product::Q8(self.q4_1),
            GgmlType::Q5_0 => Product::Q8(self.q5_0),
            GgmlType::Q5_1 => Product::Q8(self.q5_1),
            GgmlType::Q8_0 => Product::Q8(self.q8_0),
            GgmlType::Q4_K => Product::Q8K(self.q4_k),
            GgmlType::Q5_K => Product::Q8K(self.q5_k),
            GgmlType::Q6_K => Product::Q8K(self.q6_k),
            _ => return None,
        })
    }
}
