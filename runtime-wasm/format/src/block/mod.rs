//! The bytes of every block type: one file per type, with its layout and its arithmetic.
//!
//! Each file has `BLOCK_LEN` (weights), `BLOCK_BYTES`, `quantize_row` and `dequantize_row`.
//! Rows are whole numbers of blocks; these functions assert it, the checked way in is
//! [`crate::quantize`] and [`crate::dequantize`]. Types and arithmetic are those of ggml, so
//! that the bytes are too: every operation is rounded to `f32`, sums run in index order, and
//! nothing is fused.

mod affine_k;
pub mod bf16;
pub mod f16;
pub mod f32;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;
mod scales_k;
mod search;

/// Calls `encode` for each block of a row.
///
/// # Panics
/// When `src` and `dst` are not the same whole number of blocks.
fn encode_blocks<const LEN: usize, const BYTES: usize>(
    src: &[::core::primitive::f32],
    dst: &mut [u8],
    mut encode: impl FnMut(usize, &[::core::primitive::f32; LEN], &mut [u8; BYTES]),
) {
    let (weights, rest) = src.as_chunks::<LEN>();
    let (blocks, spare) = dst.as_chunks_mut::<BYTES>();
    assert!(
        rest.is_empty() && spare.is_empty() && weights.len() == blocks.len(),
        "{} weights do not fill the blocks of {} bytes",
        src.len(),
        dst.len()
    );
    for (index, (weights, block)) in weights.iter().zip(blocks).enumerate() {
        encode(index, weights, block);
    }
}

/// Calls `decode` for each block of a row.
///
/// # Panics
/// When `src` and `dst` are not the same whole number of blocks.
fn decode_blocks<const LEN: usize, const BYTES: usize>(
    src: &[u8],
    dst: &mut [::core::primitive::f32],
    decode: impl Fn(&[u8; BYTES], &mut [::core::primitive::f32; LEN]),
) {
    let (blocks, spare) = src.as_chunks::<BYTES>();
    let (weights, rest) = dst.as_chunks_mut::<LEN>();
    assert!(
        rest.is_empty() && spare.is_empty() && weights.len() == blocks.len(),
        "blocks of {} bytes do not fill {} weights",
        src.len(),
        dst.len()
    );
    for (block, weights) in blocks.iter().zip(weights) {
        decode(block, weights);
    }
}

/// Rounds to a half, nearest even.
fn half_bytes(x: ::core::primitive::f32) -> [u8; 2] {
    half::f16::from_f32(x).to_le_bytes()
}

/// The value of a half.
fn half_value(bytes: [u8; 2]) -> ::core::primitive::f32 {
    half::f16::from_le_bytes(bytes).to_f32()
}

/// An importance per weight of a row, block by block.
///
/// # Panics
/// When there is not one for each weight.
fn per_block<'w, const LEN: usize>(
    src: &[::core::primitive::f32],
    importance: &'w [::core::primitive::f32],
) -> &'w [[::core::primitive::f32; LEN]] {
    assert!(
        src.len() == importance.len(),
        "{} weights do not go with the importance of {} columns",
        src.len(),
        importance.len()
    );
    importance.as_chunks().0
}
