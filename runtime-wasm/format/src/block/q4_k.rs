//! Q4_K: 256 weights in 144 bytes, eight sub-blocks of 32 with a scale and a minimum each.
//!
//! ```text
//! byte 0      2         4              16                       144
//!      f16 d  f16 dmin  u8 scales[12]  u8 qs[128]
//!
//! w = d * scale_j * q - dmin * min_j        j = 0..8, q = 0..16
//! ```
//! `scales` holds `scale_j` and `min_j` in six bits each (`scales_k`). Chunk `c` of 32 bytes
//! of `qs` holds sub-block `2 c` in its low nibbles and `2 c + 1` in its high ones.

use super::affine_k::{self, HEADER_BYTES, Quantized, SUB_LEN};
use super::search::Grid;
use super::{decode_blocks, encode_blocks, per_block, scales_k};

/// Weights in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 144;

/// The levels, and the trials of the search.
const GRID: Grid = Grid {
    levels_max: 15,
    start: -1.0,
    step: 0.1,
    trials: 20,
};

/// `src` (`[256 n]`) to `dst` (`[144 n]`), the bytes that ggml gives without an importance matrix.
///
/// # Panics
/// When the lengths do not fit.
pub fn quantize_row(src: &[f32], dst: &mut [u8]) {
    encode_blocks(src, dst, |_, x: &[f32; BLOCK_LEN], out| {
        pack(&affine_k::quantize(x, &GRID), out);
    });
}

/// The same with `importance` (`[256 n]`), how much each column of the row counts: the mean
/// square of its inputs, none negative.
///
/// # Panics
/// When the lengths do not fit.
pub fn quantize_row_weighted(src: &[f32], importance: &[f32], dst: &mut [u8]) {
    let importance = per_block(src, importance);
    encode_blocks(src, dst, |b, x: &[f32; BLOCK_LEN], out| {
        pack(
            &affine_k::quantize_weighted(x, &importance[b], GRID.levels_max),
            out,
        );
    });
}

/// `src` (`[144 n]`) to `dst` (`[256 n]`).
///
/// # Panics
/// When the lengths do not fit.
pub fn dequantize_row(src: &[u8], dst: &mut [f32]) {
    decode_blocks(
        src,
        dst,
        |block: &[u8; BLOCK_BYTES], x: &mut [f32; BLOCK_LEN]| {
            let header = scales_k::Header::read(block);
            let (chunks, _) = block[16..].as_chunks::<32>();
            let (pairs, _) = x.as_chunks_mut::<64>();
            for (c, (qs, pair)) in chunks.iter().zip(pairs).enumerate() {
                let (scale_low, min_low) = header.sub(2 * c);
                let (scale_high, min_high) = header.sub(2 * c + 1);
                let (low, high) = pair.split_at_mut(32);
                for ((&q, low), high) in qs.iter().zip(low).zip(high) {
                    *low = scale_low * f32::from(q & 15) - min_low;
                    *high = scale_high * f32::from(q >> 4) - min_high;
                }
            }
        },
    );
}

fn pack(block: &Quantized, out: &mut [u8; BLOCK_BYTES]) {
    let (header, qs) = out.split_at_mut(HEADER_BYTES);
    header.copy_from_slice(&block.header);
    let (pairs, _) = block.levels.as_chunks::<2>();
    for (qs, [low, high]) in qs.chunks_exact_mut(SUB_LEN).zip(pairs) {
        for ((q, low), high) in qs.iter_mut().zip(low).zip(high) {
            *q = low | high << 4;
        }
    }
}
