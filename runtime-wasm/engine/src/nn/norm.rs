//! Root-mean-square normalisation (Zhang and Sennrich, 2019).

use crate::kernels::Kernels;

/// `y = x / sqrt(mean(x^2) + eps) * weight`.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// (length)
    pub weight: Vec<f32>,
    /// Keeps the root away from 0.
    pub eps: f32,
}

impl RmsNorm {
    /// Each vector of `x` into `out`: both (C, length).
    pub fn forward(&self, kernels: &Kernels, x: &[f32], out: &mut [f32]) {
        assert_eq!(x.len(), out.len());
        let len = self.weight.len();
        for (x, out) in x.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
            (kernels.rms_norm)(x, &self.weight, self.eps, out);
        }
    }
}
