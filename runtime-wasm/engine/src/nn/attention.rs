//! Causal grouped-query attention over a [`KvCache`].
//!
//! ```text
//! for as many columns at a time as there is room for scores
//!   for each KV head           its queries together                (columns, n_rep, head_dim)
//!     for each page            K page -> f32, once for all queries
//!       scores[query] = K q                                        (columns, n_rep, T)
//!     softmax over each query's own positions
//!     for each page            V page -> f32, once for all queries
//!       out[query] += probabilities . V                            in order of position
//! ```
//!
//! The scores' scale, 1 / sqrt(head_dim), is multiplied into q beforehand.

use std::ops::Range;

use super::kv_cache::{KvCache, PAGE_LEN, Side};
use super::{COLUMNS_MAX, memory};
use crate::error::Result;
use crate::kernels::{KEY_GROUP, Kernels};

/// Columns for whose scores there is room at the end of the context; before it, for more.
const QUERIES_MIN: usize = 8;

/// Heads and their sizes.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Query heads, a multiple of `n_head_kv`.
    pub n_head: usize,
    /// Key and value heads; each serves `n_head / n_head_kv` query heads.
    pub n_head_kv: usize,
    /// Elements in a head.
    pub head_dim: usize,
}

/// Attention and the room it works in.
#[derive(Debug)]
pub struct Attention {
    shape: Shape,
    /// 1 / sqrt(head_dim)
    scale: f32,
    /// Keys or values of one page of one head, as the cache has them: (PAGE_LEN, head_dim)
    tile: Vec<f32>,
    /// The queries of one KV head, then what they attend to: (columns, n_rep, head_dim)
    heads: Vec<f32>,
    /// (columns, n_rep, T), rows filled up to whole groups of keys
    scores: Vec<f32>,
}

impl Attention {
    /// Room for attention over at most `len_max` positions.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn new(shape: Shape, len_max: usize) -> Result<Self> {
        let tile = memory::product(&[PAGE_LEN, shape.head_dim], "an attention tile")?;
        let n_rep = shape.n_head / shape.n_head_kv;
        let heads = [COLUMNS_MAX.min(len_max), n_rep, shape.head_dim];
        let heads = memory::product(&heads, "attention heads")?;
        let scores = memory::product(
            &[QUERIES_MIN, n_rep, len_max.next_multiple_of(KEY_GROUP)],
            "attention scores",
        )?;
        Ok(Self {
            shape,
            scale: 1.0 / (shape.head_dim as f32).sqrt(),
            tile: memory::zeroed(tile, "an attention tile")?,
            heads: memory::zeroed(heads, "attention heads")?,
            scores: memory::zeroed(scores, "attention scores")?,
        })
    }

    /// Bytes of the buffers.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        4 * (self.tile.len() + self.heads.len() + self.scores.len())
    }

    /// Attention of `q` (C, n_head * head_dim), rotated, whose columns are the
    /// positions `first..first + C`; keys and values of all of them are in
    /// `cache`. `out` has the shape of `q`.
    pub fn forward(
        &mut self,
        kernels: &Kernels,
        cache: &KvCache,
        layer: usize,
        first: usize,
        q: &[f32],
        out: &mut [f32],
    ) {
        assert_eq!(q.len(), out.len());
        let Shape {
            n_head,
            n_head_kv,
            head_dim,
        } = self.shape;
        let (width, n_rep) = (n_head * head_dim, n_head / n_head_kv);
        let row_len = (first + q.len() / width).next_multiple_of(KEY_GROUP);
        let room = self.scores.len() / (n_rep * row_len);
        let room = room.min(self.heads.len() / (n_rep * head_dim));
        let columns = q.chunks(room * width).zip(out.chunks_mut(room * width));
        for (index, (q, out)) in columns.enumerate() {
            let start = first + index * room;
            let positions = start..start + q.len() / width;
            for head_kv in 0..n_head_kv {
                let at = head_kv * n_rep * head_dim..(head_kv + 1) * n_rep * head_dim;
                let heads = self.heads.chunks_exact_mut(n_rep * head_dim);
                for (heads, q) in heads.zip(q.chunks_exact(width)) {
                    for (head, q) in heads.iter_mut().zip(&q[at.clone()]) {
                        *head = q * self.scale;
                    }
                }
                self.group(kernels, cache, layer, head_kv, positions.clone(), row_len);
                let heads = self.heads.chunks_exact(n_rep * head_dim);
                for (heads, out) in heads.zip(out.chunks_exact_mut(width)) {
                    out[at.clone()].copy_from_slice(heads);
                }
            }
        }
    }

    /// One KV head and the columns at `positions`, whose queries are in `heads` and become what they
    /// attend to; their scores take rows of `row_len`.
    fn group(
        &mut self,
        kernels: &Kernels,
        cache: &KvCache,
        layer: usize,
        head_kv: usize,
        positions: Range<usize>,
        row_len: usize,
    ) {
        let head_dim = self.shape.head_dim;
        let n_rep = self.shape.n_head / self.shape.n_head_kv;
        let (first, total) = (positions.start, positions.end);
        // Where the heads and the scores of a run of columns lie.
        let heads = |run: &Range<usize>| run.start * n_rep * head_dim..run.end * n_rep * head_dim;
        let rows = |run: &Range<usize>| run.start * n_rep * row_len..run.end * n_rep * row_len;
        let pages = || (0..total).step_by(PAGE_LEN).enumerate();

        for (page, start) in pages() {
            let len = PAGE_LEN.min(total - start).next_multiple_of(KEY_GROUP);
            let tile = &mut self.tile[..len * head_dim];
            cache.load(kernels, layer, Side::Key, head_kv, page, tile);
            // Scores of a group's later positions are not looked at.
            let seen = |column: usize| {
                let seen = (first + column + 1).saturating_sub(start);
                seen.next_multiple_of(KEY_GROUP).min(len)
            };
            for_each_run(positions.len(), seen, |run, n| {
                (kernels.attention_scores)(
                    &tile[..n * head_dim],
                    &self.heads[heads(&run)],
                    &mut self.scores[rows(&run)][start..],
                    row_len,
                    head_dim,
                );
            });
        }
        let rows_of_columns = self.scores.chunks_exact_mut(n_rep * row_len);
        for (rows, visible) in rows_of_columns.zip(first + 1..=total) {
            for row in rows.chunks_exact_mut(row_len) {
                (kernels.softmax)(&mut row[..visible]);
            }
        }
        self.heads[heads(&(0..positions.len()))].fill(0.0);
        for (page, start) in pages() {
            let len = PAGE_LEN.min(total - start);
            let tile = &mut self.tile[..len * head_dim];
            cache.load(kernels, layer, Side::Value, head_kv, page, tile);
            let seen = |column: usize| (first + column + 1).saturating_sub(start).min(len);
            for_each_run(positions.len(), seen, |run, n| {
                (kernels.attention_values)(
                    &tile[..n * head_dim],
                    &self.scores[rows(&run)][start..],
                    row_len,
                    head_dim,
                    &mut self.heads[heads(&run)],
                );
            });
        }
    }
}

/// Calls `f` with each run of the columns `0..columns` that see the same number of positions, and
/// that number; those that see none are left out.
fn for_each_run(
    columns: usize,
    seen: impl Fn(usize) -> usize,
    mut f: impl FnMut(Range<usize>, usize),
) {
    let mut start = 0;
    while start < columns {
        let n = seen(start);
        let same = (start..columns).take_while(|&column| seen(column) == n);
        let end = start + same.count();
        if n > 0 {
            f(start..end, n);
        }
        start = end;
    }
}
