//! `x[c] = row tokens[c]` of the embedding.

use super::{Columns, Op};
use crate::model::GpuModel;
use crate::weights::Tensor;

/// `tokens` (C) and `x` (C, n_in).
pub(crate) fn embed(
    model: &GpuModel,
    step: &wgpu::Buffer,
    table: &Tensor,
    tokens: &wgpu::Buffer,
    x: &wgpu::Buffer,
) -> Op {
    let constants = [table.n_in, table.row_bytes, 0, 0];
    let buffers = [&table.buffer, tokens, x];
    let groups = table.n_in.div_ceil(16 * 64);
    Op::new(
        &model.gpu,
        &model.embed,
        step,
        constants,
        &buffers,
        groups,
        Columns::Each(1),
    )
}

/// What the kernel computes; `table` is (n_vocab, n_in).
#[cfg(test)]
pub(crate) fn scalar(table: &[f32], n_in: usize, tokens: &[u32]) -> Vec<f32> {
    let rows = tokens
        .iter()
        .map(|&id| &table[id as usize * n_in..][..n_in]);
    rows.flatten().copied().collect()
}
