//! [`crate::math::exp`], eight at a time: the same steps in the same order.

use std::arch::x86_64::*;

use crate::math::{EXP_HIGH, EXP_LOW, EXP_TAYLOR, LN2_HIGH, LN2_LOW, LOG2_E, ROUND_MAGIC};

/// The integers nearest to `x`, half to even, for |x| <= 2^22.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn round_half_even(x: __m256) -> __m256i {
    let shifted = _mm256_castps_si256(_mm256_add_ps(x, _mm256_set1_ps(ROUND_MAGIC)));
    _mm256_sub_epi32(shifted, _mm256_set1_epi32(ROUND_MAGIC.to_bits() as i32))
}

/// 2^n.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn power_of_two(n: __m256i) -> __m256 {
    let exponent = _mm256_add_epi32(n, _mm256_set1_epi32(127));
    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
}

/// e^x in each lane.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn exp(x: __m256) -> __m256 {
    // The second operand is what a NaN in it leaves.
    let clamped = _mm256_max_ps(_mm256_set1_ps(EXP_LOW), x);
    let clamped = _mm256_min_ps(_mm256_set1_ps(EXP_HIGH), clamped);
    let n = round_half_even(_mm256_mul_ps(clamped, _mm256_set1_ps(LOG2_E)));
    let whole = _mm256_cvtepi32_ps(n);
    let r = _mm256_sub_ps(clamped, _mm256_mul_ps(whole, _mm256_set1_ps(LN2_HIGH)));
    let r = _mm256_sub_ps(r, _mm256_mul_ps(whole, _mm256_set1_ps(LN2_LOW)));
    let [c2, c3, c4, c5, c6, c7] = EXP_TAYLOR;
    let mut p = _mm256_set1_ps(c7);
    for c in [c6, c5, c4, c3, c2] {
        p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(c));
    }
    let tail = _mm256_add_ps(r, _mm256_mul_ps(_mm256_mul_ps(r, r), p));
    let power = _mm256_add_ps(_mm256_set1_ps(1.0), tail);
    let half = _mm256_srai_epi32::<1>(n);
    let rest = _mm256_sub_epi32(n, half);
    let scaled = _mm256_mul_ps(_mm256_mul_ps(power, power_of_two(half)), power_of_two(rest));
    let below = _mm256_cmp_ps::<_CMP_LT_OQ>(x, _mm256_set1_ps(EXP_LOW));
    _mm256_andnot_ps(below, scaled)
}
