//! Activations from `f32` to 8 bits. The rule: `scalar/quantize.rs`.

use core::arch::wasm32::*;

use super::math::round_half_even;
use crate::scalar::block_scales;
use crate::{Q8_LEN, Q8K_LEN, SUM_LEN, SUMS, arrange_sums};

/// The largest |x| of a block, as its bits.
#[inline]
fn largest_bits(x: &[f32]) -> u32 {
    let mut largest = i32x4_splat(0);
    for x in x.as_chunks::<4>().0 {
        // SAFETY: `x` has four floats.
        let bits = unsafe { v128_load(x.as_ptr().cast()) };
        largest = u32x4_max(largest, v128_and(bits, u32x4_splat(0x7fff_ffff)));
    }
    let m = u32x4_max(largest, i32x4_shuffle::<2, 3, 0, 1>(largest, largest));
    let m = u32x4_max(m, i32x4_shuffle::<1, 0, 3, 2>(m, m));
    u32x4_extract_lane::<0>(m)
}

/// 16 values times `inverse`, rounded, as bytes, and their sum. `inverse` is 0
/// for a block that must become zero whatever it holds.
#[inline]
fn quantize_16(x: &[f32; 16], inverse: f32, quants: &mut [i8; 16]) -> i32 {
    if inverse == 0.0 {
        quants.fill(0);
        return 0;
    }
    let scale = f32x4_splat(inverse);
    let four = |i: usize| {
        // SAFETY: i < 4, so four floats can be read there.
        let x = unsafe { v128_load(x.as_ptr().add(4 * i).cast()) };
        round_half_even(f32x4_mul(x, scale))
    };
    let (low, high) = (
        i16x8_narrow_i32x4(four(0), four(1)),
        i16x8_narrow_i32x4(four(2), four(3)),
    );
    // SAFETY: `quants` has room for 16 bytes.
    unsafe { v128_store(quants.as_mut_ptr().cast(), i8x16_narrow_i16x8(low, high)) };
    let sums = i32x4_dot_i16x8(i16x8_add(low, high), i16x8_splat(1));
    let sums = i32x4_add(sums, i32x4_shuffle::<2, 3, 0, 1>(sums, sums));
    i32x4_extract_lane::<0>(sums) + i32x4_extract_lane::<1>(sums)
}

/// See [`crate::scalar::quantize_q8`].
pub(super) fn quantize_q8(
    x: &[f32],
    quants: &mut [i8],
    scales: &mut [f32],
    sums: &mut [i32],
    stride: usize,
) {
    assert!(x.len().is_multiple_of(Q8_LEN) && quants.len() == x.len());
    let blocks = x.chunks_exact(Q8_LEN).zip(quants.chunks_exact_mut(Q8_LEN));
    for (block, (x, quants)) in blocks.enumerate() {
        let (step, inverse) = block_scales(largest_bits(x));
        scales[block * stride] = step;
        let runs = x.as_chunks().0.iter().zip(quants.as_chunks_mut().0);
        sums[block * stride] = runs
            .map(|(x, quants)| quantize_16(x, inverse, quants))
            .sum();
    }
}

/// See [`crate::scalar::quantize_q8k`].
pub(super) fn quantize_q8k(
    x: &[f32],
    quants: &mut [i8],
    scales: &mut [f32],
    sums: &mut [i16],
    stride: usize,
) {
    assert!(x.len().is_multiple_of(Q8K_LEN) && quants.len() == x.len());
    assert_eq!(sums.len(), x.len() / Q8K_LEN * SUMS);
    let outputs = quants.chunks_exact_mut(Q8K_LEN).zip(sums.as_chunks_mut().0);
    for (block, (x, (quants, sums))) in x.chunks_exact(Q8K_LEN).zip(outputs).enumerate() {
        let (step, inverse) = block_scales(largest_bits(x));
        scales[block * stride] = step;
        let runs = x.as_chunks().0.iter().zip(quants.as_chunks_mut().0);
        let mut run_sums = [0; Q8K_LEN / SUM_LEN];
        for ((x, quants), sum) in runs.zip(&mut run_sums) {
            *sum = quantize_16(x, inverse, quants) as i16;
        }
        *sums = arrange_sums(run_sums);
    }
}
