//! Float weights against `f32` activations, with eight virtual lanes.

use super::super::check_product;

/// The eight lanes as one number: `((0+4) + (2+6)) + ((1+5) + (3+7))`.
#[must_use]
pub fn fold(l: [f32; 8]) -> f32 {
    ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

/// Sum of `a[i] * b[i]`, element `i` in lane `i % 8`.
pub(super) fn dot_lanes(a: impl Iterator<Item = f32>, b: impl Iterator<Item = f32>) -> f32 {
    let mut lanes = [0.0; 8];
    for (i, (a, b)) in a.zip(b).enumerate() {
        lanes[i % 8] += a * b;
    }
    fold(lanes)
}

/// A row of little-endian `f32`.
pub fn f32_row(row: &[u8]) -> impl Iterator<Item = f32> {
    row.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))
}

/// A row of little-endian IEEE halves, widened exactly.
pub fn f16_row(row: &[u8]) -> impl Iterator<Item = f32> {
    let halves = row.as_chunks().0.iter();
    halves.map(|&b| half::f16::from_le_bytes(b).to_f32())
}

/// A row of little-endian bfloat16, widened exactly.
pub fn bf16_row(row: &[u8]) -> impl Iterator<Item = f32> {
    let uppers = row.as_chunks().0.iter();
    uppers.map(|&b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))
}

macro_rules! float {
    ($matvec:ident, $matmul:ident, $row:ident, $bytes:literal, $what:literal) => {
        #[doc = concat!("`out[row] = weights[row] . x`, weights of ", $what, ": (rows, x.len()).")]
        pub fn $matvec(weights: &[u8], x: &[f32], out: &mut [f32]) {
            check_product(weights, x.len() * $bytes, 1, out);
            if !x.is_empty() {
                for (row, y) in weights.chunks_exact(x.len() * $bytes).zip(out) {
                    *y = dot_lanes($row(row), x.iter().copied());
                }
            }
        }

        /// A matvec for every vector of `len` in `x`: (columns, len) to (columns, rows).
        pub fn $matmul(weights: &[u8], len: usize, x: &[f32], out: &mut [f32]) {
            let rows = check_product(weights, len * $bytes, x.len() / len.max(1), out);
            if rows > 0 {
                for (x, out) in x.chunks_exact(len).zip(out.chunks_exact_mut(rows)) {
                    $matvec(weights, x, out);
                }
            }
        }
    };
}

float!(matvec_f32_f32, matmul_f32_f32, f32_row, 4, "`f32`");
float!(matvec_f16_f32, matmul_f16_f32, f16_row, 2, "IEEE halves");
float!(matvec_bf16_f32, matmul_bf16_f32, bf16_row, 2, "bfloat16");
