//! The one place that chooses kernels.
//!
//! A native build asks the CPU once, when a model is loaded. A WebAssembly
//! build cannot ask: it has the instructions that it was compiled with, and
//! the page chooses between builds before it fetches one.

use meetara_format::GgmlType;

use super::{Q8, scalar};

/// `f(weights, x, out)` for quantised weights (rows, x.len) and 8-bit activations.
pub type ProductQ8 = fn(&[u8], Q8<'_>, &mut [f32]);

/// Products of one quantised type.
#[derive(Clone, Copy, Debug)]
pub struct MatmulQ8 {
    /// One vector: `out` is (rows).
    pub matvec: ProductQ8,
    /// Any number of vectors: `out` is (columns, rows). Each weight is unpacked
    /// once for several columns.
    pub matmul: ProductQ8,
}

/// Products of one float type with `f32` activations.
#[derive(Clone, Copy, Debug)]
pub struct MatmulF32 {
    /// `f(weights, x, out)`, one vector: `out` is (rows).
    pub matvec: fn(&[u8], &[f32], &mut [f32]),
    /// `f(weights, len, x, out)`, vectors of `len`: `out` is (columns, rows).
    pub matmul: fn(&[u8], usize, &[f32], &mut [f32]),
}

/// A set of kernels that this CPU can run. What each does, shapes included, is
/// said at the function of the same name in [`scalar`].
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each is documented at its scalar twin")]
pub struct Kernels {
    /// The set's name, as in `avx2`.
    pub name: &'static str,
    pub quantize_q8: fn(&[f32], &mut [i8], &mut [f32], &mut [i16]),
    pub quantize_q8k: fn(&[f32], &mut [i8], &mut [f32], &mut [i16]),
    pub q4_0: MatmulQ8,
    pub q4_1: MatmulQ8,
    pub q5_0: MatmulQ8,
    pub q5_1: MatmulQ8,
    pub q8_0: MatmulQ8,
    pub q4_k: MatmulQ8,
    pub q5_k: MatmulQ8,
    pub q6_k: MatmulQ8,
    pub f32: MatmulF32,
    pub f16: MatmulF32,
    pub bf16: MatmulF32,
    pub dot: fn(&[f32], &[f32]) -> f32,
    pub dot_rows: fn(&[f32], &[f32], &mut [f32]),
    pub axpy: fn(f32, &[f32], &mut [f32]),
    pub axpy_rows: fn(&[f32], &[f32], &mut [f32]),
    pub rms_norm: fn(&[f32], &[f32], f32, &mut [f32]),
    pub rope: fn(&mut [f32], &[f32], &[f32]),
    pub softmax: fn(&mut [f32]),
    pub silu_mul: fn(&mut [f32], &[f32]),
    pub f32_to_f16: fn(&[f32], &mut [u16]),
    pub f16_to_f32: fn(&[u16], &mut [f32]),
}

/// The products of one weight type, and so the activations it wants.
#[derive(Clone, Copy, Debug)]
pub enum Product {
    /// Activations in blocks of 32.
    Q8(MatmulQ8),
    /// Activations in blocks of 256.
    Q8K(MatmulQ8),
    /// Activations as they are.
    F32(MatmulF32),
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
        vec![scalar::KERNELS]
    }

    /// The fastest set that this CPU can run.
    #[must_use]
    pub fn best() -> Self {
        Self::available().pop().unwrap_or(scalar::KERNELS)
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
