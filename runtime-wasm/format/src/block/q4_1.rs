//! Q4_1: 32 weights in 20 bytes, a scale and a minimum.
//!
//! ```text
//! byte 0      2      4                        20
//!      f16 d  f16 m  u8 qs[16]                      w = d * q + m
//! ```
//! Byte `j` of `qs` holds weight `j` in its low nibble and weight `j + 16` in its high one.

use super::q4_0::pack;
use super::search::{column_weights, fit_affine, mean_square, range, weighted_grid};
use super::{decode_blocks, encode_blocks, half_bytes, half_value, per_block};

/// Weights in a block.
pub const BLOCK_LEN: usize = 32;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 20;

/// `src` (`[32 n]`) to `dst` (`[20 n]`). The block's range is cut into 15 steps.
///
/// # Panics
/// When the lengths do not fit.
pub fn quantize_row(src: &[f32], dst: &mut [u8]) {
    encode_blocks(
        src,
        dst,
        |_, x: &[f32; BLOCK_LEN], out: &mut [u8; BLOCK_BYTES]| {
            let (min, max) = range(x);
            let d = (max - min) / 15.0;
            let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
            let (head, qs) = out.split_at_mut(4);
            head[..2].copy_from_slice(&half_bytes(d));
            head[2..].copy_from_slice(&half_bytes(min));
            pack(qs, |i| (((x[i] - min) * inverse + 0.5) as u8).min(15));
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
            let fit = fit_affine::<BLOCK_LEN, true>(x, &weights, &weighted_grid(15));
            let (head, qs) = out.split_at_mut(4);
            head[..2].copy_from_slice(&half_bytes(fit.scale));
            head[2..].copy_from_slice(&half_bytes(-fit.min));
            pack(qs, |i| fit.levels[i]);
        },
    );
}

/// `src` (`[20 n]`) to `dst` (`[32 n]`).
///
/// # Panics
/// When the lengths do not fit.
pub fn dequantize_row(src: &[u8], dst: &mut [f32]) {
    decode_blocks(
        src,
        dst,
        |block: &[u8; BLOCK_BYTES], x: &mut [f32; BLOCK_LEN]| {
            let d = half_value([block[0], block[1]]);
            let m = half_value([block[2], block[3]]);
            let (low, high) = x.split_at_mut(BLOCK_LEN / 2);
            for ((&q, low), high) in block[4..].iter().zip(low).zip(high) {
                *low = f32::from(q & 15) * d + m;
                *high = f32::from(q >> 4) * d + m;
            }
        },
    );
}
