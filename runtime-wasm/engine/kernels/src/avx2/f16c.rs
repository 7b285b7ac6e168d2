//! Eight IEEE halves to floats and back: the instructions of F16C.
//!
//! Miri, which watches over the rest of this set, does not know those; for it, and it alone, the same is
//! done one by one.

use std::arch::x86_64::*;

/// Eight halves as floats.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn widen(halves: __m128i) -> __m256 {
    #[cfg(not(miri))]
    return _mm256_cvtph_ps(halves);
    #[cfg(miri)]
    {
        let mut bits = [0_u16; 8];
        // SAFETY: `bits` has room for 16 bytes.
        unsafe { _mm_storeu_si128(bits.as_mut_ptr().cast(), halves) };
        let floats = bits.map(|bits| half::f16::from_bits(bits).to_f32_const());
        // SAFETY: `floats` has eight floats.
        unsafe { _mm256_loadu_ps(floats.as_ptr()) }
    }
}

/// Eight floats as the nearest halves, ties to even.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn narrow(floats: __m256) -> __m128i {
    #[cfg(not(miri))]
    return _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(floats);
    #[cfg(miri)]
    {
        let mut values = [0.0_f32; 8];
        // SAFETY: `values` has room for eight floats.
        unsafe { _mm256_storeu_ps(values.as_mut_ptr(), floats) };
        let bits = values.map(|value| half::f16::from_f32_const(value).to_bits());
        // SAFETY: `bits` has 16 bytes.
        unsafe { _mm_loadu_si128(bits.as_ptr().cast()) }
    }
}
