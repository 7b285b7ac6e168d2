//! Causal grouped-query attention over a [`KvCache`].
//!
//! ```text
//! for up to QUERIES_MAX columns at a time
//!   for each KV head
//!     for each page            K page -> f32, once for all queries
//!       scores[query] = K q                        (columns * n_rep, T)
//!     softmax over each query's own positions
//!     for each page            V page -> f32, once for all queries
//!       out[query] += probabilities . V            in order of position
//! ```
//!
//! The scores' scale, 1 / sqrt(head_dim), is multiplied into q beforehand.

use super::kv_cache::{KvCache, PAGE_LEN, Side};
use super::memory;
use crate::error::Result;
use crate::kernels::{KEY_GROUP, Kernels};

/// Columns whose scores are held at once.
const QUERIES_MAX: usize = 8;

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
    /// (QUERIES_MAX * n_rep, len_max), rows filled up to whole groups of keys
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
        let scores = memory::product(
            &[QUERIES_MAX, n_rep, len_max.next_multiple_of(KEY_GROUP)],
            "attention scores",
        )?;
        Ok(Self {
            shape,
            scale: 1.0 / (shape.head_dim as f32).sqrt(),
            tile: memory::zeroed(tile, "an attention tile")?,
            scores: memory::zeroed(scores, "attention scores")?,
        })
    }

    /// Bytes of the buffers.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        4 * (self.tile.len() + self.scores.len())
    }

    /// Attention of `q` (C, n_head * head_dim), rotated, whose columns are the
    /// positions `first..first + C`; keys and values of all of them are in
    /// `cache`. `q` is scaled in place. `out` has the shape of `q`.
    pub fn forward(
        &mut self,
        kernels: &Kernels,
        cache: &KvCache,
        layer: usize,
        first: usize,
        q: &mut [f32],
        out: &mut [f32],
    ) {
        assert_eq!(q.len(), out.len());
        for q in q.iter_mut() {
            *q *= self.scale;
        }
        let width = self.shape.n_head * self.shape.head_dim;
        let group = QUERIES_MAX * width;
        for (index, (q, out)) in q.chunks(group).zip(out.chunks_mut(group)).enumerate() {
            for head_kv in 0..self.shape.n_head_kv {
                let columns =
                    first + index * QUERIES_MAX..first + index * QUERIES_MAX + q.len() / width;
                self.group(kernels, cache, layer, head_kv, columns, q, out);
            }
        }
    }

    /// One KV head and the columns at `positions`: `q` and `out` are
    /// (positions.len(), n_head * head_dim), of which the heads of this group
    /// are read and written.
    #[expect(clippy::too_many_arguments, reason = "the loop indices of `forward`")]
    fn group(
        &mut self,
        kernels: &Kernels,
        cache: &KvCache,
        layer: usize,
        head_kv: usize,
        positions: std::ops::Range<usize>,
        q: &[f32],
        out: &mut [f32],
    ) {
        let Shape {
            n_head,
            n_head_kv,
            head_dim,
        } = self.shape;
        let n_rep = n_head / n_head_kv;
        let total = positions.end;
        let row_len = self.scores.len() / (QUERIES_MAX * n_rep);
        // Where the query heads of a column lie in q and out, and their rows of scores.
        let heads = |column: usize| {
            let at = (column * n_head + head_kv * n_rep) * head_dim;
            at..at + n_rep * head_dim
        };
        let rows = |column: usize| column * n_rep * row_len;
        let columns = || positions.clone().map(|position| position + 1).enumerate();
        let pages = || (0..total).step_by(PAGE_LEN).enumerate();

        for (page, start) in pages() {
            let len = PAGE_LEN.min(total - start).next_multiple_of(KEY_GROUP);
            let tile = &mut self.tile[..len * head_dim];
            cache.load(kernels, layer, Side::Key, head_kv, page, tile);
            for (column, visible) in columns() {
                // Scores of a group's later positions are not looked at.
                let n = visible.saturating_sub(start).next_multiple_of(KEY_GROUP);
                if n > 0 {
                    (kernels.attention_scores)(
                        &tile[..n.min(len) * head_dim],
                        &q[heads(column)],
                        &mut self.scores[rows(column) + start..],
                        row_len,
                        head_dim,
                    );
                }
            }
        }
        for (column, visible) in columns() {
            for row in self.scores[rows(column)..].chunks_mut(row_len).take(n_rep) {
                (kernels.softmax)(&mut row[..visible]);
            }
            out[heads(column)].fill(0.0);
        }
        for (page, start) in pages() {
            let tile = &mut self.tile[..PAGE_LEN.min(total - start) * head_dim];
            cache.load(kernels, layer, Side::Value, head_kv, page, tile);
            for (column, visible) in columns() {
                let n = visible.saturating_sub(start).min(PAGE_LEN);
                if n > 0 {
                    (kernels.attention_values)(
                        &tile[..n * head_dim],
                        &self.scores[rows(column) + start..],
                        row_len,
                        head_dim,
                        &mut out[heads(column)],
                    );
                }
            }
        }
    }
}
