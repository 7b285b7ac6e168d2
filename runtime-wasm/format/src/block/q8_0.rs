//! Q8_0: 32 weights in 34 bytes, one scale.
//!
//! ```text
//! byte 0      2                              34
//!      f16 d  i8 q[32]                             w = d * q
//! ```

use super::{decode_blocks, encode_blocks, half_bytes, half_value};

/// Weights in a block.
pub const BLOCK_LEN: usize = 32;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 34;

/// `src` (`[32 n]`) to `dst` (`[34 n]`). The largest magnitude becomes 127; halves round away from
/// zero. The scale is stored as a half, but the weights are divided by the unrounded one.
///
/// # Panics
/// When the lengths do not fit.
pub fn quantize_row(src: &[f32], dst: &mut [u8]) {
    encode_blocks(
        src,
        dst,
        |_, x: &[f32; BLOCK_LEN], out: &mut [u8; BLOCK_BYTES]| {
            let magnitude_max = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            let d = magnitude_max / 127.0;
            let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
            let (head, q) = out.split_at_mut(2);
            head.copy_from_slice(&half_bytes(d));
            for (q, &x) in q.iter_mut().zip(x) {
                *q = libm::roundf(x * inverse) as i8 as u8;
            }
        },
    );
}

/// `src` (`[34 n]`) to `dst` (`[32 n]`).
///
/// # Panics
/// When the lengths do not fit.
pub fn dequantize_row(src: &[u8], dst: &mut [f32]) {
    decode_blocks(
        src,
        dst,
        |block: &[u8; BLOCK_BYTES], x: &mut [f32; BLOCK_LEN]| {
            let d = half_value([block[0], block[1]]);
            for (x, &q) in x.iter_mut().zip(&block[2..]) {
                *x = f32::from(q as i8) * d;
            }
        },
    );
}
