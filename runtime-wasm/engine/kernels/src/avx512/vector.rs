//! Exponentials and conversions, 16 at a time. Meanings: `scalar/vector.rs`.

use std::arch::x86_64::*;

use crate::math::{EXP_HIGH, EXP_LOW, EXP_TAYLOR, LN2_HIGH, LN2_LOW, LOG2_E, ROUND_MAGIC};
use crate::scalar;

/// The first 16 floats of `x`, `filler` for those that it lacks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn load(x: &[f32], filler: f32) -> __m512 {
    // SAFETY: 16 floats can be read, or the mask leaves out what lies beyond.
    unsafe {
        if x.len() >= 16 {
            _mm512_loadu_ps(x.as_ptr())
        } else {
            _mm512_mask_loadu_ps(_mm512_set1_ps(filler), (1 << x.len()) - 1, x.as_ptr())
        }
    }
}

/// `value` as the first 16 floats of `x`, as far as it has so many. With a mask only where one is
/// needed: such stores are slow.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn store(x: &mut [f32], value: __m512) {
    // SAFETY: 16 floats can be written, or the mask leaves out what lies beyond.
    unsafe {
        if x.len() >= 16 {
            _mm512_storeu_ps(x.as_mut_ptr(), value);
        } else {
            _mm512_mask_storeu_ps(x.as_mut_ptr(), (1 << x.len()) - 1, value);
        }
    }
}

/// 2^n.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn power_of_two(n: __m512i) -> __m512 {
    let exponent = _mm512_add_epi32(n, _mm512_set1_epi32(127));
    _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
}

/// [`crate::math::exp`] in each lane: the same steps in the same order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn exp(x: __m512) -> __m512 {
    // The second operand is what a NaN in it leaves.
    let clamped = _mm512_max_ps(_mm512_set1_ps(EXP_LOW), x);
    let clamped = _mm512_min_ps(_mm512_set1_ps(EXP_HIGH), clamped);
    let magic = _mm512_set1_ps(ROUND_MAGIC);
    let shifted = _mm512_add_ps(_mm512_mul_ps(clamped, _mm512_set1_ps(LOG2_E)), magic);
    let n = _mm512_sub_epi32(_mm512_castps_si512(shifted), _mm512_castps_si512(magic));
    let whole = _mm512_cvtepi32_ps(n);
    let r = _mm512_sub_ps(clamped, _mm512_mul_ps(whole, _mm512_set1_ps(LN2_HIGH)));
    let r = _mm512_sub_ps(r, _mm512_mul_ps(whole, _mm512_set1_ps(LN2_LOW)));
    let [c2, c3, c4, c5, c6, c7] = EXP_TAYLOR;
    let mut p = _mm512_set1_ps(c7);
    for c in [c6, c5, c4, c3, c2] {
        p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(c));
    }
    let tail = _mm512_add_ps(r, _mm512_mul_ps(_mm512_mul_ps(r, r), p));
    let power = _mm512_add_ps(_mm512_set1_ps(1.0), tail);
    let half = _mm512_srai_epi32::<1>(n);
    let rest = _mm512_sub_epi32(n, half);
    let power = _mm512_mul_ps(power, power_of_two(half));
    // All but those below the range; a NaN is not.
    let kept = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(EXP_LOW));
    _mm512_maskz_mul_ps(kept, power, power_of_two(rest))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn softmax(x: &mut [f32]) {
    let lowest = f32::NEG_INFINITY;
    let mut max = _mm512_set1_ps(lowest);
    for x in x.chunks(16) {
        // A NaN in the first operand leaves the second.
        max = _mm512_max_ps(load(x, lowest), max);
    }
    let max = _mm512_set1_ps(_mm512_reduce_max_ps(max));
    let mut sum = _mm256_setzero_ps();
    for x in x.chunks_mut(16) {
        // What is not there counts as minus infinity and adds +0, which changes no lane.
        let e = exp(_mm512_sub_ps(load(x, lowest), max));
        let both = _mm512_castps_pd(e);
        let upper = _mm512_castpd_ps(_mm512_shuffle_f64x2::<0b1110>(both, both));
        sum = _mm256_add_ps(sum, _mm512_castps512_ps256(e));
        sum = _mm256_add_ps(sum, _mm512_castps512_ps256(upper));
        store(x, e);
    }
    let mut lanes = [0.0; 8];
    // SAFETY: `lanes` has room for eight floats.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
    let inverse = _mm512_set1_ps(1.0 / scalar::fold(lanes));
    for x in x.chunks_mut(16) {
        store(x, _mm512_mul_ps(load(x, 0.0), inverse));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn silu_mul(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len());
    let one = _mm512_set1_ps(1.0);
    let sign = _mm512_set1_epi32(i32::MIN);
    for (gate, up) in gate.chunks_mut(16).zip(up.chunks(16)) {
        let g = load(gate, 0.0);
        let negative = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(g), sign));
        let silu = _mm512_div_ps(g, _mm512_add_ps(one, exp(negative)));
        store(gate, _mm512_mul_ps(silu, load(up, 0.0)));
    }
}

/// Also asks for as many halves behind `x`: in a KV cache those of the next head.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn f16_to_f32(x: &[u16], out: &mut [f32]) {
    assert_eq!(x.len(), out.len());
    let len = x.len();
    let ((x, x_rest), (out, out_rest)) = (x.as_chunks::<32>(), out.as_chunks_mut::<32>());
    for (x, out) in x.iter().zip(out) {
        _mm_prefetch::<_MM_HINT_T1>(x.as_ptr().wrapping_add(len).cast());
        for (x, out) in x
            .as_chunks::<16>()
            .0
            .iter()
            .zip(out.as_chunks_mut::<16>().0)
        {
            // SAFETY: `x` has 16 halves.
            let halves = unsafe { _mm256_loadu_si256(x.as_ptr().cast()) };
            store(out, _mm512_cvtph_ps(halves));
        }
    }
    scalar::f16_to_f32(x_rest, out_rest);
}
