//! Weights in blocks of 256. Layouts: `scalar/block_k.rs`.
//!
//! ```text
//! 32 weights as bytes . 32 activations -> 16 sums of pairs, i16
//! pairs . the sub-block's scale        -> 8 partial sums, i32, added over the block
//! eight rows (matvec) or eight columns (matmul)
//! sum_each -> S in 8 lanes;  y += (d * D) * S [- (m * D) * T]
//! ```

use std::arch::x86_64::*;

use meetara_format::block;

use super::reduce::{half, halves, lanes, sum_each, tiles};
use crate::{Q8K, Q8K_LEN, SUM_LEN, check_product};

/// A type of weights.
pub(super) trait Block {
    /// Bytes in a block.
    const BYTES: usize;
    /// Where the half-precision scale is.
    const D_AT: usize;
    /// Whether minima are taken off; their half-precision scale is at 2.
    const HAS_MIN: bool;

    /// Partial sums of S and of T of one block against C columns.
    ///
    /// # Safety
    /// The CPU has AVX2; `BYTES` bytes can be read at `w`, 256 at each of `x`
    /// and 16 sums at each of `sums`.
    unsafe fn dots<const C: usize>(
        w: *const u8,
        x: [*const i8; C],
        sums: [*const i16; C],
    ) -> ([__m256i; C], [__m256i; C]);
}

pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

/// The 12 packed bytes at `at` as eight scales, in both halves of a vector of
/// `i16`, and eight minima, each twice.
///
/// # Safety
/// 12 bytes can be read at `at`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn scales_mins(at: *const u8) -> (__m256i, __m256i) {
    let word = |i| {
        // SAFETY: the caller's promise; i < 3.
        u32::from_le(unsafe { at.cast::<u32>().add(i).read_unaligned() })
    };
    let (a, b, c) = (word(0), word(1), word(2));
    let low_two = 0x0303_0303;
    let low_four = 0x0f0f_0f0f;
    let low_six = 0x3f3f_3f3f;
    let scales = [a & low_six, c & low_four | (a >> 6 & low_two) << 4];
    let mins = [b & low_six, c >> 4 & low_four | (b >> 6 & low_two) << 4];
    let wide =
        |[low, high]: [u32; 2]| _mm_cvtsi64_si128((u64::from(high) << 32 | u64::from(low)) as i64);
    let (scales, mins) = (wide(scales), wide(mins));
    (
        _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(scales)),
        _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(mins, mins)),
    )
}

/// `i16` number `j` of each half in all places of that half.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn broadcast(scales: __m256i, j: usize) -> __m256i {
    let pick = 0x0100 + 0x0202 * j as i16;
    _mm256_shuffle_epi8(scales, _mm256_set1_epi16(pick))
}

/// Adds weights . activations * scale to each column's partial sums.
///
/// # Safety
/// 32 activations can be read at `offset` from each of `x`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn add_run<const C: usize>(
    dots: &mut [__m256i; C],
    w: __m256i,
    scale: __m256i,
    x: [*const i8; C],
    offset: usize,
) {
    for (dot, x) in dots.iter_mut().zip(x) {
        // SAFETY: the caller's promise.
        let x = unsafe { _mm256_loadu_si256(x.add(offset).cast()) };
        let scaled = _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), scale);
        *dot = _mm256_add_epi32(*dot, scaled);
    }
}

/// Partial sums of `factors` times the stored sums of 16.
///
/// # Safety
/// 16 sums can be read at each of `sums`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn dot_sums<const C: usize>(factors: __m256i, sums: [*const i16; C]) -> [__m256i; C] {
    let mut dots = [_mm256_setzero_si256(); C];
    for (dot, sums) in dots.iter_mut().zip(sums) {
        // SAFETY: the caller's promise.
        *dot = _mm256_madd_epi16(factors, unsafe { _mm256_loadu_si256(sums.cast()) });
    }
    dots
}

impl Block for Q4K {
    const BYTES: usize = block::q4_k::BLOCK_BYTES;
    const D_AT: usize = 0;
    const HAS_MIN: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn dots<const C: usize>(
        w: *const u8,
        x: [*const i8; C],
        sums: [*const i16; C],
    ) -> ([__m256i; C], [__m256i; C]) {
        let nibble = _mm256_set1_epi8(15);
        let mut dots = [_mm256_setzero_si256(); C];
        // SAFETY: the offsets are those of the layout, inside what the caller promises.
        unsafe {
            let (scales, mins) = scales_mins(w.add(4));
            for pair in 0..4 {
                let packed = _mm256_loadu_si256(w.add(16 + 32 * pair).cast());
                let low = _mm256_and_si256(packed, nibble);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(packed), nibble);
                add_run(&mut dots, low, broadcast(scales, 2 * pair), x, 64 * pair);
                add_run(
                    &mut dots,
                    high,
                    broadcast(scales, 2 * pair + 1),
                    x,
                    64 * pair + 32,
                );
            }
            (dots, dot_sums(mins, sums))
        }
    }
}

impl Block for Q5K {
    const BYTES: usize = block::q5_k::BLOCK_BYTES;
    const D_AT: usize = 0;
    const HAS_MIN: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn dots<const C: usize>(
        w: *const u8,
        x: [*const i8; C],
        sums: [*const i16; C],
    ) -> ([__m256i; C], [__m256i; C]) {
        let (nibble, sixteen) = (_mm256_set1_epi8(15), _mm256_set1_epi8(16));
        let mut dots = [_mm256_setzero_si256(); C];
        // SAFETY: the offsets are those of the layout, inside what the caller promises.
        unsafe {
            let (scales, mins) = scales_mins(w.add(4));
            // The fifth bit of sub-block j is bit j: brought to bit 4 by a shift of 4 - j.
            let mut high_bits = _mm256_loadu_si256(w.add(16).cast());
            for pair in 0..4 {
                let packed = _mm256_loadu_si256(w.add(48 + 32 * pair).cast());
                let fifth = _mm256_and_si256(_mm256_slli_epi16::<4>(high_bits), sixteen);
                let low = _mm256_or_si256(_mm256_and_si256(packed, nibble), fifth);
                let fifth = _mm256_and_si256(_mm256_slli_epi16::<3>(high_bits), sixteen);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(packed), nibble);
                let high = _mm256_or_si256(high, fifth);
                add_run(&mut dots, low, broadcast(scales, 2 * pair), x, 64 * pair);
                add_run(
                    &mut dots,
                    high,
                    broadcast(scales, 2 * pair + 1),
                    x,
                    64 * pair + 32,
                );
                high_bits = _mm256_srli_epi16::<2>(high_bits);
            }
            (dots, dot_sums(mins, sums))
        }
    }
}

impl Block for Q6K {
    const BYTES: usize = block::q6_k::BLOCK_BYTES;
    const D_AT: usize = 208;
    const HAS_MIN: bool = false;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn dots<const C: usize>(
        w: *const u8,
        x: [*const i8; C],
        sums: [*const i16; C],
    ) -> ([__m256i; C], [__m256i; C]) {
        let (nibble, upper) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
        let mut dots = [_mm256_setzero_si256(); C];
        // SAFETY: the offsets are those of the layout, inside what the caller promises.
        unsafe {
            let scales = _mm_loadu_si128(w.add(192).cast());
            // The scales of a run's two halves, each in all places of a half.
            let pick = |run: usize| {
                let first = 0x0101_0101_0101_0101 * (2 * run as i64);
                let which = _mm_set_epi64x(first + 0x0101_0101_0101_0101, first);
                _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, which))
            };
            for half in 0..2 {
                let a = _mm256_loadu_si256(w.add(64 * half).cast());
                let b = _mm256_loadu_si256(w.add(64 * half + 32).cast());
                let high = _mm256_loadu_si256(w.add(128 + 32 * half).cast());
                let low = |x| _mm256_and_si256(x, nibble);
                let shifted = |x| _mm256_and_si256(_mm256_srli_epi16::<4>(x), nibble);
                // Two bits of `high` at bits 4 and 5.
                let bits = [
                    _mm256_and_si256(_mm256_slli_epi16::<4>(high), upper),
                    _mm256_and_si256(_mm256_slli_epi16::<2>(high), upper),
                    _mm256_and_si256(high, upper),
                    _mm256_and_si256(_mm256_srli_epi16::<2>(high), upper),
                ];
                let nibbles = [low(a), low(b), shifted(a), shifted(b)];
                for run in 0..4 {
                    let weights = _mm256_or_si256(nibbles[run], bits[run]);
                    let offset = 128 * half + 32 * run;
                    add_run(&mut dots, weights, pick(4 * half + run), x, offset);
                }
            }
            // Weights are stored 32 too large: take off 32 * scale * sum.
            let excess = dot_sums(_mm256_cvtepi8_epi16(scales), sums);
            for (dot, excess) in dots.iter_mut().zip(excess) {
                *dot = _mm256_sub_epi32(*dot, _mm256_slli_epi32::<5>(excess));
            }
            (dots, [_mm256_setzero_si256(); C])
        }
    }
}

/// What eight blocks add: `d`, `m` and `big_d` the scales, `s` and `t` the sums.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn contribution<B: Block>(d: __m256, m: __m256, big_d: __m256, s: __m256i, t: __m256i) -> __m256 {
    let scaled = _mm256_mul_ps(_mm256_mul_ps(d, big_d), _mm256_cvtepi32_ps(s));
    if B::HAS_MIN {
        let min = _mm256_mul_ps(_mm256_mul_ps(m, big_d), _mm256_cvtepi32_ps(t));
        _mm256_sub_ps(scaled, min)
    } else {
        scaled
    }
}

/// One vector, eight rows at a time.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn matvec<B: Block>(weights: &[u8], x: Q8K<'_>, out: &mut [f32]) {
    x.check();
    assert_eq!(x.columns(), 1, "matvec takes one vector");
    let blocks = x.len / Q8K_LEN;
    let row_bytes = blocks * B::BYTES;
    let rows = check_product(weights, row_bytes, 1, out);
    for (tile, out) in out.chunks_mut(8).enumerate() {
        let mut at = [weights.as_ptr(); 8];
        for (i, at) in at.iter_mut().enumerate() {
            // Past the last row, the last row again: its results are dropped.
            let row = (tile * 8 + i).min(rows - 1);
            // SAFETY: `row < rows`, and `weights` is (rows, row_bytes).
            *at = unsafe { at.add(row * row_bytes) };
        }
        let mut sum = _mm256_setzero_ps();
        for block in 0..blocks {
            let mut s = [_mm256_setzero_si256(); 8];
            let mut t = s;
            // SAFETY: `at` points at block `block` of a row of `blocks`, `quants` is (len)
            // and `sums` (len / 16).
            let (d, m) = unsafe {
                let quants = x.quants.as_ptr().add(block * Q8K_LEN);
                let sums = x.sums.as_ptr().add(block * (Q8K_LEN / SUM_LEN));
                for i in 0..8 {
                    let ([dot], [min]) = B::dots(at[i], [quants], [sums]);
                    (s[i], t[i]) = (dot, min);
                }
                let m = if B::HAS_MIN {
                    halves(at, 2)
                } else {
                    _mm256_setzero_ps()
                };
                (halves(at, B::D_AT), m)
            };
            let big_d = _mm256_set1_ps(x.scales[block * x.stride]);
            let t = if B::HAS_MIN { sum_each(t) } else { t[0] };
            sum = _mm256_add_ps(sum, contribution::<B>(d, m, big_d, sum_each(s), t));
            for at in &mut at {
                *at = at.wrapping_add(B::BYTES);
            }
        }
        out.copy_from_slice(&lanes(sum)[..out.len()]);
    }
}

/// Many vectors, eight columns at a time.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn matmul<B: Block>(weights: &[u8], x: Q8K<'_>, out: &mut [f32]) {
    x.check();
    let blocks = x.len / Q8K_LEN;
    let row_bytes = blocks * B::BYTES;
    let rows = check_product(weights, row_bytes, x.columns(), out);
    assert!(x.scales.len() >= blocks * x.stride);
    for (first, real) in tiles(x.columns()) {
        if real < 3 {
            for column in first..first + real {
                matvec::<B>(weights, x.column(column), &mut out[column * rows..][..rows]);
            }
            continue;
        }
        // Past the last column, the last column again: its results are dropped.
        let mut quants = [x.quants.as_ptr(); 8];
        let mut sums = [x.sums.as_ptr(); 8];
        for i in 0..8 {
            let column = first + i.min(real - 1);
            // SAFETY: `column` is below `columns`; `quants` is (columns, len), `sums`
            // (columns, len / 16).
            unsafe {
                quants[i] = quants[i].add(column * x.len);
                sums[i] = sums[i].add(column * (x.len / SUM_LEN));
            }
        }
        for row in 0..rows {
            let mut sum = _mm256_setzero_ps();
            let (mut quants, mut sums) = (quants, sums);
            for block in 0..blocks {
                // SAFETY: block `block` of row `row` lies in `weights`, and `quants` and
                // `sums` point at that block of each column. Scales are (blocks, stride),
                // and the stride is a multiple of 8 above `first`, so that 8 can be read.
                let (d, m, big_d, s, t) = unsafe {
                    let w = weights.as_ptr().add(row * row_bytes + block * B::BYTES);
                    let (s, t) = B::dots(w, quants, sums);
                    let m = if B::HAS_MIN {
                        half(w.add(2))
                    } else {
                        _mm256_setzero_ps()
                    };
                    let big_d = _mm256_loadu_ps(x.scales.as_ptr().add(block * x.stride + first));
                    (half(w.add(B::D_AT)), m, big_d, s, t)
                };
                let t = if B::HAS_MIN { sum_each(t) } else { t[0] };
                sum = _mm256_add_ps(sum, contribution::<B>(d, m, big_d, sum_each(s), t));
                for i in 0..8 {
                    quants[i] = quants[i].wrapping_add(Q8K_LEN);
                    sums[i] = sums[i].wrapping_add(Q8K_LEN / SUM_LEN);
                }
            }
            for (i, y) in lanes(sum)[..real].iter().enumerate() {
                out[(first + i) * rows + row] = *y;
            }
        }
    }
}
