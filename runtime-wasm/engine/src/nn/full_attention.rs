//! Attention in which every position looks at every other: that of encoders.
//!
//! ```text
//! for each head
//!   keys (T / 16, head_dim, 16) woven, values (T, head_dim), out of all heads' rows
//!   for up to QUERIES_MAX positions at a time
//!     scores = (q / sqrt(head_dim)) . keys            (queries, T)
//!     softmax of each row
//!     out[query] = probabilities . values             in order of position
//! ```

use super::memory;
use crate::error::Result;
use crate::kernels::{KEY_GROUP, Kernels};

/// Positions whose scores are held at once.
const QUERIES_MAX: usize = 32;

/// Attention over up to a fixed number of positions, and the room it works in.
#[derive(Debug)]
pub struct FullAttention {
    head_dim: usize,
    /// Of one head, woven: (positions_max / 16, head_dim, 16)
    keys: Vec<f32>,
    /// Of one head: (positions_max, head_dim)
    values: Vec<f32>,
    /// Of one head, scaled: (QUERIES_MAX, head_dim)
    queries: Vec<f32>,
    /// What becomes of them: (QUERIES_MAX, head_dim)
    results: Vec<f32>,
    /// (QUERIES_MAX, positions_max filled up to whole groups of keys)
    scores: Vec<f32>,
}

impl FullAttention {
    /// Room for `positions_max` positions of heads of `head_dim` elements.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn new(head_dim: usize, positions_max: usize) -> Result<Self> {
        let buffer = |len: usize, width: usize| {
            let what = "attention over a text";
            memory::zeroed(memory::product(&[len, width], what)?, what)
        };
        let padded = positions_max.next_multiple_of(KEY_GROUP);
        Ok(Self {
            head_dim,
            keys: buffer(padded, head_dim)?,
            values: buffer(positions_max, head_dim)?,
            queries: buffer(QUERIES_MAX, head_dim)?,
            results: buffer(QUERIES_MAX, head_dim)?,
            scores: buffer(QUERIES_MAX, padded)?,
        })
    }

    /// Attention of `q` over `keys` and `values`; all, and `out`, are (T, n_head * head_dim), and T
    /// is at most what there is room for.
    pub fn forward(
        &mut self,
        kernels: &Kernels,
        q: &[f32],
        keys: &[f32],
        values: &[f32],
        width: usize,
        out: &mut [f32],
    ) {
        assert!([keys.len(), values.len(), out.len()] == [q.len(); 3]);
        let head_dim = self.head_dim;
        let positions = q.len() / width;
        let padded = positions.next_multiple_of(KEY_GROUP);
        let scale = 1.0 / (head_dim as f32).sqrt();
        for head in (0..width).step_by(head_dim) {
            for (t, (key, value)) in keys
                .chunks_exact(width)
                .zip(values.chunks_exact(width))
                .enumerate()
            {
                let group = t / KEY_GROUP * head_dim * KEY_GROUP + t % KEY_GROUP;
                for (d, &x) in key[head..head + head_dim].iter().enumerate() {
                    self.keys[group + d * KEY_GROUP] = x;
                }
                self.values[t * head_dim..][..head_dim]
                    .copy_from_slice(&value[head..head + head_dim]);
            }
            for first in (0..positions).step_by(QUERIES_MAX) {
                let count = QUERIES_MAX.min(positions - first);
                let queries = &mut self.queries[..count * head_dim];
                let results = &mut self.results[..count * head_dim];
                let scores = &mut self.scores[..count * padded];
                for (i, query) in queries.chunks_exact_mut(head_dim).enumerate() {
                    for (y, x) in query
                        .iter_mut()
                        .zip(&q[(first + i) * width + head..][..head_dim])
                    {
                        *y = x * scale;
                    }
                }
                // Scores of positions that only fill up a group are not looked at.
                let woven = &self.keys[..padded * head_dim];
                (kernels.attention_scores)(woven, queries, scores, padded, head_dim);
                for row in scores.chunks_exact_mut(padded) {
                    (kernels.softmax)(&mut row[..positions]);
                }
                results.fill(0.0);
                let values = &self.values[..positions * head_dim];
                (kernels.attention_values)(values, scores, padded, head_dim, results);
                for (i, result) in results.chunks_exact(head_dim).enumerate() {
                    let place = (first + i) * width + head;
                    out[place..place + head_dim].copy_from_slice(result);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::Random;

    #[test]
    fn it_is_the_formula_over_all_positions_with_every_set_of_kernels() {
        let (n_head, head_dim) = (3, 12);
        let width = n_head * head_dim;
        for positions in [1, 2, 15, 16, 17, 33, 70] {
            let mut random = Random::new(positions as u64);
            let mut tensor =
                || -> Vec<f32> { (0..positions * width).map(|_| random.float()).collect() };
            let (q, k, v) = (tensor(), tensor(), tensor());
            let at = |x: &[f32], t: usize, i: usize| f64::from(x[t * width + i]);
            let mut wanted = vec![0.0; q.len()];
            for head in 0..n_head {
                let elements = head * head_dim..(head + 1) * head_dim;
                for t in 0..positions {
                    let score = |s: usize| -> f64 {
                        let products = elements.clone().map(|i| at(&q, t, i) * at(&k, s, i));
                        (products.sum::<f64>() / (head_dim as f64).sqrt()).exp()
                    };
                    let total: f64 = (0..positions).map(score).sum();
                    for i in elements.clone() {
                        let parts = (0..positions).map(|s| score(s) / total * at(&v, s, i));
                        wanted[t * width + i] = parts.sum::<f64>();
                    }
                }
            }
            let mut first: Option<Vec<f32>> = None;
            for kernels in Kernels::available() {
                // Room for more than is used, and used before: nothing may be left of that.
                let mut attention = FullAttention::new(head_dim, 70).unwrap();
                attention.keys.fill(1e30);
                let mut out = vec![f32::NAN; q.len()];
                attention.forward(&kernels, &q, &k, &v, width, &mut out);
                for (found, wanted) in out.iter().zip(&wanted) {
                    assert!(
                        (f64::from(*found) - wanted).abs() < 1e-6,
                        "{}",
                        kernels.name
                    );
                }
                assert_eq!(&out, first.get_or_insert(out.clone()), "{}", kernels.name);
            }
        }
    }
}
