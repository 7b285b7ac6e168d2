//! How quantised weights lie in memory: eight rows woven together.
//!
//! A file stores row after row. Here [`GROUP`] rows share a run of bytes, so
//! that one vector load brings the same columns of several rows, and a product
//! needs no sum across lanes. Every field of a block is cut into chunks of four
//! bytes (scales: two), and chunk `c` of all eight rows comes before chunk
//! `c + 1`:
//!
//! ```text
//! in a file       row 0: d m a b c q0 q1 ..    row 1: d m a b c q0 q1 ..    ...
//! in a group      d d d d d d d d   m x 8   a x 8   b x 8   c x 8   q0 x 8   q1 x 8 ...
//! ```
//!
//! A group's blocks follow one another, so a product walks straight through.
//! Nothing grows: weaving happens in place, group by group. Rows beyond the
//! last full group (none, in usual models) are copied into one group of their
//! own, filled up with zeros.
//!
//! One field changes inside: the fifth bits of Q5_0 and Q5_1. Weight
//! `16 h + 4 t + b` (h, t, b: 1, 2, 2 bits) has its bit moved from place
//! `h t b` to place `b t h`, so that byte `b` of a chunk holds the bits of the
//! weights that meet in byte `b` of the nibbles.

use core::fmt;
use core::ops::Range;

use meetara_format::GgmlType;

/// Rows woven together.
pub const GROUP: usize = 8;
/// Bytes of the largest block (Q6_K).
pub const BLOCK_BYTES_MAX: usize = 210;

/// Weights of one matrix, woven.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// The full groups: (rows / 8, blocks, 8 * block bytes).
    pub groups: &'a [u8],
    /// The rows that are left, filled up to a group; empty when there are none.
    pub tail: &'a [u8],
}

/// A block's scale that is no finite number: the file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFinite {
    /// The row.
    pub row: usize,
    /// The block in it.
    pub block: usize,
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { row, block } = self;
        write!(
            f,
            "the scale of block {block} of row {row} is not a finite number"
        )
    }
}

/// What a run of bytes of a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// A half-precision scale or minimum: two bytes.
    Half,
    /// So many chunks of four bytes.
    Chunks(usize),
    /// The 32 fifth bits of a block: four bytes.
    FifthBits,
}

impl Field {
    const fn bytes(self) -> usize {
        match self {
            Self::Half => 2,
            Self::Chunks(n) => 4 * n,
            Self::FifthBits => 4,
        }
    }
}

/// The fields of a block, in file order; none for types that are not woven.
#[inline]
fn fields(ty: GgmlType) -> &'static [Field] {
    use Field::{Chunks, FifthBits, Half};
    match ty {
        GgmlType::Q4_0 => &[Half, Chunks(4)],
        GgmlType::Q4_1 => &[Half, Half, Chunks(4)],
        GgmlType::Q5_0 => &[Half, FifthBits, Chunks(4)],
        GgmlType::Q5_1 => &[Half, Half, FifthBits, Chunks(4)],
        GgmlType::Q8_0 => &[Half, Chunks(8)],
        GgmlType::Q4_K => &[Half, Half, Chunks(3 + 32)],
        GgmlType::Q5_K => &[Half, Half, Chunks(3 + 8 + 32)],
        GgmlType::Q6_K => &[Chunks(32 + 16 + 4), Half],
        _ => &[],
    }
}

/// Whether weights of this type are woven before a product takes them.
#[must_use]
pub fn is_woven(ty: GgmlType) -> bool {
    !fields(ty).is_empty()
}

/// Exchanges index bits: bit `i` of the result's index is where bit `j` was.
fn swap_index_bits(x: u32, mask: u32, shift: u32) -> u32 {
    let t = (x ^ x >> shift) & mask;
    x ^ t ^ t << shift
}

/// Index bits 1 and 4, 0 and 3, 0 and 2, 0 and 1: masks of the places that move up, and how far.
const SWAPS: [(u32, u32); 4] = [
    (0x0000_cccc, 14),
    (0x00aa_00aa, 7),
    (0x0a0a_0a0a, 3),
    (0x2222_2222, 1),
];

fn weave_fifth_bits(bits: u32) -> u32 {
    SWAPS
        .iter()
        .fold(bits, |x, &(mask, shift)| swap_index_bits(x, mask, shift))
}

fn unweave_fifth_bits(bits: u32) -> u32 {
    SWAPS
        .iter()
        .rev()
        .fold(bits, |x, &(mask, shift)| swap_index_bits(x, mask, shift))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Copies the block that begins at byte `at` of each of `rows` into the group's block `woven`.
/// Returns the first row with a scale that is not finite.
///
/// Fields are the outer loop and sixteen bytes the step of the inner one, because in browsers this
/// runs once, over all weights, before its code has been compiled for speed.
fn weave_block<'a>(
    ty: GgmlType,
    rows: impl Iterator<Item = &'a [u8]> + Clone,
    at: usize,
    woven: &mut [u8],
) -> Option<usize> {
    let mut infinite = None;
    let mut from = 0;
    for &field in fields(ty) {
        let bytes = field.bytes();
        let woven = &mut woven[from * GROUP..][..bytes * GROUP];
        for (row, source) in rows.clone().enumerate() {
            let source = &source[at + from..][..bytes];
            match field {
                Field::Half => {
                    if source[1] & 0x7c == 0x7c {
                        infinite = infinite.or(Some(row));
                    }
                    woven[2 * row..][..2].copy_from_slice(source);
                }
                Field::Chunks(_) => spread(source, row, woven),
                Field::FifthBits => {
                    let bits = weave_fifth_bits(u32_at(source, 0));
                    woven[4 * row..][..4].copy_from_slice(&bits.to_le_bytes());
                }
            }
        }
        from += bytes;
    }
    infinite
}

/// Copies chunks of four bytes to the places of row `row`, 32 bytes apart.
fn spread(source: &[u8], row: usize, woven: &mut [u8]) {
    const STEP: usize = 16;
    // Always so; the compiler need not check each place then.
    let at = 4 * (row % GROUP);
    let (steps, rest) = source.as_chunks::<STEP>();
    let (groups, woven_rest) = woven.as_chunks_mut::<{ STEP * GROUP }>();
    for (step, group) in steps.iter().zip(groups) {
        for (i, chunk) in step.as_chunks::<4>().0.iter().enumerate() {
            group[4 * GROUP * i + at..][..4].copy_from_slice(chunk);
        }
    }
    let woven = woven_rest.chunks_exact_mut(4 * GROUP);
    for (chunk, group) in rest.chunks_exact(4).zip(woven) {
        group[at..at + 4].copy_from_slice(chunk);
    }
}

/// Copies row `row` of the group's block `woven` as a file holds it: the inverse of weaving.
/// Where the type is a constant, all that is left of it is a copy for each chunk.
#[inline]
pub fn unweave_block(ty: GgmlType, woven: &[u8], row: usize, block: &mut [u8]) {
    let mut to = 0;
    for &field in fields(ty) {
        let from = to * GROUP;
        match field {
            Field::Half => block[to..][..2].copy_from_slice(&woven[from + 2 * row..][..2]),
            Field::Chunks(n) => {
                let chunks = block[to..][..4 * n].as_chunks_mut::<4>().0;
                let groups = woven[from..][..4 * n * GROUP]
                    .as_chunks::<{ 4 * GROUP }>()
                    .0;
                for (chunk, group) in chunks.iter_mut().zip(groups) {
                    chunk.copy_from_slice(&group[4 * row..][..4]);
                }
            }
            Field::FifthBits => {
                let bits = unweave_fifth_bits(u32_at(woven, from + 4 * row));
                block[to..][..4].copy_from_slice(&bits.to_le_bytes());
            }
        }
        to += field.bytes();
    }
}

/// Weaves `rows` (rows, row_bytes) in place; returns the last group where the
/// number of rows is no multiple of [`GROUP`], else nothing. What the rows of
/// that group held in `rows` stays as it was.
///
/// # Errors
/// [`NotFinite`] names the first block with such a scale; `rows` is then part
/// woven and of no use.
pub fn weave(ty: GgmlType, rows: &mut [u8], row_bytes: usize) -> Result<Vec<u8>, NotFinite> {
    let bytes = ty.block_bytes();
    assert!(row_bytes > 0 && row_bytes.is_multiple_of(bytes) && bytes <= BLOCK_BYTES_MAX);
    assert!(rows.len().is_multiple_of(row_bytes));
    let n_rows = rows.len() / row_bytes;
    let mut scratch = vec![0; GROUP * row_bytes];
    for (index, group) in rows.chunks_mut(GROUP * row_bytes).enumerate() {
        scratch[..group.len()].copy_from_slice(group);
        let full = group.len() == scratch.len();
        let mut tail = if full {
            Vec::new()
        } else {
            vec![0; GROUP * row_bytes]
        };
        let woven = if full { group } else { &mut tail[..] };
        let source = scratch.chunks_exact(row_bytes).take(n_rows - index * GROUP);
        for (block, woven) in woven.chunks_exact_mut(GROUP * bytes).enumerate() {
            if let Some(row) = weave_block(ty, source.clone(), block * bytes, woven) {
                let row = index * GROUP + row;
                return Err(NotFinite { row, block });
            }
        }
        if !full {
            return Ok(tail);
        }
    }
    Ok(Vec::new())
}

impl<'a> Weights<'a> {
    /// Asserts the shapes of a product: blocks of `block_bytes`, `blocks` to a
    /// row, `out` (columns, rows). Returns the number of rows.
    #[inline(never)]
    pub(crate) fn check(
        &self,
        block_bytes: usize,
        blocks: usize,
        columns: usize,
        out: &[f32],
    ) -> usize {
        let group_bytes = GROUP * block_bytes * blocks;
        assert!(columns > 0 && out.len().is_multiple_of(columns));
        let rows = out.len() / columns;
        assert_eq!(
            self.groups.len(),
            rows / GROUP * group_bytes,
            "weights end inside a group"
        );
        let tail_bytes = if rows.is_multiple_of(GROUP) {
            0
        } else {
            group_bytes
        };
        assert_eq!(self.tail.len(), tail_bytes, "a last group of another size");
        rows
    }

    /// Those of `rows`, which begin with a group and end with one, or with the last row of all; a row
    /// takes `row_bytes`.
    #[must_use]
    pub fn part(&self, rows: Range<usize>, row_bytes: usize) -> Weights<'a> {
        let group_bytes = GROUP * row_bytes;
        let (first, last) = (rows.start / GROUP, rows.end / GROUP);
        let ends_inside = !rows.end.is_multiple_of(GROUP);
        Weights {
            groups: &self.groups[first * group_bytes..last * group_bytes],
            tail: if ends_inside { self.tail } else { &[] },
        }
    }

    /// Group `index` of groups of `group_bytes`: where row `8 * index` and the seven after it lie.
    #[inline]
    pub fn group(&self, index: usize, group_bytes: usize) -> &'a [u8] {
        match self
            .groups
            .get(index * group_bytes..(index + 1) * group_bytes)
        {
            Some(group) => group,
            None => self.tail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifth_bits_move_to_the_byte_of_their_weight() {
        for (h, t, b) in (0..32).map(|i| (i >> 4, i >> 2 & 3, i & 3)) {
            let (file, woven) = (1 << (16 * h + 4 * t + b), 1 << (8 * b + 2 * t + h));
            assert_eq!(weave_fifth_bits(file), woven, "{h} {t} {b}");
            assert_eq!(unweave_fifth_bits(woven), file, "{h} {t} {b}");
        }
    }

    #[test]
    fn what_was_woven_can_be_had_back() {
        for ty in GgmlType::ALL.into_iter().filter(|&ty| is_woven(ty)) {
            let bytes = ty.block_bytes();
            let fields: usize = fields(ty).iter().map(|field| field.bytes()).sum();
            assert_eq!(fields, bytes, "{ty}");
            for (n_rows, blocks) in [(8, 1), (21, 3), (5, 2)] {
                let row_bytes = blocks * bytes;
                // No byte reaches 0x7c, so that every scale is finite.
                let rows: Vec<u8> = (0..n_rows * row_bytes)
                    .map(|i| (i * 37 % 113) as u8)
                    .collect();
                let mut woven = rows.clone();
                let tail = weave(ty, &mut woven, row_bytes).unwrap();
                let full = n_rows / GROUP * GROUP * row_bytes;
                let weights = Weights {
                    groups: &woven[..full],
                    tail: &tail,
                };
                for row in 0..n_rows {
                    let group = weights.group(row / GROUP, GROUP * row_bytes);
                    let mut found = vec![0; row_bytes];
                    for (woven, block) in group
                        .chunks_exact(GROUP * bytes)
                        .zip(found.chunks_exact_mut(bytes))
                    {
                        unweave_block(ty, woven, row % GROUP, block);
                    }
                    assert_eq!(
                        found,
                        rows[row * row_bytes..][..row_bytes],
                        "{ty} row {row}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_endless_scale_is_named() {
        let mut rows = vec![0; 9 * 2 * 18];
        rows[8 * 36 + 18 + 1] = 0x7c;
        assert_eq!(
            weave(GgmlType::Q4_0, &mut rows, 36),
            Err(NotFinite { row: 8, block: 1 })
        );
    }
}
