//! Woven weights in blocks of 32. Layouts: `scalar/block32.rs` and `layout.rs`.
//!
//! ```text
//! four columns of eight rows, as bytes . four activations   -> 16 sums of pairs, i16
//! added over the block (at most 8 products of 15 or 31 * 127 a lane)
//! pairs added                                               -> S in 8 lanes
//! y += (d * D) * S [+ (m * D) * T]
//! ```

use std::arch::x86_64::*;

use meetara_format::block;

use super::woven::{Block, four, halves};
use crate::Q8;

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;

/// Sums of pairs as sums of fours.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn add_pairs(sums: __m256i) -> __m256i {
    _mm256_madd_epi16(sums, _mm256_set1_epi16(1))
}

/// S of C columns for nibbles at `w`, with fifth bits at `high` where there are some.
///
/// # Safety
/// 128 bytes can be read at `w`, 32 at `high` and at each of `x`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn dots<const C: usize>(
    w: *const u8,
    high: Option<*const u8>,
    x: [*const i8; C],
) -> [__m256i; C] {
    let (nibble, fifth) = (_mm256_set1_epi8(15), _mm256_set1_epi8(16));
    let mut lows = [_mm256_setzero_si256(); C];
    let mut highs = lows;
    // SAFETY: the caller's promise; t < 4.
    unsafe {
        let mut bits = match high {
            Some(high) => _mm256_loadu_si256(high.cast()),
            None => _mm256_setzero_si256(),
        };
        for t in 0..4 {
            let packed = _mm256_loadu_si256(w.add(32 * t).cast());
            let mut low = _mm256_and_si256(packed, nibble);
            let mut upper = _mm256_and_si256(_mm256_srli_epi16::<4>(packed), nibble);
            if high.is_some() {
                // Bit 2t for the first half, bit 2t + 1 for the second.
                low = _mm256_or_si256(low, _mm256_and_si256(_mm256_slli_epi16::<4>(bits), fifth));
                upper =
                    _mm256_or_si256(upper, _mm256_and_si256(_mm256_slli_epi16::<3>(bits), fifth));
                bits = _mm256_srli_epi16::<2>(bits);
            }
            for c in 0..C {
                let product = _mm256_maddubs_epi16(low, four(x[c].add(4 * t)));
                lows[c] = _mm256_add_epi16(lows[c], product);
                let product = _mm256_maddubs_epi16(upper, four(x[c].add(16 + 4 * t)));
                highs[c] = _mm256_add_epi16(highs[c], product);
            }
        }
    }
    let mut dots = [_mm256_setzero_si256(); C];
    for c in 0..C {
        // The two may not be added as i16: 16 * 31 * 127 > 2^15.
        dots[c] = _mm256_add_epi32(add_pairs(lows[c]), add_pairs(highs[c]));
    }
    dots
}

/// Adds `(d * D) * (S - offset * T)`, and `(m * D) * T` where there is a minimum.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn add_scaled<const C: usize>(
    (d, m): (__m256, Option<__m256>),
    offset: i32,
    dots: [__m256i; C],
    sums: [i32; C],
    scales: [f32; C],
    y: &mut [__m256; C],
) {
    for c in 0..C {
        let big_d = _mm256_set1_ps(scales[c]);
        let s = _mm256_sub_epi32(dots[c], _mm256_set1_epi32(offset * sums[c]));
        let mut term = _mm256_mul_ps(_mm256_mul_ps(d, big_d), _mm256_cvtepi32_ps(s));
        if let Some(m) = m {
            let t = _mm256_set1_ps(sums[c] as f32);
            term = _mm256_add_ps(term, _mm256_mul_ps(_mm256_mul_ps(m, big_d), t));
        }
        y[c] = _mm256_add_ps(y[c], term);
    }
}

macro_rules! block {
    ($name:ident, $layout:ident, min: $min:literal, offset: $offset:literal, fifth bits: $bits:expr, nibbles: $nibbles:literal) => {
        impl Block<Q8<'_>> for $name {
            const BYTES: usize = block::$layout::BLOCK_BYTES;

            #[inline]
            #[target_feature(enable = "avx2,f16c")]
            unsafe fn add<const C: usize>(
                w: *const u8,
                x: [*const i8; C],
                sums: [i32; C],
                scales: [f32; C],
                y: &mut [__m256; C],
            ) {
                let bits: Option<usize> = $bits;
                // SAFETY: the offsets are those of the layout, inside what the caller promises.
                unsafe {
                    let m = $min.then(|| halves(w.add(16)));
                    let dots = dots(w.add($nibbles), bits.map(|at| w.add(at)), x);
                    add_scaled((halves(w), m), $offset, dots, sums, scales, y);
                }
            }
        }
    };
}

block!(Q4_0, q4_0, min: false, offset: 8, fifth bits: None, nibbles: 16);
block!(Q4_1, q4_1, min: true, offset: 0, fifth bits: None, nibbles: 32);
block!(Q5_0, q5_0, min: false, offset: 16, fifth bits: Some(16), nibbles: 48);
block!(Q5_1, q5_1, min: true, offset: 0, fifth bits: Some(32), nibbles: 64);

impl Block<Q8<'_>> for Q8_0 {
    const BYTES: usize = block::q8_0::BLOCK_BYTES;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn add<const C: usize>(
        w: *const u8,
        x: [*const i8; C],
        sums: [i32; C],
        scales: [f32; C],
        y: &mut [__m256; C],
    ) {
        let mut dots = [_mm256_setzero_si256(); C];
        // SAFETY: the offsets are those of the layout, inside what the caller promises.
        unsafe {
            for t in 0..8 {
                let weights = _mm256_loadu_si256(w.add(16 + 32 * t).cast());
                let size = _mm256_abs_epi8(weights);
                for c in 0..C {
                    // |w| * (x with the sign of w); |-128| is 128 as an unsigned byte.
                    let x = _mm256_sign_epi8(four(x[c].add(4 * t)), weights);
                    let sums = add_pairs(_mm256_maddubs_epi16(size, x));
                    dots[c] = _mm256_add_epi32(dots[c], sums);
                }
            }
            add_scaled((halves(w), None), 0, dots, sums, scales, y);
        }
    }
}
