//! `gate = silu(gate) * up` (Shazeer, 2020).

use super::{Columns, Op};
use crate::model::GpuModel;

/// Both are (C, n).
pub(crate) fn silu_mul(
    model: &GpuModel,
    step: &wgpu::Buffer,
    gate: &wgpu::Buffer,
    up: &wgpu::Buffer,
) -> Op {
    let n = model.config.n_ff as u32;
    Op::new(
        &model.gpu,
        &model.silu_mul,
        step,
        [n, 0, 0, 0],
        &[gate, up],
        n.div_ceil(64),
        Columns::Each(1),
    )
}

/// What the kernel computes.
#[cfg(test)]
pub(crate) fn scalar(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + (-*gate).exp()) * up;
    }
}
