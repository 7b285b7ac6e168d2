//! Woven weights in blocks of 32. Layouts: `scalar/block32.rs` and `layout.rs`.
//!
//! ```text
//! four columns of 16 rows, as bytes . four activations, added up   -> S in 16 lanes
//! y += (d * D) * S [+ (m * D) * T]
//! ```

use std::arch::x86_64::*;

use meetara_format::block;

use super::woven::{Block, Pair, four, halves, load};
use crate::Q8;

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;

/// S of C columns for nibbles at `nibbles`, with fifth bits at `high` where there are some.
///
/// # Safety
/// 128 bytes can be read at `nibbles`, 32 at `high` and at each of `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn dots<const C: usize>(
    w: Pair,
    high: Option<usize>,
    nibbles: usize,
    x: [*const i8; C],
) -> [__m512i; C] {
    let (nibble, fifth) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16));
    let mut dots = [_mm512_setzero_si512(); C];
    // SAFETY: the caller's promise; t < 4.
    unsafe {
        let mut bits = match high {
            Some(high) => load(w, high),
            None => _mm512_setzero_si512(),
        };
        for t in 0..4 {
            let packed = load(w, nibbles + 32 * t);
            let mut low = _mm512_and_si512(packed, nibble);
            let mut upper = _mm512_and_si512(_mm512_srli_epi16::<4>(packed), nibble);
            if high.is_some() {
                // Bit 2t for the first half, bit 2t + 1 for the second.
                let (one, two) = (_mm512_slli_epi16::<4>(bits), _mm512_slli_epi16::<3>(bits));
                low = _mm512_or_si512(low, _mm512_and_si512(one, fifth));
                upper = _mm512_or_si512(upper, _mm512_and_si512(two, fifth));
                bits = _mm512_srli_epi16::<2>(bits);
            }
            for c in 0..C {
                dots[c] = _mm512_dpbusd_epi32(dots[c], low, four(x[c].add(4 * t)));
                dots[c] = _mm512_dpbusd_epi32(dots[c], upper, four(x[c].add(16 + 4 * t)));
            }
        }
    }
    dots
}

/// Adds `(d * D) * (S - offset * T)`, and `(m * D) * T` where there is a minimum.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn add_scaled<const C: usize>(
    (d, m): (__m512, Option<__m512>),
    offset: i32,
    dots: [__m512i; C],
    sums: [i32; C],
    scales: [f32; C],
    y: &mut [__m512; C],
) {
    for c in 0..C {
        let big_d = _mm512_set1_ps(scales[c]);
        let s = _mm512_sub_epi32(dots[c], _mm512_set1_epi32(offset * sums[c]));
        let mut term = _mm512_mul_ps(_mm512_mul_ps(d, big_d), _mm512_cvtepi32_ps(s));
        if let Some(m) = m {
            let t = _mm512_set1_ps(sums[c] as f32);
            term = _mm512_add_ps(term, _mm512_mul_ps(_mm512_mul_ps(m, big_d), t));
        }
        y[c] = _mm512_add_ps(y[c], term);
    }
}

macro_rules! block {
    ($name:ident, $layout:ident, min: $min:literal, offset: $offset:literal, fifth bits: $bits:expr, nibbles: $nibbles:literal) => {
        impl Block<Q8<'_>> for $name {
            const BYTES: usize = block::$layout::BLOCK_BYTES;

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
            unsafe fn add<const C: usize>(
                w: Pair,
                x: [*const i8; C],
                sums: [i32; C],
                scales: [f32; C],
                y: &mut [__m512; C],
            ) {
                // SAFETY: the offsets are those of the layout, inside what the caller promises.
                unsafe {
                    let m = if $min { Some(halves(w, 16)) } else { None };
                    let dots = dots(w, $bits, $nibbles, x);
                    add_scaled((halves(w, 0), m), $offset, dots, sums, scales, y);
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
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn add<const C: usize>(
        w: Pair,
        x: [*const i8; C],
        sums: [i32; C],
        scales: [f32; C],
        y: &mut [__m512; C],
    ) {
        let mut dots = [_mm512_setzero_si512(); C];
        // SAFETY: the offsets are those of the layout, inside what the caller promises.
        unsafe {
            for t in 0..8 {
                // 128 larger, weights have no sign; the sum of the activations takes it off.
                let weights = _mm512_xor_si512(load(w, 16 + 32 * t), _mm512_set1_epi8(-128));
                for c in 0..C {
                    dots[c] = _mm512_dpbusd_epi32(dots[c], weights, four(x[c].add(4 * t)));
                }
            }
            add_scaled((halves(w, 0), None), 128, dots, sums, scales, y);
        }
    }
}
