//! The loops over groups, columns and blocks that all woven types share.
//!
//! One vector holds the same four columns of four rows, so half a group ends
//! in four lanes, one for each row, and lane `i` adds its row's blocks in
//! order. With relaxed SIMD one column takes both halves of a group together, so
//! that an activation is loaded once for eight rows; several columns take one
//! half at a time, so that all sums stay in registers.

use core::arch::wasm32::*;

use super::four::{Prepared, RUN_LEN};
use super::reduce::to_array;
use crate::activations::Activations;
use crate::layout::{GROUP, Weights};

/// Columns that share one pass over the weights. Split activations take twice the registers.
const COLUMNS: usize = if cfg!(target_feature = "relaxed-simd") {
    4
} else {
    2
};
/// Vectors of rows that one column takes together.
const HALVES: usize = if cfg!(target_feature = "relaxed-simd") {
    2
} else {
    1
};
/// Rows in a vector.
const LANES: usize = 4;

/// A type of weights against one type of activations.
pub(super) trait Block<A: Activations> {
    /// Bytes in a block of one row.
    const BYTES: usize;

    /// Adds to `y` what one block adds to H vectors of four rows, from vector `first` of a group's
    /// two on: C columns, of which the block begins at value `at` of `x`.
    ///
    /// # Safety
    /// `8 * BYTES` bytes can be read at `w`, `A::LEN` values from `at` on in each column of `x`,
    /// and what `sums` points to; `first + H` is at most 2.
    unsafe fn add<const C: usize, const H: usize>(
        w: *const u8,
        first: usize,
        x: &Prepared<'_, C>,
        at: usize,
        sums: [A::Sums; C],
        scales: [f32; C],
        y: &mut [[v128; H]; C],
    );
}

/// Four IEEE halves, all finite, as floats.
///
/// # Safety
/// 8 bytes can be read at `at`.
#[inline]
pub(super) unsafe fn halves(at: *const u8) -> v128 {
    // SAFETY: the caller's promise; any alignment will do.
    let halves = unsafe { i32x4_load_extend_i16x4(at.cast()) };
    // The bits of a half, moved to the place of a float's, make a number 2^112 times too small.
    let bits = v128_and(i32x4_shl(halves, 13), u32x4_splat(0x8fff_e000));
    f32x4_mul(bits, f32x4_splat(f32::from_bits((127 + 112) << 23)))
}

/// Columns `column..column + C` and values `run..run + len` of a product of `rows` rows: adds to
/// `out` (columns, rows).
#[inline]
fn run<B: Block<A>, A: Activations, const C: usize, const H: usize>(
    weights: Weights<'_>,
    x: A,
    prepared: &Prepared<'_, C>,
    [column, run, run_len]: [usize; 3],
    [blocks, rows]: [usize; 2],
    out: &mut [f32],
) {
    let group_bytes = blocks * GROUP * B::BYTES;
    for group in 0..rows.div_ceil(GROUP) {
        let bytes = weights.group(group, group_bytes).as_ptr();
        for first in (0..GROUP / LANES).step_by(H) {
            let row = group * GROUP + first * LANES;
            let mut y = [[f32x4_splat(0.0); H]; C];
            if run > 0 {
                for (c, y) in y.iter_mut().enumerate() {
                    for (h, y) in y.iter_mut().enumerate() {
                        *y = load(out, rows, column + c, row + LANES * h);
                    }
                }
            }
            for block in run / A::LEN..(run + run_len) / A::LEN {
                // SAFETY: `check` found `blocks` blocks in every group and every vector.
                unsafe {
                    let mut sums = [x.sums(column, block); C];
                    let mut scales = [x.scale(column, block); C];
                    for c in 1..C {
                        sums[c] = x.sums(column + c, block);
                        scales[c] = x.scale(column + c, block);
                    }
                    let w = bytes.add(block * GROUP * B::BYTES);
                    B::add(
                        w,
                        first,
                        prepared,
                        block * A::LEN - run,
                        sums,
                        scales,
                        &mut y,
                    );
                }
            }
            for (c, y) in y.into_iter().enumerate() {
                for (h, y) in y.into_iter().enumerate() {
                    store(out, rows, column + c, row + LANES * h, y);
                }
            }
        }
    }
}

/// Rows `row..row + 4` of a column of `out` (columns, rows), as far as there are so many. Like
/// [`store`] no part of the many loops that call it: once for each vector of rows is not often.
#[inline(never)]
fn load(out: &[f32], rows: usize, column: usize, row: usize) -> v128 {
    let mut lanes = [0.0; LANES];
    for (lane, y) in lanes
        .iter_mut()
        .zip(&out[column * rows + row.min(rows)..(column + 1) * rows])
    {
        *lane = *y;
    }
    // SAFETY: `lanes` has four floats.
    unsafe { v128_load(lanes.as_ptr().cast()) }
}

#[inline(never)]
fn store(out: &mut [f32], rows: usize, column: usize, row: usize, y: v128) {
    let out = &mut out[column * rows + row.min(rows)..(column + 1) * rows];
    if let Some(out) = out.first_chunk_mut::<LANES>() {
        // SAFETY: `out` is four floats, and any alignment will do.
        unsafe { v128_store(out.as_mut_ptr().cast(), y) };
    } else {
        for (out, lane) in out.iter_mut().zip(to_array(y)) {
            *out = lane;
        }
    }
}

/// C columns from `column` on.
fn columns<B: Block<A>, A: Activations, const C: usize, const H: usize>(
    weights: Weights<'_>,
    x: A,
    column: usize,
    [len, rows]: [usize; 2],
    out: &mut [f32],
) {
    let mut prepared = Prepared::<C>::new();
    let run_max = RUN_LEN.map_or(len, |run| run.min(len));
    for start in (0..len).step_by(run_max) {
        let run_len = run_max.min(len - start);
        for c in 0..C {
            prepared.fill(c, &x.quants()[(column + c) * len + start..][..run_len]);
        }
        let shape = [len / A::LEN, rows];
        run::<B, A, C, H>(weights, x, &prepared, [column, start, run_len], shape, out);
    }
}

/// `out[row] = weights[row] . x`, one vector.
pub(super) fn matvec<B: Block<A>, A: Activations>(weights: Weights<'_>, x: A, out: &mut [f32]) {
    let len = x.check();
    assert_eq!(x.columns(), 1, "matvec takes one vector");
    let rows = weights.check(B::BYTES, len / A::LEN, 1, out);
    columns::<B, A, 1, HALVES>(weights, x, 0, [len, rows], out);
}

/// `out[column][row] = weights[row] . x[column]`, four columns at a time.
pub(super) fn matmul<B: Block<A>, A: Activations>(weights: Weights<'_>, x: A, out: &mut [f32]) {
    let len = x.check();
    let n = x.columns();
    let rows = weights.check(B::BYTES, len / A::LEN, n, out);
    let mut column = 0;
    while n - column >= COLUMNS {
        columns::<B, A, COLUMNS, 1>(weights, x, column, [len, rows], out);
        column += COLUMNS;
    }
    while column < n {
        columns::<B, A, 1, HALVES>(weights, x, column, [len, rows], out);
        column += 1;
    }
}

/// The most blocks of a row that are unpacked at once: 6 kB of the stack.
#[cfg(all(target_feature = "relaxed-simd", feature = "unpack"))]
const UNPACKED_MAX: usize = 48;

/// A type whose weights are worth unpacking once for all columns.
#[cfg(all(target_feature = "relaxed-simd", feature = "unpack"))]
pub(super) trait Unpack<A: Activations>: Block<A> {
    /// The weights of a block of four rows, ready for products.
    type Weights: Copy;
    /// Before anything was unpacked.
    const EMPTY: Self::Weights;

    /// Those of vector `first` of a group's two.
    ///
    /// # Safety
    /// `8 * BYTES` bytes can be read at `w`; `first` is at most 1.
    unsafe fn unpack(w: *const u8, first: usize) -> Self::Weights;

    /// [`Block::add`] with weights that [`Self::unpack`] gave: the same sums in the same order.
    ///
    /// # Safety
    /// See there.
    #[expect(
        clippy::too_many_arguments,
        reason = "those of `Block::add`, and the weights"
    )]
    unsafe fn add_unpacked<const C: usize>(
        weights: &Self::Weights,
        w: *const u8,
        first: usize,
        x: &Prepared<'_, C>,
        at: usize,
        sums: [A::Sums; C],
        scales: [f32; C],
        y: &mut [[v128; 1]; C],
    );
}

/// [`matmul`], for many columns: four rows are unpacked, and meet all columns.
#[cfg(all(target_feature = "relaxed-simd", feature = "unpack"))]
pub(super) fn matmul_unpacked<B: Unpack<A>, A: Activations>(
    weights: Weights<'_>,
    x: A,
    out: &mut [f32],
) {
    let len = x.check();
    let n = x.columns();
    let blocks = len / A::LEN;
    if n < 2 * COLUMNS || blocks > UNPACKED_MAX {
        return matmul::<B, A>(weights, x, out);
    }
    let rows = weights.check(B::BYTES, blocks, n, out);
    let group_bytes = blocks * GROUP * B::BYTES;
    let mut unpacked = [B::EMPTY; UNPACKED_MAX];
    let unpacked = &mut unpacked[..blocks];
    for group in 0..rows.div_ceil(GROUP) {
        let bytes = weights.group(group, group_bytes).as_ptr();
        for first in 0..GROUP / LANES {
            for (block, unpacked) in unpacked.iter_mut().enumerate() {
                // SAFETY: `check` found `blocks` blocks in every group.
                *unpacked = unsafe { B::unpack(bytes.add(block * GROUP * B::BYTES), first) };
            }
            let place = Place {
                bytes,
                first,
                row: group * GROUP + first * LANES,
                rows,
            };
            let mut column = 0;
            while n - column >= COLUMNS {
                place.meet::<B, A, COLUMNS>(unpacked, x, column, len, out);
                column += COLUMNS;
            }
            while column < n {
                place.meet::<B, A, 1>(unpacked, x, column, len, out);
                column += 1;
            }
        }
    }
}

/// Four rows of a product.
#[cfg(all(target_feature = "relaxed-simd", feature = "unpack"))]
struct Place {
    /// Their group.
    bytes: *const u8,
    /// Which vector of it they are.
    first: usize,
    row: usize,
    rows: usize,
}

#[cfg(all(target_feature = "relaxed-simd", feature = "unpack"))]
impl Place {
    /// C columns from `column` on.
    #[inline]
    fn meet<B: Unpack<A>, A: Activations, const C: usize>(
        &self,
        unpacked: &[B::Weights],
        x: A,
        column: usize,
        len: usize,
        out: &mut [f32],
    ) {
        let mut prepared = Prepared::<C>::new();
        for c in 0..C {
            prepared.fill(c, &x.quants()[(column + c) * len..][..len]);
        }
        let mut y = [[f32x4_splat(0.0)]; C];
        for (block, weights) in unpacked.iter().enumerate() {
            // SAFETY: `check` found so many blocks in every group and every vector.
            unsafe {
                let sums = core::array::from_fn(|c| x.sums(column + c, block));
                let scales = core::array::from_fn(|c| x.scale(column + c, block));
                let w = self.bytes.add(block * GROUP * B::BYTES);
                let at = block * A::LEN;
                B::add_unpacked(weights, w, self.first, &prepared, at, sums, scales, &mut y);
            }
        }
        for (c, [y]) in y.into_iter().enumerate() {
            store(out, self.rows, column + c, self.row, y);
        }
    }
}

/// [`matmul`], where unpacking once for all columns is left out.
#[cfg(not(all(target_feature = "relaxed-simd", feature = "unpack")))]
pub(super) fn matmul_unpacked<B: Block<A>, A: Activations>(
    weights: Weights<'_>,
    x: A,
    out: &mut [f32],
) {
    matmul::<B, A>(weights, x, out);
}
