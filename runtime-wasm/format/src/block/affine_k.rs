//! What Q4_K and Q5_K share in quantising: eight sub-blocks of 32 weights, each with a scale
//! and a minimum, which are themselves rounded to six bits of the block's.

use super::half_bytes;
use super::scales_k::{self, Header, SUBS};
use super::search::{
    Grid, column_weights, fit_affine, fit_positive, nearest, sum, sum_squares, weighted_grid,
};

/// Weights in a block.
pub(super) const BLOCK_LEN: usize = 256;
/// Weights in a sub-block.
pub(super) const SUB_LEN: usize = 32;
/// Bytes of f16 d, f16 dmin and the packed scales.
pub(super) const HEADER_BYTES: usize = 16;

/// What the 6-bit scales and minima go up to.
const SIX_BITS_MAX: i32 = 63;

/// A block's header and its levels, [`SUBS`] x [`SUB_LEN`], not yet packed.
pub(super) struct Quantized {
    pub(super) header: [u8; HEADER_BYTES],
    pub(super) levels: [[u8; SUB_LEN]; SUBS],
}

/// Quantises `x` on the levels and trials of `grid`. Each weight counts as much as its
/// sub-block's root mean square plus its own magnitude.
pub(super) fn quantize(x: &[f32; BLOCK_LEN], grid: &Grid) -> Quantized {
    let subs = subs(x);
    let (mut scales, mut mins) = ([0.0; SUBS], [0.0; SUBS]);
    let mut levels = [[0; SUB_LEN]; SUBS];
    for (j, sub) in subs.iter().enumerate() {
        let rms = libm::sqrtf(sum_squares(sub) / SUB_LEN as f32);
        let weights = sub.map(|x| rms + x.abs());
        let fit = fit_affine::<SUB_LEN, false>(sub, &weights, grid);
        (scales[j], mins[j], levels[j]) = (fit.scale, fit.min, fit.levels);
    }
    let (d, scales) = six_bits(&scales);
    let (d_min, mins) = six_bits(&mins);
    finish(subs, d, d_min, &scales, &mins, levels, grid.levels_max)
}

/// Quantises `x` with an importance per column: a weight counts as much as that times
/// sqrt(2 * mean square of the block + its own square).
pub(super) fn quantize_weighted(
    x: &[f32; BLOCK_LEN],
    importance: &[f32; BLOCK_LEN],
    levels_max: i32,
) -> Quantized {
    let grid = weighted_grid(levels_max);
    let variance = 2.0 * sum_squares(x) / BLOCK_LEN as f32;
    let subs = subs(x);
    let (importance, _) = importance.as_chunks::<SUB_LEN>();
    let (mut scales, mut mins, mut sums) = ([0.0; SUBS], [0.0; SUBS], [0.0; SUBS]);
    let mut levels = [[0; SUB_LEN]; SUBS];
    for (j, (sub, importance)) in subs.iter().zip(importance).enumerate() {
        let weights = column_weights(sub, importance, variance);
        sums[j] = sum(&weights);
        let fit = fit_affine::<SUB_LEN, true>(sub, &weights, &grid);
        (scales[j], mins[j], levels[j]) = (fit.scale, fit.min, fit.levels);
    }
    let (d, scales) = fit_positive(&scales, &sums, SIX_BITS_MAX);
    let (d_min, mins) = fit_positive(&mins, &sums, SIX_BITS_MAX);
    // `fit_positive` gives more than six bits only for a negative scale, which no fit of
    // finite weights has; the layout must hold all the same.
    let bound = |levels: [u8; SUBS]| levels.map(|level| level.min(SIX_BITS_MAX as u8));
    let (scales, mins) = (bound(scales), bound(mins));
    finish(subs, d, d_min, &scales, &mins, levels, levels_max)
}

fn subs(x: &[f32; BLOCK_LEN]) -> &[[f32; SUB_LEN]] {
    x.as_chunks().0
}

/// The largest becomes 63; gives the step and the rounded values.
fn six_bits(values: &[f32; SUBS]) -> (f32, [u8; SUBS]) {
    let largest = values
        .iter()
        .fold(0.0f32, |max, &v| if v > max { v } else { max });
    let inverse = if largest > 0.0 { 63.0 / largest } else { 0.0 };
    let rounded = values.map(|v| (nearest(inverse * v) as u8).min(SIX_BITS_MAX as u8));
    (largest / 63.0, rounded)
}

/// Writes the header, then rounds the weights again with the scales as it holds them. A
/// sub-block whose scale has become 0 keeps the levels of its search.
fn finish(
    subs: &[[f32; SUB_LEN]],
    d: f32,
    d_min: f32,
    scales: &[u8; SUBS],
    mins: &[u8; SUBS],
    mut levels: [[u8; SUB_LEN]; SUBS],
    levels_max: i32,
) -> Quantized {
    let mut header = [0; HEADER_BYTES];
    header[..2].copy_from_slice(&half_bytes(d));
    header[2..4].copy_from_slice(&half_bytes(d_min));
    header[4..].copy_from_slice(&scales_k::pack(scales, mins));
    let stored = Header::read(&header);
    for (j, (sub, levels)) in subs.iter().zip(&mut levels).enumerate() {
        let (scale, min) = stored.sub(j);
        if scale == 0.0 {
            continue;
        }
        for (level, &x) in levels.iter_mut().zip(sub) {
            *level = nearest((x + min) / scale).clamp(0, levels_max) as u8;
        }
    }
    Quantized { header, levels }
}
