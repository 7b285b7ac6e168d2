//! The loops over groups, columns and blocks that all woven types share.
//!
//! Two groups at a time: lane `i` of a sum is row `i` of 16, and adds its
//! row's blocks in order. All columns pass by while two groups' weights are in
//! the nearest cache.

use std::arch::x86_64::*;

use super::vector::store;
use crate::activations::Activations;
use crate::layout::{GROUP, Weights};

/// A block of two groups.
pub(super) type Pair = [*const u8; 2];

/// A type of weights against one type of activations.
pub(super) trait Block<A: Activations> {
    /// Bytes in a block of one row.
    const BYTES: usize;
    /// The most columns that share one pass over a block: as many as leave all sums in registers.
    const COLUMNS_MAX: usize = 8;

    /// Adds to `y` what one block of 16 rows adds: C columns at `x`.
    ///
    /// # Safety
    /// The CPU has what the implementation is compiled for; `8 * BYTES` bytes can be read at each of
    /// `w`, `A::LEN` at each of `x`, and what `sums` points to.
    unsafe fn add<const C: usize>(
        w: Pair,
        x: [*const i8; C],
        sums: [A::Sums; C],
        scales: [f32; C],
        y: &mut [__m512; C],
    );
}

/// 32 bytes at `at` of both groups.
///
/// # Safety
/// They can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn load(w: Pair, at: usize) -> __m512i {
    // SAFETY: the caller's promise; any alignment will do.
    unsafe {
        let low = _mm512_castsi256_si512(_mm256_loadu_si256(w[0].add(at).cast()));
        _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(w[1].add(at).cast()))
    }
}

/// Eight IEEE halves at `at` of both groups, as floats.
///
/// # Safety
/// They can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn halves(w: Pair, at: usize) -> __m512 {
    // SAFETY: the caller's promise; any alignment will do.
    unsafe {
        let low = _mm256_castsi128_si256(_mm_loadu_si128(w[0].add(at).cast()));
        let both = _mm256_inserti128_si256::<1>(low, _mm_loadu_si128(w[1].add(at).cast()));
        _mm512_cvtph_ps(both)
    }
}

/// Four activations in each of the 16 lanes.
///
/// # Safety
/// Four bytes can be read at `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn four(x: *const i8) -> __m512i {
    // SAFETY: the caller's promise.
    _mm512_set1_epi32(unsafe { x.cast::<i32>().read_unaligned() })
}

/// Columns `first..first + C` of 16 rows from `row` on, whose groups are at `w`; `out` is (columns, rows).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn columns<B: Block<A>, A: Activations, const C: usize>(
    mut w: Pair,
    x: A,
    [blocks, rows, row, first]: [usize; 4],
    out: &mut [f32],
) {
    let mut quants = [std::ptr::null(); C];
    for (i, quants) in quants.iter_mut().enumerate() {
        *quants = x.quants()[(first + i) * blocks * A::LEN..].as_ptr();
    }
    let mut y = [_mm512_setzero_ps(); C];
    let pair_bytes = 2 * GROUP * B::BYTES;
    let next = w[0].wrapping_add(blocks * pair_bytes);
    for block in 0..blocks {
        if C == 1 {
            // One vector waits for its weights: ask for those of the next two groups. They follow
            // these two, and past the last of a matrix another one does, or nothing happens.
            for line in (0..pair_bytes).step_by(64) {
                _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(block * pair_bytes + line).cast());
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
            B::add(w, quants, sums, scales, &mut y);
        }
        w = w.map(|w| w.wrapping_add(GROUP * B::BYTES));
        quants = quants.map(|x| x.wrapping_add(A::LEN));
    }
    for (i, y) in y.into_iter().enumerate() {
        store(
            &mut out[(first + i) * rows + row..(first + i + 1) * rows],
            y,
        );
    }
}

/// Calls `on_pair` with the place of every two groups and their first row. A group without a
/// second one stands in for it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn for_each_pair(
    weights: Weights<'_>,
    rows: usize,
    group_bytes: usize,
    mut on_pair: impl FnMut(Pair, usize),
) {
    let groups = rows.div_ceil(GROUP);
    for group in (0..groups).step_by(2) {
        let second = (group + 1).min(groups - 1);
        let pair = [group, second].map(|group| weights.group(group, group_bytes).as_ptr());
        on_pair(pair, group * GROUP);
    }
}

/// `out[row] = weights[row] . x`, one vector.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn matvec<B: Block<A>, A: Activations>(weights: Weights<'_>, x: A, out: &mut [f32]) {
    let blocks = x.check() / A::LEN;
    assert_eq!(x.columns(), 1, "matvec takes one vector");
    let rows = weights.check(B::BYTES, blocks, 1, out);
    for_each_pair(weights, rows, blocks * GROUP * B::BYTES, |pair, row| {
        columns::<B, A, 1>(pair, x, [blocks, rows, row, 0], out);
    });
}

/// `out[column][row] = weights[row] . x[column]`, up to eight columns at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn matmul<B: Block<A>, A: Activations>(weights: Weights<'_>, x: A, out: &mut [f32]) {
    let blocks = x.check() / A::LEN;
    let n = x.columns();
    let rows = weights.check(B::BYTES, blocks, n, out);
    for_each_pair(weights, rows, blocks * GROUP * B::BYTES, |pair, row| {
        let mut first = 0;
        while first < n {
            let shape = [blocks, rows, row, first];
            first += match (n - first).min(B::COLUMNS_MAX) {
                1 => {
                    columns::<B, A, 1>(pair, x, shape, out);
                    1
                }
                2 | 3 => {
                    columns::<B, A, 2>(pair, x, shape, out);
                    2
                }
                4..=7 => {
                    columns::<B, A, 4>(pair, x, shape, out);
                    4
                }
                _ => {
                    columns::<B, A, 8>(pair, x, shape, out);
                    8
                }
            };
        }
    });
}
