//! F16: an IEEE half, little endian, rounded to nearest even.

use super::{decode_blocks, encode_blocks, half_bytes, half_value};

/// One weight.
pub const BLOCK_LEN: usize = 1;
/// Two bytes.
pub const BLOCK_BYTES: usize = 2;

/// `src` (`[n]`) to `dst` (`[2 n]`). Magnitudes of 65520 and more become infinite.
///
/// # Panics
/// When the lengths do not fit.
pub fn quantize_row(src: &[f32], dst: &mut [u8]) {
    encode_blocks(src, dst, |_, &[x]: &[f32; BLOCK_LEN], out| {
        *out = half_bytes(x);
    });
}

/// `src` (`[2 n]`) to `dst` (`[n]`), exact.
///
/// # Panics
/// When the lengths do not fit.
pub fn dequantize_row(src: &[u8], dst: &mut [f32]) {
    decode_blocks(src, dst, |bytes, [x]: &mut [f32; BLOCK_LEN]| {
        *x = half_value(*bytes);
    });
}
