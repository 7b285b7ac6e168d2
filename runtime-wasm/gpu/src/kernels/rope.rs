//! Rotation of the pairs of each head by the angle of its position (Su et al., 2021).

use super::{Columns, Op};
use crate::model::GpuModel;

/// Turns `x` (C, n) in place; with `cache`, from the pass's first position on. `angles` holds
/// (cos, sin): (C, head_dim / 2).
pub(crate) fn rope(
    model: &GpuModel,
    step: &wgpu::Buffer,
    n: usize,
    angles: &wgpu::Buffer,
    x: &wgpu::Buffer,
    cache: bool,
) -> Op {
    let head_dim = model.config.head_dim as u32;
    Op::new(
        &model.gpu,
        &model.rotate,
        step,
        [n as u32, head_dim, u32::from(cache), 0],
        &[angles, x],
        (n as u32 / 2).div_ceil(64),
        Columns::Each(1),
    )
}

/// What the kernel computes for one column; `angles` is (head_dim / 2) of (cos, sin).
#[cfg(test)]
pub(crate) fn scalar(angles: &[[f32; 2]], x: &mut [f32]) {
    let (pairs, _) = x.as_chunks_mut::<2>();
    for ([a, b], [cos, sin]) in pairs.iter_mut().zip(angles.iter().cycle()) {
        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
    }
}
