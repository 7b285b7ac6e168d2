//! `y[c] = weight * x[c] / sqrt(mean(x[c]^2) + eps)` (Zhang and Sennrich, 2019).

use super::{Columns, Op};
use crate::model::GpuModel;
use crate::weights::Tensor;

/// `x` and `y` are (C, n); with `last`, the last column alone, to the first of `y`.
pub(crate) fn rms_norm(
    model: &GpuModel,
    step: &wgpu::Buffer,
    weight: &Tensor,
    x: &wgpu::Buffer,
    y: &wgpu::Buffer,
    last: bool,
) -> Op {
    let eps = model.config.rms_eps.to_bits();
    let columns = if last { Columns::One } else { Columns::Each(1) };
    Op::new(
        &model.gpu,
        &model.rms_norm,
        step,
        [weight.n_in, eps, u32::from(last), 0],
        &[&weight.buffer, x, y],
        1,
        columns,
    )
}

/// What the kernel computes for one column.
#[cfg(test)]
pub(crate) fn scalar(weight: &[f32], eps: f32, x: &[f32]) -> Vec<f32> {
    let mean = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    x.iter().zip(weight).map(|(x, w)| w * (x * scale)).collect()
}
