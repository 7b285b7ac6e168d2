//! Activations from `f32` to 8 bits.
//!
//! ```text
//! a = largest |x| of the block
//! D = a / 127            q = round(x * (127 / a)), half to even
//! ```
//!
//! A block whose largest |x| is below 2^-118 counts as zero: there 127 / a
//! would not be finite. A block that holds an infinity or a NaN gets the scale
//! NaN and zeros, so that every sum it enters becomes NaN.

use super::super::math::round_half_even;
use super::super::{Q8_LEN, Q8K_LEN, SUM_LEN, SUMS, arrange_sums};

/// The bits of 2^-118, the smallest |x| that is not taken for zero.
pub const TINY_BITS: u32 = (127 - 118) << 23;
/// The bits of infinity.
pub const INFINITY_BITS: u32 = f32::INFINITY.to_bits();

/// `D` and `127 / a` for a block, from the bits of its largest |x|.
#[must_use]
pub fn block_scales(largest_bits: u32) -> (f32, f32) {
    if largest_bits >= INFINITY_BITS {
        (f32::NAN, 0.0)
    } else if largest_bits < TINY_BITS {
        (0.0, 0.0)
    } else {
        let largest = f32::from_bits(largest_bits);
        (largest / 127.0, 127.0 / largest)
    }
}

/// One block; returns its step.
fn quantize_block(x: &[f32], quants: &mut [i8]) -> f32 {
    // Without their sign bits, floats are ordered as integers are.
    let largest_bits = x.iter().fold(0, |m, x| m.max(x.to_bits() & 0x7fff_ffff));
    let (step, inverse) = block_scales(largest_bits);
    for (q, x) in quants.iter_mut().zip(x) {
        *q = if inverse == 0.0 {
            0
        } else {
            round_half_even(x * inverse) as i8
        };
    }
    step
}

/// One vector to 8 bits in blocks of 32: `quants` (len); block `b` has its
/// scale at `scales[b * stride]` and the sum of its values at `sums[b * stride]`.
pub fn quantize_q8(
    x: &[f32],
    quants: &mut [i8],
    scales: &mut [f32],
    sums: &mut [i32],
    stride: usize,
) {
    assert!(x.len().is_multiple_of(Q8_LEN) && quants.len() == x.len());
    let blocks = x.chunks_exact(Q8_LEN).zip(quants.chunks_exact_mut(Q8_LEN));
    for (block, (x, quants)) in blocks.enumerate() {
        scales[block * stride] = quantize_block(x, quants);
        sums[block * stride] = quants.iter().map(|&q| i32::from(q)).sum();
    }
}

/// One vector to 8 bits in blocks of 256: `quants` (len); block `b` has its
/// scale at `scales[b * stride]`; `sums` (len / 256, 24) as in [`crate::Q8K`].
pub fn quantize_q8k(
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
        scales[block * stride] = quantize_block(x, quants);
        let mut runs = [0; Q8K_LEN / SUM_LEN];
        for (sum, run) in runs.iter_mut().zip(quants.chunks_exact(SUM_LEN)) {
            *sum = run.iter().map(|&q| i16::from(q)).sum();
        }
        *sums = arrange_sums(runs);
    }
}
