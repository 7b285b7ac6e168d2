//! Weights in blocks of 256 with their own small scales: Q4_K, Q5_K, Q6_K.
//!
//! ```text
//! Q4_K  d  m  scales[12]          qs[128]     w = d * scale * q - m * min     144 bytes
//! Q5_K  d  m  scales[12]  qh[32]  qs[128]     the same, q has a fifth bit     176 bytes
//! Q6_K  ql[128]  qh[64]  scales[16]  d        w = d * scale * (q - 32)        210 bytes
//! ```
//!
//! Q4_K and Q5_K have eight sub-blocks of 32, each with a 6-bit scale and a
//! 6-bit minimum packed into 12 bytes. Bytes 32c..32c+32 of `qs` hold
//! sub-block 2c in their low and 2c+1 in their high nibbles; bit `j` of
//! `qh[l]` is the fifth bit of element `l` of sub-block `j`.
//!
//! Q6_K has two halves of 128, each four runs of 32: run `r` takes the low
//! (r < 2) or high nibbles of `ql[32 * (r % 2)..]` and bits 2r, 2r+1 of `qh`.
//! Every 16 weights share a signed 8-bit scale.
//!
//! Greatest sums: Q4_K 256 * 63 * 15 * 127, Q5_K 256 * 63 * 31 * 127 and Q6_K
//! 256 * 128 * 63 * 127 (before 32 is taken out), all below 2^31.

use meetara_format::block;

use super::{Activations, Block, f16_at};
use crate::{SUMS_32, sum_place};

pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

/// Scale and minimum of sub-block `j` (0..8) from the 12 packed bytes.
fn scale_min(packed: &[u8], j: usize) -> (i32, i32) {
    let (scale, min) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (
            packed[j + 4] & 15 | packed[j - 4] >> 6 << 4,
            packed[j + 4] >> 4 | packed[j] >> 6 << 4,
        )
    };
    (i32::from(scale), i32::from(min))
}

/// Sum over sub-blocks of min x sum of the activations.
fn dot_mins(packed: &[u8], x: Activations<'_, &[i16]>) -> i32 {
    (0..8)
        .map(|j| scale_min(packed, j).1 * i32::from(x.sums[SUMS_32 + sum_place(j)]))
        .sum()
}

/// Weight `l` (0..32) of sub-block `j` without its fifth bit.
fn nibble(qs: &[u8], j: usize, l: usize) -> i32 {
    let byte = qs[j / 2 * 32 + l];
    i32::from(if j.is_multiple_of(2) {
        byte & 15
    } else {
        byte >> 4
    })
}

/// Sum over sub-blocks of scale x sum of weight x activation.
fn dot_scaled(
    packed: &[u8],
    x: Activations<'_, &[i16]>,
    weight: impl Fn(usize, usize) -> i32,
) -> i32 {
    (0..8)
        .map(|j| {
            let dot: i32 = (0..32)
                .map(|l| weight(j, l) * i32::from(x.quants[j * 32 + l]))
                .sum();
            scale_min(packed, j).0 * dot
        })
        .sum()
}

impl<'s> Block<&'s [i16]> for Q4K {
    const LEN: usize = block::q4_k::BLOCK_LEN;
    const BYTES: usize = block::q4_k::BLOCK_BYTES;

    fn contribution(w: &[u8], x: Activations<'_, &'s [i16]>) -> f32 {
        let (packed, qs) = (&w[4..16], &w[16..144]);
        let dot = dot_scaled(packed, x, |j, l| nibble(qs, j, l));
        (f16_at(w, 0) * x.scale) * dot as f32
            - (f16_at(w, 2) * x.scale) * dot_mins(packed, x) as f32
    }
}

impl<'s> Block<&'s [i16]> for Q5K {
    const LEN: usize = block::q5_k::BLOCK_LEN;
    const BYTES: usize = block::q5_k::BLOCK_BYTES;

    fn contribution(w: &[u8], x: Activations<'_, &'s [i16]>) -> f32 {
        let (packed, qh, qs) = (&w[4..16], &w[16..48], &w[48..176]);
        let dot = dot_scaled(packed, x, |j, l| {
            nibble(qs, j, l) | i32::from(qh[l] >> j & 1) << 4
        });
        (f16_at(w, 0) * x.scale) * dot as f32
            - (f16_at(w, 2) * x.scale) * dot_mins(packed, x) as f32
    }
}

impl<'s> Block<&'s [i16]> for Q6K {
    const LEN: usize = block::q6_k::BLOCK_LEN;
    const BYTES: usize = block::q6_k::BLOCK_BYTES;

    fn contribution(w: &[u8], x: Activations<'_, &'s [i16]>) -> f32 {
        let (ql, qh, scales) = (&w[0..128], &w[128..192], &w[192..208]);
        let mut dot = 0;
        for half in 0..2 {
            for run in 0..4 {
                for l in 0..32 {
                    let low = ql[half * 64 + run % 2 * 32 + l] >> (run / 2 * 4) & 15;
                    let high = qh[half * 32 + l] >> (run * 2) & 3;
                    let weight = i32::from(low | high << 4) - 32;
                    let index = half * 128 + run * 32 + l;
                    let scale = i32::from(scales[index / 16] as i8);
                    dot += scale * weight * i32::from(x.quants[index]);
                }
            }
        }
        (f16_at(w, 208) * x.scale) * dot as f32
    }
}
