//! BF16: the upper half of an IEEE single, little endian, rounded to nearest even. A NaN
//! keeps its upper half with bit 6 set, so that it stays one.

use super::{decode_blocks, encode_blocks};
use half::bf16;

/// One weight.
pub const BLOCK_LEN: usize = 1;
/// Two bytes.
pub const BLOCK_BYTES: usize = 2;

/// `src` (`[n]`) to `dst` (`[2 n]`).
///
/// # Panics
/// When the lengths do not fit.
pub fn quantize_row(src: &[f32], dst: &mut [u8]) {
    encode_blocks(src, dst, |_, &[x]: &[f32; BLOCK_LEN], out| {
        *out = bf16::from_f32(x).to_le_bytes();
    });
}

/// `src` (`[2 n]`) to `dst` (`[n]`), exact.
///
/// # Panics
/// When the lengths do not fit.
pub fn dequantize_row(src: &[u8], dst: &mut [f32]) {
    decode_blocks(src, dst, |bytes, [x]: &mut [f32; BLOCK_LEN]| {
        *x = bf16::from_le_bytes(*bytes).to_f32();
    });
}
