//! Root-mean-square normalisation (Zhang and Sennrich, 2019), and layer normalisation (Ba et al., 2016).

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

/// `y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias`.
#[cfg(feature = "encoder")]
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// (length)
    pub weight: Vec<f32>,
    /// (length)
    pub bias: Vec<f32>,
    /// Keeps the root away from 0.
    pub eps: f32,
}

#[cfg(feature = "encoder")]
impl LayerNorm {
    /// Each vector of `x` into `out`: both (C, length).
    pub fn forward(&self, kernels: &Kernels, x: &[f32], out: &mut [f32]) {
        assert_eq!(x.len(), out.len());
        let len = self.weight.len();
        for (x, out) in x.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
            (kernels.layer_norm)(x, &self.weight, &self.bias, self.eps, out);
        }
    }
}
