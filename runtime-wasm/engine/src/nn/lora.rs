//! Low-rank adapters (Hu et al., 2021) beside the linear layers of a base.
//!
//! ```text
//! y[c] = W x[c] + b + sum over the adapters of  scale * B (A x[c])
//!                     A (rank, n_in)   B (n_out, rank), kept transposed
//! ```
//!
//! The base's weights are never touched, so that putting an adapter on or off
//! is a change of a list. `A x` takes the activations as they are, not those
//! quantised for `W`.

use std::sync::Arc;

use super::memory;
use crate::error::Result;
use crate::kernels::Kernels;

/// What one adapter adds to one linear layer.
#[derive(Debug)]
pub struct Pair {
    /// Length of an input.
    pub n_in: usize,
    /// Length of an output.
    pub n_out: usize,
    /// alpha / rank, and so what a request's scale is multiplied by.
    pub scale: f32,
    /// (rank, n_in)
    pub a: Vec<f32>,
    /// B transposed, so that one input of it is a run of memory: (rank, n_out)
    pub b: Vec<f32>,
}

impl Pair {
    /// Inner length of the product.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.a.len() / self.n_in.max(1)
    }
}

/// The pairs of one adapter, each at the index of its weight in the tensor
/// table of the base.
pub type Pairs = Arc<[Option<Pair>]>;

/// The adapters that linear layers add, each with its scale.
#[derive(Debug, Default)]
pub struct Mix {
    active: Vec<(Pairs, f32)>,
    /// `A x` of one column, as long as the largest rank.
    low: Vec<f32>,
}

impl Mix {
    /// Whether these are the adapters and scales already, in this order.
    #[must_use]
    pub fn is(&self, active: &[(Pairs, f32)]) -> bool {
        let same = |(ours, theirs): (&(Pairs, f32), &(Pairs, f32))| {
            Arc::ptr_eq(&ours.0, &theirs.0) && ours.1.to_bits() == theirs.1.to_bits()
        };
        self.active.len() == active.len() && self.active.iter().zip(active).all(same)
    }

    /// Replaces the adapters.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory); the old ones stay.
    pub fn set(&mut self, active: Vec<(Pairs, f32)>) -> Result<()> {
        let pairs = active.iter().flat_map(|(pairs, _)| pairs.iter().flatten());
        let rank = pairs.map(Pair::rank).max().unwrap_or(0);
        if rank > self.low.len() {
            self.low = memory::zeroed(rank, "an adapter's inner vector")?;
        }
        self.active = active;
        Ok(())
    }

    /// `out[c] += scale * B (A x[c])` of every adapter that has a pair at
    /// `index`: `x` is (C, n_in), `out` is (C, n_out).
    pub fn add(&mut self, kernels: &Kernels, index: usize, x: &[f32], out: &mut [f32]) {
        for (pairs, scale) in &self.active {
            let Some(Some(pair)) = pairs.get(index) else {
                continue;
            };
            let low = &mut self.low[..pair.rank()];
            let scale = scale * pair.scale;
            for (x, out) in x
                .chunks_exact(pair.n_in)
                .zip(out.chunks_exact_mut(pair.n_out))
            {
                (kernels.dot_rows)(&pair.a, x, low);
                low.iter_mut().for_each(|t| *t *= scale);
                (kernels.axpy_rows)(low, &pair.b, out);
            }
        }
    }
}
