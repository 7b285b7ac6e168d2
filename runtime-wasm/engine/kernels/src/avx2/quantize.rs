//! Activations from `f32` to 8 bits. The rule: `scalar/quantize.rs`.

use std::arch::x86_64::*;

use super::math::round_half_even;
use crate::scalar::block_scales;
use crate::{Q8_LEN, Q8K_LEN, SUM_LEN, SUMS, arrange_sums};

/// The largest |x| of a block, as its bits.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn largest_bits(x: &[f32]) -> u32 {
    let mut largest = _mm256_setzero_si256();
    for x in x.as_chunks::<8>().0 {
        // SAFETY: `x` has eight floats.
        let bits = unsafe { _mm256_loadu_si256(x.as_ptr().cast()) };
        let size = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fff_ffff));
        largest = _mm256_max_epu32(largest, size);
    }
    let m = _mm_max_epu32(
        _mm256_castsi256_si128(largest),
        _mm256_extracti128_si256::<1>(largest),
    );
    let m = _mm_max_epu32(m, _mm_shuffle_epi32::<0b01_00_11_10>(m));
    let m = _mm_max_epu32(m, _mm_shuffle_epi32::<0b10_11_00_01>(m));
    _mm_cvtsi128_si32(m) as u32
}

/// 32 values times `inverse`, rounded, as bytes in order. `inverse` is 0 for a
/// block that must become zero whatever it holds.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn bytes(x: &[f32; 32], inverse: f32) -> __m256i {
    if inverse == 0.0 {
        return _mm256_setzero_si256();
    }
    let scale = _mm256_set1_ps(inverse);
    let eight = |i: usize| {
        // SAFETY: i < 4, so eight floats can be read there.
        let x = unsafe { _mm256_loadu_ps(x.as_ptr().add(8 * i)) };
        round_half_even(_mm256_mul_ps(x, scale))
    };
    // Packing works within halves: undo the interleaving in the end.
    let pairs = (
        _mm256_packs_epi32(eight(0), eight(1)),
        _mm256_packs_epi32(eight(2), eight(3)),
    );
    let mixed = _mm256_packs_epi16(pairs.0, pairs.1);
    _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// Sums of the two runs of 16 of 32 signed bytes.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn sums(bytes: __m256i) -> [i32; 2] {
    // As unsigned bytes 128 too large, 2048 for a run.
    let shifted = _mm256_xor_si256(bytes, _mm256_set1_epi8(-128));
    let eights = _mm256_sad_epu8(shifted, _mm256_setzero_si256());
    let run = |eights: __m128i| {
        let sum = _mm_add_epi64(eights, _mm_unpackhi_epi64(eights, eights));
        _mm_cvtsi128_si32(sum) - 2048
    };
    [
        run(_mm256_castsi256_si128(eights)),
        run(_mm256_extracti128_si256::<1>(eights)),
    ]
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn store(bytes: __m256i, out: &mut [i8; 32]) {
    // SAFETY: `out` has room for 32 bytes.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), bytes) };
}

/// See [`crate::scalar::quantize_q8`].
#[target_feature(enable = "avx2,f16c")]
pub(super) fn quantize_q8(
    x: &[f32],
    quants: &mut [i8],
    scales: &mut [f32],
    block_sums: &mut [i32],
    stride: usize,
) {
    assert!(x.len().is_multiple_of(Q8_LEN) && quants.len() == x.len());
    let blocks = x
        .as_chunks::<32>()
        .0
        .iter()
        .zip(quants.as_chunks_mut::<32>().0);
    for (block, (x, quants)) in blocks.enumerate() {
        let (step, inverse) = block_scales(largest_bits(x));
        let bytes = bytes(x, inverse);
        store(bytes, quants);
        let [a, b] = sums(bytes);
        scales[block * stride] = step;
        block_sums[block * stride] = a + b;
    }
}

/// See [`crate::scalar::quantize_q8k`].
#[target_feature(enable = "avx2,f16c")]
pub(super) fn quantize_q8k(
    x: &[f32],
    quants: &mut [i8],
    scales: &mut [f32],
    block_sums: &mut [i16],
    stride: usize,
) {
    assert!(x.len().is_multiple_of(Q8K_LEN) && quants.len() == x.len());
    assert_eq!(block_sums.len(), x.len() / Q8K_LEN * SUMS);
    let outputs = quants
        .chunks_exact_mut(Q8K_LEN)
        .zip(block_sums.as_chunks_mut().0);
    for (block, (x, (quants, block_sums))) in x.chunks_exact(Q8K_LEN).zip(outputs).enumerate() {
        let (step, inverse) = block_scales(largest_bits(x));
        scales[block * stride] = step;
        let runs = x
            .as_chunks::<32>()
            .0
            .iter()
            .zip(quants.as_chunks_mut::<32>().0);
        let mut run_sums = [0; Q8K_LEN / SUM_LEN];
        for ((x, quants), pair) in runs.zip(run_sums.as_chunks_mut::<2>().0) {
            let bytes = bytes(x, inverse);
            store(bytes, quants);
            *pair = sums(bytes).map(|sum| sum as i16);
        }
        *block_sums = arrange_sums(run_sums);
    }
}
