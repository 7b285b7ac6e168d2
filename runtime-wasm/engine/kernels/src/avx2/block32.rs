//! Weights in blocks of 32. Layouts: `scalar/block32.rs`.
//!
//! ```text
//! 32 weights as bytes . 32 activations -> 8 partial sums     one vector
//! eight rows (matvec) or eight columns (matmul)              eight vectors
//! sum_each -> S in 8 lanes;  y += (d * D) * S [+ (m * D) * T]
//! ```

use std::arch::x86_64::*;

use meetara_format::block;

use super::reduce::{half, halves, lanes, sum_each, tiles};
use crate::{Q8, Q8_LEN, check_product};

/// A type of weights.
pub(super) trait Block {
    /// Bytes in a block. The scale is its first half-precision float.
    const BYTES: usize;
    /// Whether a minimum follows the scale.
    const HAS_MIN: bool;
    /// What was added to each weight to make it unsigned.
    const OFFSET: i32;
    /// Whether weights are signed bytes.
    const SIGNED: bool;

    /// The 32 weights as bytes.
    ///
    /// # Safety
    /// The CPU has AVX2, and `BYTES` bytes can be read at `w`.
    unsafe fn unpack(w: *const u8) -> __m256i;
}

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;

/// 16 bytes at `at`: low nibbles to the lower half, high nibbles to the upper.
///
/// # Safety
/// 16 bytes can be read at `at`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn nibbles(at: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    let packed = unsafe { _mm_loadu_si128(at.cast()) };
    let both = _mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed);
    _mm256_and_si256(both, _mm256_set1_epi8(15))
}

/// Bit `i` of the 32 bits at `at` becomes 16 in byte `i`, or 0.
///
/// # Safety
/// Four bytes can be read at `at`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn fifth_bits(at: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    let bits = _mm256_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() });
    // Byte i gets the byte that holds its bit, then all other bits are set.
    let spread = _mm256_setr_epi64x(
        0x0000_0000_0000_0000,
        0x0101_0101_0101_0101,
        0x0202_0202_0202_0202,
        0x0303_0303_0303_0303,
    );
    let others = _mm256_set1_epi64x(0x7fbf_dfef_f7fb_fdfe);
    let bytes = _mm256_or_si256(_mm256_shuffle_epi8(bits, spread), others);
    let set = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(-1));
    _mm256_and_si256(set, _mm256_set1_epi8(16))
}

macro_rules! block {
    ($name:ident, $layout:ident, min: $min:literal, offset: $offset:literal, signed: $signed:literal, |$w:ident| $unpack:expr) => {
        impl Block for $name {
            const BYTES: usize = block::$layout::BLOCK_BYTES;
            const HAS_MIN: bool = $min;
            const OFFSET: i32 = $offset;
            const SIGNED: bool = $signed;

            #[inline]
            #[target_feature(enable = "avx2,f16c")]
            unsafe fn unpack($w: *const u8) -> __m256i {
                // SAFETY: the offsets are those of the layout, all inside `BYTES`.
                unsafe { $unpack }
            }
        }
    };
}

block!(Q4_0, q4_0, min: false, offset: 8, signed: false, |w| nibbles(w.add(2)));
block!(Q4_1, q4_1, min: true, offset: 0, signed: false, |w| nibbles(w.add(4)));
block!(Q5_0, q5_0, min: false, offset: 16, signed: false, |w| {
    _mm256_or_si256(nibbles(w.add(6)), fifth_bits(w.add(2)))
});
block!(Q5_1, q5_1, min: true, offset: 0, signed: false, |w| {
    _mm256_or_si256(nibbles(w.add(8)), fifth_bits(w.add(4)))
});
block!(Q8_0, q8_0, min: false, offset: 0, signed: true, |w| {
    _mm256_loadu_si256(w.add(2).cast())
});

/// Eight partial sums of weights times activations.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn dot<B: Block>(w: __m256i, x: __m256i) -> __m256i {
    let pairs = if B::SIGNED {
        // |w| * (x with the sign of w); |-128| is 128 as an unsigned byte.
        _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
    } else {
        _mm256_maddubs_epi16(w, x)
    };
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// What eight blocks add: `d`, `m` and `big_d` the scales, `s` the dots, `t` the activations' sums.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn contribution<B: Block>(d: __m256, m: __m256, big_d: __m256, s: __m256i, t: __m256i) -> __m256 {
    let s = match B::OFFSET {
        0 => s,
        offset => _mm256_sub_epi32(s, _mm256_mullo_epi32(t, _mm256_set1_epi32(offset))),
    };
    let scaled = _mm256_mul_ps(_mm256_mul_ps(d, big_d), _mm256_cvtepi32_ps(s));
    if B::HAS_MIN {
        let min = _mm256_mul_ps(_mm256_mul_ps(m, big_d), _mm256_cvtepi32_ps(t));
        _mm256_add_ps(scaled, min)
    } else {
        scaled
    }
}

/// One vector, eight rows at a time.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn matvec<B: Block>(weights: &[u8], x: Q8<'_>, out: &mut [f32]) {
    x.check();
    assert_eq!(x.columns(), 1, "matvec takes one vector");
    let blocks = x.len / Q8_LEN;
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
            let (scale, t) = (x.scales[block * x.stride], x.sums[block * x.stride]);
            let mut parts = [_mm256_setzero_si256(); 8];
            // SAFETY: `at` points at block `block` of a row of `blocks`, and `quants` is (len).
            let (d, m) = unsafe {
                let quants = _mm256_loadu_si256(x.quants.as_ptr().add(block * Q8_LEN).cast());
                for (part, at) in parts.iter_mut().zip(at) {
                    *part = dot::<B>(B::unpack(at), quants);
                }
                let m = if B::HAS_MIN {
                    halves(at, 2)
                } else {
                    _mm256_setzero_ps()
                };
                (halves(at, 0), m)
            };
            let t = _mm256_set1_epi32(t);
            let big_d = _mm256_set1_ps(scale);
            sum = _mm256_add_ps(sum, contribution::<B>(d, m, big_d, sum_each(parts), t));
            for at in &mut at {
                *at = at.wrapping_add(B::BYTES);
            }
        }
        out.copy_from_slice(&lanes(sum)[..out.len()]);
    }
}

/// Many vectors, eight columns at a time.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn matmul<B: Block>(weights: &[u8], x: Q8<'_>, out: &mut [f32]) {
    x.check();
    let blocks = x.len / Q8_LEN;
    let row_bytes = blocks * B::BYTES;
    let rows = check_product(weights, row_bytes, x.columns(), out);
    assert!(x.scales.len() >= blocks * x.stride && x.sums.len() >= blocks * x.stride);
    for (first, real) in tiles(x.columns()) {
        if real < 3 {
            for column in first..first + real {
                matvec::<B>(weights, x.column(column), &mut out[column * rows..][..rows]);
            }
            continue;
        }
        let mut quants = [x.quants.as_ptr(); 8];
        for (i, quants) in quants.iter_mut().enumerate() {
            // Past the last column, the last column again: its results are dropped.
            // SAFETY: the column is below `columns`, and `quants` is (columns, len).
            *quants = unsafe { quants.add((first + i.min(real - 1)) * x.len) };
        }
        for row in 0..rows {
            let mut sum = _mm256_setzero_ps();
            for block in 0..blocks {
                let mut parts = [_mm256_setzero_si256(); 8];
                // SAFETY: block `block` of row `row` lies in `weights`, block `block` of
                // each column in `quants`. Scales and sums are (blocks, stride), and the
                // stride is a multiple of 8 above `first`, so that 8 can be read.
                let (d, m, big_d, t) = unsafe {
                    let w = weights.as_ptr().add(row * row_bytes + block * B::BYTES);
                    let unpacked = B::unpack(w);
                    for (part, quants) in parts.iter_mut().zip(quants) {
                        let quants = _mm256_loadu_si256(quants.add(block * Q8_LEN).cast());
                        *part = dot::<B>(unpacked, quants);
                    }
                    let m = if B::HAS_MIN {
                        half(w.add(2))
                    } else {
                        _mm256_setzero_ps()
                    };
                    let at = block * x.stride + first;
                    let big_d = _mm256_loadu_ps(x.scales.as_ptr().add(at));
                    (
                        half(w),
                        m,
                        big_d,
                        _mm256_loadu_si256(x.sums.as_ptr().add(at).cast()),
                    )
                };
                sum = _mm256_add_ps(sum, contribution::<B>(d, m, big_d, sum_each(parts), t));
            }
            for (i, y) in lanes(sum)[..real].iter().enumerate() {
                out[(first + i) * rows + row] = *y;
            }
        }
    }
}
