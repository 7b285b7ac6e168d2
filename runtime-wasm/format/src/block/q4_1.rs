//! Q4_1: 32 weights in 20 bytes, a scale and a minimum.
//!
//! ```text
//! byte 0      2      4                        20
//!      f16 d  f16 m  u8 qs[16]                      w = d * q + m
//! ```
//! Byte `j` of `qs` holds weight `j` in its low nibble and weight `j + 16` in its high one.

use super::search::range;
use super::{decode_blocks, encode_blocks, half_bytes, half_value};

/// Weights in a block.
pub const BLOCK_LEN: usize = 32;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 20;

/// `src` [32 n] to `dst` [20 n]. The block's range is cut into 15 steps.
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
            let level = |x: f32| (((x - min) * inverse + 0.5) as u8).min(15);
            let (low, high) = x.split_at(BLOCK_LEN / 2);
            for ((q, &low), &high) in qs.iter_mut().zip(low).zip(high) {
                *q = level(low) | (level(high) << 4);
            }
        },
    );
}

/// `src` [20 n] to `dst` [32 n].
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
