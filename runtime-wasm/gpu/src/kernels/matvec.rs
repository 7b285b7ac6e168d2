//! `y[c] = W x[c]`, with a bias, added to what `y` holds, or into a cache.

use super::{Columns, Op};
use crate::model::GpuModel;
use crate::weights::Tensor;

/// Add to what `y` holds.
pub(crate) const ADD: u32 = 1;
/// Add a bias.
const BIAS: u32 = 2;
/// `y` is a cache: column 0 lies at the pass's first position.
pub(crate) const CACHE: u32 = 4;
/// One column only.
pub(crate) const ONE: u32 = 8;

/// Rows that a workgroup takes.
const ROWS: u32 = 4;
/// Columns that a workgroup takes.
const COLUMNS: u32 = 4;

/// `x` (C, n_in) to `y` (C, n_out). `None` when the model has no pipeline for the type.
pub(crate) fn matvec(
    model: &GpuModel,
    step: &wgpu::Buffer,
    weight: &Tensor,
    bias: Option<&Tensor>,
    x: &wgpu::Buffer,
    y: &wgpu::Buffer,
    flags: u32,
) -> Option<Op> {
    let pipeline = model.matvec.get(&weight.ty)?;
    let flags = flags | if bias.is_some() { BIAS } else { 0 };
    // Something must be bound; without the flag it is not read.
    let bias = bias.map_or(&weight.buffer, |bias| &bias.buffer);
    let columns = if flags & ONE == 0 {
        Columns::Each(COLUMNS)
    } else {
        Columns::One
    };
    Some(Op::new(
        &model.gpu,
        pipeline,
        step,
        [weight.n_in, weight.n_out, weight.row_bytes, flags],
        &[&weight.buffer, bias, x, y],
        weight.n_out.div_ceil(ROWS),
        columns,
    ))
}

/// What the kernel computes for one column, without a bias; `weight` is (n_out, n_in).
#[cfg(test)]
pub(crate) fn scalar(weight: &[f32], x: &[f32]) -> Vec<f32> {
    let rows = weight.chunks_exact(x.len());
    rows.map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum())
        .collect()
}
