//! Q4_0: 32 weights in 18 bytes, one scale.
//!
//! ```text
//! byte 0      2                        18
//!      f16 d  u8 qs[16]                      w = d * (q - 8)
//! ```
//! Byte `j` of `qs` holds weight `j` in its low nibble and weight `j + 16` in its high one.

use super::search::{column_weights, fit_symmetric, mean_square, signed_largest};
use super::{decode_blocks, encode_blocks, half_bytes, half_value, per_block};

/// Weights in a block.
pub const BLOCK_LEN: usize = 32;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 18;

/// `src` (`[32 n]`) to `dst` (`[18 n]`). The weight of the largest magnitude becomes -8.
///
/// # Panics
/// When the lengths do not fit.
pub fn quantize_row(src: &[f32], dst: &mut [u8]) {
    encode_blocks(
        src,
        dst,
        |_, x: &[f32; BLOCK_LEN], out: &mut [u8; BLOCK_BYTES]| {
            let d = signed_largest(x) / -8.0;
            let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
            let (head, qs) = out.split_at_mut(2);
            head.copy_from_slice(&half_bytes(d));
            pack(qs, |i| ((x[i] * inverse + 8.5) as u8).min(15));
        },
    );
}

/// The same with `importance` (`[32 n]`), how much each column of the row counts: the mean
/// square of its inputs, none negative. `src` must be one row: its mean square is used.
///
/// # Panics
/// When the lengths do not fit.
pub fn quantize_row_weighted(src: &[f32], importance: &[f32], dst: &mut [u8]) {
    let importance = per_block(src, importance);
    let mean_square = mean_square(src);
    encode_blocks(
        src,
        dst,
        |b, x: &[f32; BLOCK_LEN], out: &mut [u8; BLOCK_BYTES]| {
            let weights = column_weights(x, &importance[b], mean_square);
            let fit = fit_symmetric(x, &weights, 8);
            let (head, qs) = out.split_at_mut(2);
            head.copy_from_slice(&half_bytes(fit.scale));
            pack(qs, |i| fit.levels[i]);
        },
    );
}

/// `src` (`[18 n]`) to `dst` (`[32 n]`).
///
/// # Panics
/// When the lengths do not fit.
pub fn dequantize_row(src: &[u8], dst: &mut [f32]) {
    decode_blocks(
        src,
        dst,
        |block: &[u8; BLOCK_BYTES], x: &mut [f32; BLOCK_LEN]| {
            let d = half_value([block[0], block[1]]);
            let (low, high) = x.split_at_mut(BLOCK_LEN / 2);
            for ((&q, low), high) in block[2..].iter().zip(low).zip(high) {
                *low = (f32::from(q & 15) - 8.0) * d;
                *high = (f32::from(q >> 4) - 8.0) * d;
            }
        },
    );
}

/// Writes `qs` (16 bytes) from the 4-bit levels 0..16. Also Q4_1's.
pub(super) fn pack(qs: &mut [u8], level: impl Fn(usize) -> u8) {
    for (j, q) in qs.iter_mut().enumerate() {
        *q = level(j) | level(j + 16) << 4;
    }
}
