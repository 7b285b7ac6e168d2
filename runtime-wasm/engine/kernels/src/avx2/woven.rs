//! The loops over groups, columns and blocks that all woven types share.
//!
//! One vector holds the same four columns of eight rows, so a product of one
//! group ends in eight lanes, one for each row, and lane `i` adds its row's
//! blocks in order.

use std::arch::x86_64::*;

use super::f16c::widen;
use crate::activations::Activations;
use crate::layout::{GROUP, Weights};

/// Columns that share one pass over the weights.
pub(super) const COLUMNS: usize = 4;

/// A type of weights against one type of activations.
pub(super) trait Block<A: Activations> {
    /// Bytes in a block of one row.
    const BYTES: usize;

    /// Adds to `y` what one block of a group's rows adds: C columns at `x`.
    ///
    /// # Safety
    /// The CPU has what the implementation is compiled for; `8 * BYTES` bytes can be read at `w`,
    /// `A::LEN` at each of `x`, and what `sums` points to.
    unsafe fn add<const C: usize>(
        w: *const u8,
        x: [*const i8; C],
        sums: [A::Sums; C],
        scales: [f32; C],
        y: &mut [__m256; C],
    );
}

/// Four activations in each of the eight lanes.
///
/// # Safety
/// Four bytes can be read at `x`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn four(x: *const i8) -> __m256i {
    // SAFETY: the caller's promise.
    _mm256_set1_epi32(unsafe { x.cast::<i32>().read_unaligned() })
}

/// Eight IEEE halves as floats.
///
/// # Safety
/// 16 bytes can be read at `at`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn halves(at: *const u8) -> __m256 {
    // SAFETY: the caller's promise; any alignment will do.
    widen(unsafe { _mm_loadu_si128(at.cast()) })
}

/// Columns `first..first + C` of a product of `rows` rows; `out` is (columns, rows).
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn columns<B: Block<A>, A: Activations, const C: usize>(
    weights: Weights<'_>,
    x: A,
    [blocks, rows, first]: [usize; 3],
    out: &mut [f32],
) {
    let group_bytes = blocks * GROUP * B::BYTES;
    let mut quants = [std::ptr::null(); C];
    for (i, quants) in quants.iter_mut().enumerate() {
        *quants = x.quants()[(first + i) * blocks * A::LEN..].as_ptr();
    }
    for group in 0..rows.div_ceil(GROUP) {
        let mut at = weights.group(group, group_bytes).as_ptr();
        let mut y = [_mm256_setzero_ps(); C];
        let mut quants = quants;
        for block in 0..blocks {
            if C == 1 {
                // One vector waits for its weights: ask for those of the next group. They follow
                // this one's, and past the last of a matrix another one does, or nothing happens.
                for line in (0..GROUP * B::BYTES).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(group_bytes + line).cast());
                }
            }
            // SAFETY: `check` found `blocks` blocks in every group and in every vector; the set
            // of kernels that called exists only where the CPU has the instructions.
            unsafe {
                let mut sums = [x.sums(first, block); C];
                let mut scales = [x.scale(first, block); C];
                for i in 1..C {
                    sums[i] = x.sums(first + i, block);
                    scales[i] = x.scale(first + i, block);
                }
                B::add(at, quants, sums, scales, &mut y);
            }
            at = at.wrapping_add(GROUP * B::BYTES);
            quants = quants.map(|x| x.wrapping_add(A::LEN));
        }
        for (i, y) in y.into_iter().enumerate() {
            let out = &mut out[(first + i) * rows + group * GROUP..(first + i + 1) * rows];
            if let Some(out) = out.first_chunk_mut::<GROUP>() {
                // SAFETY: `out` is eight floats, and any alignment will do.
                unsafe { _mm256_storeu_ps(out.as_mut_ptr(), y) };
            } else {
                let n = out.len();
                out.copy_from_slice(&super::reduce::lanes(y)[..n]);
            }
        }
    }
}

/// `out[row] = weights[row] . x`, one vector.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn matvec<B: Block<A>, A: Activations>(weights: Weights<'_>, x: A, out: &mut [f32]) {
    let blocks = x.check() / A::LEN;
    assert_eq!(x.columns(), 1, "matvec takes one vector");
    let rows = weights.check(B::BYTES, blocks, 1, out);
    columns::<B, A, 1>(weights, x, [blocks, rows, 0], out);
}

/// `out[column][row] = weights[row] . x[column]`, four columns at a time.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn matmul<B: Block<A>, A: Activations>(weights: Weights<'_>, x: A, out: &mut [f32]) {
    let blocks = x.check() / A::LEN;
    let n = x.columns();
    let rows = weights.check(B::BYTES, blocks, n, out);
    let mut first = 0;
    while first < n {
        let shape = [blocks, rows, first];
        first += match n - first {
            1 => {
                columns::<B, A, 1>(weights, x, shape, out);
                1
            }
            2 | 3 => {
                columns::<B, A, 2>(weights, x, shape, out);
                2
            }
            _ => {
                columns::<B, A, COLUMNS>(weights, x, shape, out);
                COLUMNS
            }
        };
    }
}
