//! Q4_0: 32 weights in 18 bytes, one scale.
//!
//! ```text
//! byte 0      2                        18
//!      f16 d  u8 qs[16]                      w = d * (q - 8)
//! ```
//! Byte `j` of `qs` holds weight `j` in its low nibble and weight `j + 16` in its high one.

use super::search::signed_largest;
use super::{decode_blocks, encode_blocks, half_bytes, half_value};

/// Weights in a block.
pub const BLOCK_LEN: usize = 32;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 18;

/// `src` [32 n] to `dst` [18 n]. The weight of the largest magnitude becomes -8.
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
            let level = |x: f32| ((x * inverse + 8.5) as u8).min(15);
            let (low, high) = x.split_at(BLOCK_LEN / 2);
            for ((q, &low), &high) in qs.iter_mut().zip(low).zip(high) {
                *q = level(low) | (level(high) << 4);
            }
        },
    );
}

/// `src` [18 n] to `dst` [32 n].
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
