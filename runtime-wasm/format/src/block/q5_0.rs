//! Q5_0: 32 weights in 22 bytes, one scale.
//!
//! ```text
//! byte 0      2       6                        22
//!      f16 d  u32 qh  u8 qs[16]                      w = d * (q - 16)
//! ```
//! The low four bits of `q` lie as in Q4_0: weight `j` in the low nibble of `qs[j]`, weight
//! `j + 16` in the high one. The fifth bit of weight `i` is bit `i` of `qh`.

use super::search::{column_weights, fit_symmetric, mean_square, signed_largest};
use super::{decode_blocks, encode_blocks, half_bytes, half_value, per_block};

/// Weights in a block.
pub const BLOCK_LEN: usize = 32;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 22;

/// `src` (`[32 n]`) to `dst` (`[22 n]`). The weight of the largest magnitude becomes -16.
///
/// # Panics
/// When the lengths do not fit.
pub fn quantize_row(src: &[f32], dst: &mut [u8]) {
    encode_blocks(
        src,
        dst,
        |_, x: &[f32; BLOCK_LEN], out: &mut [u8; BLOCK_BYTES]| {
            let d = signed_largest(x) / -16.0;
            let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
            let (head, body) = out.split_at_mut(2);
            head.copy_from_slice(&half_bytes(d));
            pack(body, |i| ((x[i] * inverse + 16.5) as u8).min(31));
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
            let fit = fit_symmetric(x, &weights, 16);
            let (head, body) = out.split_at_mut(2);
            head.copy_from_slice(&half_bytes(fit.scale));
            pack(body, |i| fit.levels[i]);
        },
    );
}

/// `src` (`[22 n]`) to `dst` (`[32 n]`).
///
/// # Panics
/// When the lengths do not fit.
pub fn dequantize_row(src: &[u8], dst: &mut [f32]) {
    decode_blocks(
        src,
        dst,
        |block: &[u8; BLOCK_BYTES], x: &mut [f32; BLOCK_LEN]| {
            let d = half_value([block[0], block[1]]);
            unpack(&block[2..], |i, q| x[i] = (f32::from(q) - 16.0) * d);
        },
    );
}

/// Writes `qh` and `qs` (20 bytes) from the 5-bit levels 0..32. Also Q5_1's.
pub(super) fn pack(body: &mut [u8], level: impl Fn(usize) -> u8) {
    let (high_bits, qs) = body.split_at_mut(4);
    let mut qh = 0u32;
    for (j, q) in qs.iter_mut().enumerate() {
        let (low, high) = (level(j), level(j + 16));
        *q = (low & 15) | (high << 4);
        qh |= u32::from(low >> 4) << j | u32::from(high >> 4) << (j + 16);
    }
    high_bits.copy_from_slice(&qh.to_le_bytes());
}

/// Hands out the 5-bit levels of `qh` and `qs` (20 bytes). Also Q5_1's.
pub(super) fn unpack(body: &[u8], mut take: impl FnMut(usize, u8)) {
    let (high_bits, qs) = body.split_at(4);
    let qh = u32::from_le_bytes([high_bits[0], high_bits[1], high_bits[2], high_bits[3]]);
    let bit = |i: usize| ((qh >> i & 1) << 4) as u8;
    for (j, q) in qs.iter().enumerate() {
        take(j, (q & 15) | bit(j));
        take(j + 16, (q >> 4) | bit(j + 16));
    }
}
