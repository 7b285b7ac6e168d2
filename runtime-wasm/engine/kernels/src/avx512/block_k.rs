//! Woven weights in blocks of 256. Layouts: `scalar/block_k.rs` and `layout.rs`.
//!
//! ```text
//! four columns of 16 rows, as bytes . four activations, added over a sub-block
//! . the sub-block's scale, added up                                  -> S in 16 lanes
//! y += (d * D) * S [- (m * D) * T]
//! ```

use std::arch::x86_64::*;

use meetara_format::block;

use super::woven::{Block, Pair, four, halves, load};
use crate::{Q8K, SUMS_32};

pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

/// The scales and the minima of 16 rows: each lane holds those of sub-blocks
/// 0 to 3, or of 4 to 7, of its row as bytes.
struct Scales {
    scales: [__m512i; 2],
    mins: [__m512i; 2],
}

/// # Safety
/// `w` is a block of Q4_K or Q5_K.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn scales_mins(w: Pair) -> Scales {
    let and = |x, mask| _mm512_and_si512(x, _mm512_set1_epi32(mask));
    // SAFETY: the offsets are those of the layout.
    let (a, b, c) = unsafe { (load(w, 32), load(w, 64), load(w, 96)) };
    // The upper two of six bits, brought from bits 6 and 7 to bits 4 and 5.
    let upper = |x| and(_mm512_srli_epi32::<2>(x), 0x3030_3030);
    let four = 0x0f0f_0f0f;
    Scales {
        scales: [and(a, 0x3f3f_3f3f), _mm512_or_si512(and(c, four), upper(a))],
        mins: [
            and(b, 0x3f3f_3f3f),
            _mm512_or_si512(and(_mm512_srli_epi32::<4>(c), four), upper(b)),
        ],
    }
}

/// Byte `j` of each lane, without sign, as an `i32`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn unsigned(bytes: __m512i, j: usize) -> __m512i {
    let lane = |i: u32| (0x8080_8000 | (4 * i + j as u32)) as i32;
    let pick = _mm512_set4_epi32(lane(3), lane(2), lane(1), lane(0));
    _mm512_shuffle_epi8(bytes, pick)
}

/// Byte `j` of each lane, with its sign, as an `i32`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn signed(bytes: __m512i, j: usize) -> __m512i {
    let lane = |i: u32| (0x0080_8080 | (4 * i + j as u32) << 24) as i32;
    let pick = _mm512_set4_epi32(lane(3), lane(2), lane(1), lane(0));
    _mm512_srai_epi32::<24>(_mm512_shuffle_epi8(bytes, pick))
}

/// `i16` at even, then at odd bytes of `bytes`, times the sums at `sums`, added to `t`.
///
/// # Safety
/// Four sums can be read there, in the order of `crate::sum_place`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn add_sums(t: __m512i, [even, odd]: [__m512i; 2], sums: *const i16) -> __m512i {
    // SAFETY: the caller's promise.
    let (x_even, x_odd) = unsafe { (four(sums.cast()), four(sums.add(2).cast())) };
    _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(t, even, x_even), odd, x_odd)
}

/// Q4_K, or with the fifth bits at `high` Q5_K; `qs` are the nibbles.
///
/// # Safety
/// See [`Block::add`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn add_affine<const C: usize>(
    w: Pair,
    [high, qs]: [usize; 2],
    x: [*const i8; C],
    sums: [*const i16; C],
    scales: [f32; C],
    y: &mut [__m512; C],
) {
    let (nibble, fifth) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16));
    let zero = [_mm512_setzero_si512(); C];
    let mut dots = zero;
    // SAFETY: the offsets are those of the layout, inside what the caller promises.
    unsafe {
        let small = scales_mins(w);
        for j in 0..4 {
            let (mut lows, mut highs) = (zero, zero);
            for t in 0..8 {
                let packed = load(w, qs + 256 * j + 32 * t);
                let mut low = _mm512_and_si512(packed, nibble);
                let mut upper = _mm512_and_si512(_mm512_srli_epi16::<4>(packed), nibble);
                if high > 0 {
                    // Bit 2j is for the lower, bit 2j + 1 for the upper nibbles.
                    let bits = load(w, high + 32 * t);
                    let bits = _mm512_srl_epi16(bits, _mm_cvtsi32_si128(2 * j as i32));
                    let (one, two) = (_mm512_slli_epi16::<4>(bits), _mm512_slli_epi16::<3>(bits));
                    low = _mm512_or_si512(low, _mm512_and_si512(one, fifth));
                    upper = _mm512_or_si512(upper, _mm512_and_si512(two, fifth));
                }
                for c in 0..C {
                    let x = x[c].add(64 * j + 4 * t);
                    lows[c] = _mm512_dpbusd_epi32(lows[c], low, four(x));
                    highs[c] = _mm512_dpbusd_epi32(highs[c], upper, four(x.add(32)));
                }
            }
            let bytes = small.scales[j / 2];
            let (one, two) = (unsigned(bytes, 2 * j % 4), unsigned(bytes, 2 * j % 4 + 1));
            for c in 0..C {
                let both = _mm512_add_epi32(
                    _mm512_mullo_epi32(lows[c], one),
                    _mm512_mullo_epi32(highs[c], two),
                );
                dots[c] = _mm512_add_epi32(dots[c], both);
            }
        }
        let (d, m) = (halves(w, 0), halves(w, 16));
        let split = |bytes| {
            let even = _mm512_and_si512(bytes, _mm512_set1_epi16(0xff));
            [even, _mm512_srli_epi16::<8>(bytes)]
        };
        let mins = small.mins.map(split);
        for c in 0..C {
            let mut t = _mm512_setzero_si512();
            for (i, mins) in mins.into_iter().enumerate() {
                t = add_sums(t, mins, sums[c].add(SUMS_32 + 4 * i));
            }
            let big_d = _mm512_set1_ps(scales[c]);
            let scaled = _mm512_mul_ps(_mm512_mul_ps(d, big_d), _mm512_cvtepi32_ps(dots[c]));
            let min = _mm512_mul_ps(_mm512_mul_ps(m, big_d), _mm512_cvtepi32_ps(t));
            y[c] = _mm512_add_ps(y[c], _mm512_sub_ps(scaled, min));
        }
    }
}

macro_rules! affine {
    ($name:ident, $layout:ident, $fields:expr) => {
        impl Block<Q8K<'_>> for $name {
            const BYTES: usize = block::$layout::BLOCK_BYTES;

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
            unsafe fn add<const C: usize>(
                w: Pair,
                x: [*const i8; C],
                sums: [*const i16; C],
                scales: [f32; C],
                y: &mut [__m512; C],
            ) {
                // SAFETY: the caller's promise.
                unsafe { add_affine(w, $fields, x, sums, scales, y) }
            }
        }
    };
}

affine!(Q4K, q4_k, [0, 128]);
affine!(Q5K, q5_k, [128, 384]);

/// Where the scales of Q6_K lie in a group's block, and its d.
const SCALES_Q6K: usize = 1536;
const D_Q6K: usize = 1664;

impl Block<Q8K<'_>> for Q6K {
    const BYTES: usize = block::q6_k::BLOCK_BYTES;
    const COLUMNS_MAX: usize = 4;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn add<const C: usize>(
        w: Pair,
        x: [*const i8; C],
        sums: [*const i16; C],
        scales: [f32; C],
        y: &mut [__m512; C],
    ) {
        let zero = [_mm512_setzero_si512(); C];
        let mut dots = zero;
        // SAFETY: the offsets are those of the layout, inside what the caller promises.
        unsafe {
            let mut small = [zero[0]; 4];
            for (i, small) in small.iter_mut().enumerate() {
                *small = load(w, SCALES_Q6K + 32 * i);
            }
            for half in 0..2 {
                for part in 0..2 {
                    // Four runs of 32 share bytes; `part` is which 16 of each.
                    let mut products = [zero; 4];
                    for t in 4 * part..4 * part + 4 {
                        let weights = weights_q6k(w, half, t);
                        for (run, products) in products.iter_mut().enumerate() {
                            for (c, product) in products.iter_mut().enumerate() {
                                let x = four(x[c].add(128 * half + 32 * run + 4 * t));
                                *product = _mm512_dpbusd_epi32(*product, weights[run], x);
                            }
                        }
                    }
                    for (run, products) in products.into_iter().enumerate() {
                        let index = 8 * half + 2 * run + part;
                        let scale = signed(small[index / 4], index % 4);
                        for (dot, product) in dots.iter_mut().zip(products) {
                            *dot = _mm512_add_epi32(*dot, _mm512_mullo_epi32(product, scale));
                        }
                    }
                }
            }
            let d = halves(w, D_Q6K);
            for c in 0..C {
                // Weights are stored 32 too large: take off 32 * scale * sum.
                let mut excess = zero[0];
                for (i, &bytes) in small.iter().enumerate() {
                    let even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(bytes));
                    let split = [even, _mm512_srai_epi16::<8>(bytes)];
                    excess = add_sums(excess, split, sums[c].add(4 * i));
                }
                let s = _mm512_sub_epi32(dots[c], _mm512_slli_epi32::<5>(excess));
                let scaled = _mm512_mul_ps(d, _mm512_set1_ps(scales[c]));
                let scaled = _mm512_mul_ps(scaled, _mm512_cvtepi32_ps(s));
                y[c] = _mm512_add_ps(y[c], scaled);
            }
        }
    }
}

/// The four runs' weights of columns `4 t..4 t + 4` of a half, 0 to 63.
///
/// # Safety
/// `w` is a block of Q6_K.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn weights_q6k(w: Pair, half: usize, t: usize) -> [__m512i; 4] {
    let (nibble, upper) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    // SAFETY: the offsets are those of the layout.
    let (a, b, bits) = unsafe {
        let low = 512 * half + 32 * t;
        (
            load(w, low),
            load(w, low + 256),
            load(w, 1024 + 256 * half + 32 * t),
        )
    };
    let low = |x| _mm512_and_si512(x, nibble);
    let shifted = |x| _mm512_and_si512(_mm512_srli_epi16::<4>(x), nibble);
    let high = |x| _mm512_and_si512(x, upper);
    [
        _mm512_or_si512(low(a), high(_mm512_slli_epi16::<4>(bits))),
        _mm512_or_si512(low(b), high(_mm512_slli_epi16::<2>(bits))),
        _mm512_or_si512(shifted(a), high(bits)),
        _mm512_or_si512(shifted(b), high(_mm512_srli_epi16::<2>(bits))),
    ]
}
