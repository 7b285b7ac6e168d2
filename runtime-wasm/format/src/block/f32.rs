//! F32: an IEEE single, little endian. No blocks, nothing lost.

use super::{decode_blocks, encode_blocks};

/// One weight.
pub const BLOCK_LEN: usize = 1;
/// Four bytes.
pub const BLOCK_BYTES: usize = 4;

/// `src` (`[n]`) to `dst` (`[4 n]`).
///
/// # Panics
/// When the lengths do not fit.
pub fn quantize_row(src: &[f32], dst: &mut [u8]) {
    encode_blocks(src, dst, |_, &[x]: &[f32; BLOCK_LEN], out| {
        *out = x.to_le_bytes();
    });
}

/// `src` (`[4 n]`) to `dst` (`[n]`).
///
/// # Panics
/// When the lengths do not fit.
pub fn dequantize_row(src: &[u8], dst: &mut [f32]) {
    decode_blocks(src, dst, |bytes, [x]: &mut [f32; BLOCK_LEN]| {
        *x = f32::from_le_bytes(*bytes);
    });
}
