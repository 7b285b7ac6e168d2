//! Sums across the lanes of vectors.

use std::arch::x86_64::*;

/// Lane `i` of the result is the fold of `parts[i]`:
/// `((0+4) + (2+6)) + ((1+5) + (3+7))`, in that order.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn fold_each(parts: [__m256; 4]) -> __m128 {
    let halves = |x| _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let [a, b, c, d] = parts.map(halves);
    // a0+a2, a1+a3, b0+b2, b1+b3
    let ab = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
    let cd = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));
    let even = _mm_shuffle_ps::<0b10_00_10_00>(ab, cd);
    let odd = _mm_shuffle_ps::<0b11_01_11_01>(ab, cd);
    _mm_add_ps(even, odd)
}

/// The fold of one vector.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn fold(lanes: __m256) -> f32 {
    let s = _mm_add_ps(
        _mm256_castps256_ps128(lanes),
        _mm256_extractf128_ps::<1>(lanes),
    );
    let s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps::<1>(s, s)))
}

/// The eight lanes as an array.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn lanes(x: __m256) -> [f32; 8] {
    let mut lanes = [0.0; 8];
    // SAFETY: `lanes` has room for eight floats, and any alignment will do.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), x) };
    lanes
}
