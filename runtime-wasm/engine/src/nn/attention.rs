//! Causal grouped-query attention over a [`KvCache`].
//!
//! ```text
//! for up to QUERIES_MAX columns at a time
//!   for each KV head
//!     for each page            K page -> f32, once for all queries
//!       scores[query] = K q                        (n_rep * columns, T)
//!     softmax over each query's own positions
//!     for each page            V page -> f32, once for all queries
//!       out[query] += probabilities . V            in order of position
//! ```
//!
//! The scores' scale, 1 / sqrt(head_dim), is multiplied into q beforehand.

use super::kv_cache::{KvCache, PAGE_LEN, Side};
use super::memory;
use crate::error::Result;
use crate::kernels::Kernels;

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
    /// One page of one head: (PAGE_LEN, head_dim)
    tile: Vec<f32>,
    /// (QUERIES_MAX * n_rep, len_max)
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
        let scores = memory::product(&[QUERIES_MAX, n_rep, len_max], "attention scores")?;
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
        // Where query head `rep` of the column with this index lies in q and out.
        let vector = |column: usize, rep: usize| {
            let at = (column * n_head + head_kv * n_rep + rep) * head_dim;
            at..at + head_dim
        };
        let pages = || {
            (0..total)
                .step_by(PAGE_LEN)
                .map(|start| start..total.min(start + PAGE_LEN))
        };
        let queries = || {
            positions
                .clone()
                .enumerate()
                .flat_map(|(column, position)| {
                    (0..n_rep).map(move |rep| (column, rep, position + 1))
                })
        };

        for page in pages() {
            let tile = &mut self.tile[..page.len() * head_dim];
            cache.load(kernels, layer, Side::Key, head_kv, page.start, tile);
            for (column, rep, visible) in queries() {
                let n = visible.saturating_sub(page.start).min(page.len());
                let at = (column * n_rep + rep) * row_len + page.start;
                let scores = &mut self.scores[at..at + n];
                (kernels.dot_rows)(&tile[..n * head_dim], &q[vector(column, rep)], scores);
            }
        }
        for (column, rep, visible) in queries() {
            let at = (column * n_rep + rep) * row_len;
            (kernels.softmax)(&mut self.scores[at..at + visible]);
            out[vector(column, rep)].fill(0.0);
        }
        for page in pages() {
            let tile = &mut self.tile[..page.len() * head_dim];
            cache.load(kernels, layer, Side::Value, head_kv, page.start, tile);
            for (column, rep, visible) in queries() {
                let n = visible.saturating_sub(page.start).min(page.len());
                let at = (column * n_rep + rep) * row_len + page.start;
                let probabilities = &self.scores[at..at + n];
                (kernels.axpy_rows)(
                    probabilities,
                    &tile[..n * head_dim],
                    &mut out[vector(column, rep)],
                );
            }
        }
    }
}
