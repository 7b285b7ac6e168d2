//! Woven weights in blocks of 256. Layouts: `scalar/block_k.rs` and `layout.rs`.
//!
//! ```text
//! four columns of eight rows, as bytes . four activations   -> 16 sums of pairs, i16
//! added over a sub-block (Q4_K 32, Q5_K 16, Q6_K 8 columns: below 2^15)
//! pairs . the sub-block's scales                            -> S in 8 lanes
//! y += (d * D) * S [- (m * D) * T]
//! ```

use std::arch::x86_64::*;

use meetara_format::block;

use super::woven::{Block, four, halves};
use crate::{Q8K, SUMS_32};

pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

/// The scales and the minima of eight rows: each lane holds those of sub-blocks
/// 0 to 3, or of 4 to 7, of its row as bytes.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub(super) scales: [__m256i; 2],
    pub(super) mins: [__m256i; 2],
}

/// # Safety
/// 96 bytes can be read at `w`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn scales_mins(w: *const u8) -> Scales {
    let and = |x, mask| _mm256_and_si256(x, _mm256_set1_epi32(mask));
    // SAFETY: the caller's promise.
    let (a, b, c) = unsafe {
        let at = w.cast::<__m256i>();
        (
            _mm256_loadu_si256(at),
            _mm256_loadu_si256(at.add(1)),
            _mm256_loadu_si256(at.add(2)),
        )
    };
    // The upper two of six bits, brought from bits 6 and 7 to bits 4 and 5.
    let upper = |x| and(_mm256_srli_epi32::<2>(x), 0x3030_3030);
    let four = 0x0f0f_0f0f;
    Scales {
        scales: [and(a, 0x3f3f_3f3f), _mm256_or_si256(and(c, four), upper(a))],
        mins: [
            and(b, 0x3f3f_3f3f),
            _mm256_or_si256(and(_mm256_srli_epi32::<4>(c), four), upper(b)),
        ],
    }
}

/// Byte `j` of each lane, without sign, as a pair of `i16`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn pair(bytes: __m256i, j: usize) -> __m256i {
    // In each lane of a half: byte j, 0, byte j, 0.
    let lane = |i: i32| ((4 * i + j as i32) * 0x0001_0001) | 0x8000_8000_u32 as i32;
    let pick = _mm256_setr_epi32(
        lane(0),
        lane(1),
        lane(2),
        lane(3),
        lane(0),
        lane(1),
        lane(2),
        lane(3),
    );
    _mm256_shuffle_epi8(bytes, pick)
}

/// Two sums, in all lanes.
///
/// # Safety
/// Two sums can be read at `sums`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn two(sums: *const i16) -> __m256i {
    // SAFETY: the caller's promise.
    _mm256_set1_epi32(unsafe { sums.cast::<i32>().read_unaligned() })
}

/// T: the minima times the sums over sub-blocks.
///
/// # Safety
/// 24 sums can be read at `sums`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn dot_mins(mins: [__m256i; 2], sums: *const i16) -> __m256i {
    let low = _mm256_set1_epi16(0xff);
    let mut t = _mm256_setzero_si256();
    for (i, mins) in mins.into_iter().enumerate() {
        // SAFETY: the caller's promise. The order is that of `crate::sum_place`.
        let (even, odd) = unsafe {
            let sums = sums.add(SUMS_32 + 4 * i);
            (two(sums), two(sums.add(2)))
        };
        t = _mm256_add_epi32(t, _mm256_madd_epi16(_mm256_and_si256(mins, low), even));
        t = _mm256_add_epi32(t, _mm256_madd_epi16(_mm256_srli_epi16::<8>(mins), odd));
    }
    t
}

/// Adds `(d * D) * S - (m * D) * T`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn add_scaled(d: __m256, m: __m256, big_d: f32, s: __m256i, t: __m256i, y: &mut __m256) {
    let big_d = _mm256_set1_ps(big_d);
    let scaled = _mm256_mul_ps(_mm256_mul_ps(d, big_d), _mm256_cvtepi32_ps(s));
    let min = _mm256_mul_ps(_mm256_mul_ps(m, big_d), _mm256_cvtepi32_ps(t));
    *y = _mm256_add_ps(*y, _mm256_sub_ps(scaled, min));
}

/// `sums += w . x` by pairs, `dots += sums . scale` by pairs.
macro_rules! add_products {
    ($sums:expr, $w:expr, $x:expr) => {
        $sums = _mm256_add_epi16($sums, _mm256_maddubs_epi16($w, four($x)))
    };
}

/// Q4_K, or with the fifth bits at `high` Q5_K; `qs` are the nibbles.
///
/// # Safety
/// See [`Block::add`].
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn add_affine<const C: usize>(
    w: *const u8,
    high: Option<*const u8>,
    qs: *const u8,
    x: [*const i8; C],
    sums: [*const i16; C],
    scales: [f32; C],
    y: &mut [__m256; C],
) {
    let (nibble, fifth) = (_mm256_set1_epi8(15), _mm256_set1_epi8(16));
    let zero = _mm256_setzero_si256();
    let mut dots = [zero; C];
    // SAFETY: the offsets are those of the layout, inside what the caller promises.
    unsafe {
        let (d, m) = (halves(w), halves(w.add(16)));
        let small = scales_mins(w.add(32));
        for j in 0..4 {
            let bytes = small.scales[j / 2];
            let (first, second) = (pair(bytes, 2 * j % 4), pair(bytes, 2 * j % 4 + 1));
            // Fifth bits leave room for half as many products in an i16.
            let runs = if high.is_some() { 2 } else { 1 };
            for run in 0..runs {
                let (mut lows, mut highs) = ([zero; C], [zero; C]);
                for t in run * 4..(run * 4 + 8 / runs) {
                    let packed = _mm256_loadu_si256(qs.add(256 * j + 32 * t).cast());
                    let mut low = _mm256_and_si256(packed, nibble);
                    let mut upper = _mm256_and_si256(_mm256_srli_epi16::<4>(packed), nibble);
                    if let Some(high) = high {
                        // Bit 2j is for the lower, bit 2j + 1 for the upper nibbles.
                        let bits = _mm256_loadu_si256(high.add(32 * t).cast());
                        let bits = _mm256_srl_epi16(bits, _mm_cvtsi32_si128(2 * j as i32));
                        low = _mm256_or_si256(
                            low,
                            _mm256_and_si256(_mm256_slli_epi16::<4>(bits), fifth),
                        );
                        upper = _mm256_or_si256(
                            upper,
                            _mm256_and_si256(_mm256_slli_epi16::<3>(bits), fifth),
                        );
                    }
                    for c in 0..C {
                        let x = x[c].add(64 * j + 4 * t);
                        add_products!(lows[c], low, x);
                        add_products!(highs[c], upper, x.add(32));
                    }
                }
                for c in 0..C {
                    let both = _mm256_add_epi32(
                        _mm256_madd_epi16(lows[c], first),
                        _mm256_madd_epi16(highs[c], second),
                    );
                    dots[c] = _mm256_add_epi32(dots[c], both);
                }
            }
        }
        for c in 0..C {
            let t = dot_mins(small.mins, sums[c]);
            add_scaled(d, m, scales[c], dots[c], t, &mut y[c]);
        }
    }
}

impl Block<Q8K<'_>> for Q4K {
    const BYTES: usize = block::q4_k::BLOCK_BYTES;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn add<const C: usize>(
        w: *const u8,
        x: [*const i8; C],
        sums: [*const i16; C],
        scales: [f32; C],
        y: &mut [__m256; C],
    ) {
        // SAFETY: the caller's promise.
        unsafe { add_affine(w, None, w.add(128), x, sums, scales, y) }
    }
}

impl Block<Q8K<'_>> for Q5K {
    const BYTES: usize = block::q5_k::BLOCK_BYTES;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn add<const C: usize>(
        w: *const u8,
        x: [*const i8; C],
        sums: [*const i16; C],
        scales: [f32; C],
        y: &mut [__m256; C],
    ) {
        // SAFETY: the caller's promise.
        unsafe { add_affine(w, Some(w.add(128)), w.add(384), x, sums, scales, y) }
    }
}

impl Block<Q8K<'_>> for Q6K {
    const BYTES: usize = block::q6_k::BLOCK_BYTES;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn add<const C: usize>(
        w: *const u8,
        x: [*const i8; C],
        sums: [*const i16; C],
        scales: [f32; C],
        y: &mut [__m256; C],
    ) {
        let zero = _mm256_setzero_si256();
        let mut dots = [zero; C];
        // SAFETY: the offsets are those of the layout, inside what the caller promises.
        unsafe {
            for half in 0..2 {
                for part in 0..2 {
                    // Four runs of 32 share bytes; `part` is which 16 of each.
                    let mut pairs = [zero; 4];
                    for (run, pair) in pairs.iter_mut().enumerate() {
                        *pair = scale_pair(w, 8 * half + 2 * run + part);
                    }
                    for step in 0..2 {
                        let mut products = [[zero; C]; 4];
                        for t in 4 * part + 2 * step..4 * part + 2 * step + 2 {
                            let weights = weights_q6k(w, half, t);
                            for run in 0..4 {
                                for c in 0..C {
                                    let x = x[c].add(128 * half + 32 * run + 4 * t);
                                    add_products!(products[run][c], weights[run], x);
                                }
                            }
                        }
                        for run in 0..4 {
                            for c in 0..C {
                                let scaled = _mm256_madd_epi16(products[run][c], pairs[run]);
                                dots[c] = _mm256_add_epi32(dots[c], scaled);
                            }
                        }
                    }
                }
            }
            let d = halves(w.add(1664));
            for c in 0..C {
                let s = _mm256_sub_epi32(dots[c], excess_q6k(w, sums[c]));
                let big_d = _mm256_set1_ps(scales[c]);
                let scaled = _mm256_mul_ps(_mm256_mul_ps(d, big_d), _mm256_cvtepi32_ps(s));
                y[c] = _mm256_add_ps(y[c], scaled);
            }
        }
    }
}

/// The four runs' weights of columns `4 t..4 t + 4` of a half, 0 to 63.
///
/// # Safety
/// `w` is a group's block of Q6_K.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn weights_q6k(w: *const u8, half: usize, t: usize) -> [__m256i; 4] {
    let (nibble, upper) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
    // SAFETY: the offsets are those of the layout.
    let (a, b, bits) = unsafe {
        let low = w.add(512 * half + 32 * t);
        (
            _mm256_loadu_si256(low.cast()),
            _mm256_loadu_si256(low.add(256).cast()),
            _mm256_loadu_si256(w.add(1024 + 256 * half + 32 * t).cast()),
        )
    };
    let low = |x| _mm256_and_si256(x, nibble);
    let shifted = |x| _mm256_and_si256(_mm256_srli_epi16::<4>(x), nibble);
    let high = |x| _mm256_and_si256(x, upper);
    [
        _mm256_or_si256(low(a), high(_mm256_slli_epi16::<4>(bits))),
        _mm256_or_si256(low(b), high(_mm256_slli_epi16::<2>(bits))),
        _mm256_or_si256(shifted(a), high(bits)),
        _mm256_or_si256(shifted(b), high(_mm256_srli_epi16::<2>(bits))),
    ]
}

/// Scale `index` (0..16) of each row as a pair of `i16`.
///
/// # Safety
/// `w` is a group's block of Q6_K.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn scale_pair(w: *const u8, index: usize) -> __m256i {
    // SAFETY: the offset is that of the layout.
    let bytes = unsafe { _mm256_loadu_si256(w.add(1536 + 32 * (index / 4)).cast()) };
    // The byte in the upper half of each i16, then down with its sign.
    let lane = |i: i32| ((4 * i + (index % 4) as i32) * 0x0100_0100) | 0x0080_0080;
    let pick = _mm256_setr_epi32(
        lane(0),
        lane(1),
        lane(2),
        lane(3),
        lane(0),
        lane(1),
        lane(2),
        lane(3),
    );
    _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(bytes, pick))
}

/// Weights are stored 32 too large: 32 * scale * sum, to be taken off.
///
/// # Safety
/// `w` is a group's block of Q6_K; 16 sums can be read at `sums`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn excess_q6k(w: *const u8, sums: *const i16) -> __m256i {
    let mut excess = _mm256_setzero_si256();
    for i in 0..4 {
        // SAFETY: the offsets are those of the layout and of `crate::sum_place`.
        let (bytes, even, odd) = unsafe {
            let bytes = _mm256_loadu_si256(w.add(1536 + 32 * i).cast());
            (bytes, two(sums.add(4 * i)), two(sums.add(4 * i + 2)))
        };
        let even_scales = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
        excess = _mm256_add_epi32(excess, _mm256_madd_epi16(even_scales, even));
        excess = _mm256_add_epi32(
            excess,
            _mm256_madd_epi16(_mm256_srai_epi16::<8>(bytes), odd),
        );
    }
    _mm256_slli_epi32::<5>(excess)
}
