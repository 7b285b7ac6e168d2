//! Sums across the lanes of vectors.

use std::arch::x86_64::*;

/// Lane `i` of the result is the sum of all lanes of `parts[i]`. Exact, so any order will do.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn sum_each(parts: [__m256i; 8]) -> __m256i {
    let [a, b, c, d, e, f, g, h] = parts;
    // In each half: sums of quarters of a, b, c, d, then of all four together.
    let abcd = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let efgh = _mm256_hadd_epi32(_mm256_hadd_epi32(e, f), _mm256_hadd_epi32(g, h));
    let low = _mm256_permute2x128_si256::<0x20>(abcd, efgh);
    let high = _mm256_permute2x128_si256::<0x31>(abcd, efgh);
    _mm256_add_epi32(low, high)
}

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

/// The IEEE halves at `at[i] + offset` as floats.
///
/// # Safety
/// Two bytes can be read at each of these places.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn halves(at: [*const u8; 8], offset: usize) -> __m256 {
    // SAFETY: the caller's promise.
    let [a, b, c, d, e, f, g, h] =
        at.map(|at| unsafe { at.add(offset).cast::<i16>().read_unaligned() });
    _mm256_cvtph_ps(_mm_setr_epi16(a, b, c, d, e, f, g, h))
}

/// The IEEE half at `at` in every lane, as a float.
///
/// # Safety
/// Two bytes can be read there.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn half(at: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    let bits = unsafe { at.cast::<i16>().read_unaligned() };
    _mm256_cvtph_ps(_mm_set1_epi16(bits))
}

/// Columns of a tile and how a product of `columns` is cut into them: the
/// first column of each tile and how many of its eight are real. Fewer than
/// three left over are better served one by one (`matvec`).
pub(super) fn tiles(columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..columns)
        .step_by(8)
        .map(move |first| (first, (columns - first).min(8)))
}
