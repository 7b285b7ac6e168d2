//! Q6_K: 256 weights in 210 bytes, sixteen sub-blocks of 16 with a scale each.
//!
//! ```text
//! byte 0            128        192              208      210
//!      u8 ql[128]   u8 qh[64]  i8 scales[16]    f16 d             (d comes last)
//!
//! w = d * scale_(i / 16) * (q - 32)         q = 0..64
//! ```
//! Two halves of 128 weights, each with 64 bytes of `ql` and 32 of `qh`. In a half, for
//! `l` = 0..32:
//!
//! ```text
//! weight       low four bits     high two bits
//! l            ql[l] & 15        qh[l] bits 0, 1
//! l + 32       ql[l + 32] & 15   qh[l] bits 2, 3
//! l + 64       ql[l] >> 4        qh[l] bits 4, 5
//! l + 96       ql[l + 32] >> 4   qh[l] bits 6, 7
//! ```

use super::search::{MAGNITUDE_MIN, fit_symmetric, nearest, signed_largest};
use super::{decode_blocks, encode_blocks, half_bytes, half_value, per_block};

/// Weights in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 210;

/// Weights in a sub-block.
const SUB_LEN: usize = 16;
/// Sub-blocks in a block.
const SUBS: usize = 16;
/// Levels are -32..32 before this is added.
const LEVELS_HALF: i32 = 32;

/// `src` (`[256 n]`) to `dst` (`[210 n]`), the bytes that ggml gives without an importance matrix:
/// each weight counts as much as its square.
///
/// # Panics
/// When the lengths do not fit.
pub fn quantize_row(src: &[f32], dst: &mut [u8]) {
    encode_blocks(src, dst, |_, x: &[f32; BLOCK_LEN], out| {
        encode(x, &x.map(|x| x * x), out);
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
        encode(x, &importance[b], out);
    });
}

fn encode(x: &[f32; BLOCK_LEN], weights: &[f32; BLOCK_LEN], out: &mut [u8; BLOCK_BYTES]) {
    let (subs, _) = x.as_chunks::<SUB_LEN>();
    let (weights, _) = weights.as_chunks::<SUB_LEN>();
    let mut scales = [0.0; SUBS];
    let mut levels = [[0; SUB_LEN]; SUBS];
    for (j, (sub, weights)) in subs.iter().zip(weights).enumerate() {
        let fit = fit_symmetric(sub, weights, LEVELS_HALF);
        (scales[j], levels[j]) = (fit.scale, fit.levels);
    }
    let largest = signed_largest(&scales);
    if largest.abs() < MAGNITUDE_MIN {
        out.fill(0);
        return;
    }
    // The scale of the largest magnitude becomes -128.
    let inverse = -128.0 / largest;
    let d = half_bytes(1.0 / inverse);
    let scales = scales.map(|scale| nearest(inverse * scale).min(127) as i8);
    // Round again with the scales as stored; where that is 0 the search's levels stay.
    for ((sub, levels), &scale) in subs.iter().zip(&mut levels).zip(&scales) {
        let scale = half_value(d) * f32::from(scale);
        if scale == 0.0 {
            continue;
        }
        for (level, &x) in levels.iter_mut().zip(sub) {
            let rounded = nearest(x / scale).clamp(-LEVELS_HALF, LEVELS_HALF - 1);
            *level = (rounded + LEVELS_HALF) as u8;
        }
    }
    pack(levels.as_flattened(), &scales, d, out);
}

/// `levels` (`[256]`) are 0..64.
fn pack(levels: &[u8], scales: &[i8; SUBS], d: [u8; 2], out: &mut [u8; BLOCK_BYTES]) {
    for (h, q) in levels.chunks_exact(128).enumerate() {
        for l in 0..32 {
            out[64 * h + l] = (q[l] & 15) | q[l + 64] << 4;
            out[64 * h + l + 32] = (q[l + 32] & 15) | q[l + 96] << 4;
            out[128 + 32 * h + l] =
                q[l] >> 4 | q[l + 32] >> 4 << 2 | q[l + 64] >> 4 << 4 | q[l + 96] >> 4 << 6;
        }
    }
    for (byte, &scale) in out[192..208].iter_mut().zip(scales) {
        *byte = scale as u8;
    }
    out[208..].copy_from_slice(&d);
}

/// `src` (`[210 n]`) to `dst` (`[256 n]`).
///
/// # Panics
/// When the lengths do not fit.
pub fn dequantize_row(src: &[u8], dst: &mut [f32]) {
    decode_blocks(
        src,
        dst,
        |block: &[u8; BLOCK_BYTES], x: &mut [f32; BLOCK_LEN]| {
            let d = half_value([block[208], block[209]]);
            let (halves, _) = x.as_chunks_mut::<128>();
            for (h, x) in halves.iter_mut().enumerate() {
                let ql = &block[64 * h..64 * h + 64];
                let qh = &block[128 + 32 * h..160 + 32 * h];
                let scales = &block[192 + 8 * h..200 + 8 * h];
                for l in 0..32 {
                    let levels = [
                        (ql[l] & 15) | (qh[l] & 3) << 4,
                        (ql[l + 32] & 15) | (qh[l] >> 2 & 3) << 4,
                        (ql[l] >> 4) | (qh[l] >> 4 & 3) << 4,
                        (ql[l + 32] >> 4) | (qh[l] >> 6) << 4,
                    ];
                    for (quarter, &q) in levels.iter().enumerate() {
                        let scale = f32::from(scales[2 * quarter + l / 16] as i8);
                        x[32 * quarter + l] = d * scale * (f32::from(q) - 32.0);
                    }
                }
            }
        },
    );
}
