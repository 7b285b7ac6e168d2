//! One file for each kernel: its dispatch, and the plain function of the same name that says what is
//! right. The `.wgsl` lies beside it.
//!
//! Every kernel binds `step` (0) and its own constants (1), then the buffers that its dispatch lists.

pub(crate) mod attention;
pub(crate) mod embed;
pub(crate) mod matvec;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod silu_mul;

use std::borrow::Cow;

use crate::device::Gpu;

/// The WGSL of every kernel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shaders {
    /// The columns and the position of a pass; goes before each of the others.
    pub step: Cow<'static, str>,
    /// Rows of the embedding.
    pub embed: Cow<'static, str>,
    /// Matrix times vectors.
    pub matvec: Cow<'static, str>,
    /// Root mean square norm.
    pub rms_norm: Cow<'static, str>,
    /// Rotation of queries and keys.
    pub rope: Cow<'static, str>,
    /// Causal attention.
    pub attention: Cow<'static, str>,
    /// The feed-forward part's gate.
    pub silu_mul: Cow<'static, str>,
}

impl Default for Shaders {
    fn default() -> Self {
        Self {
            step: include_str!("step.wgsl").into(),
            embed: include_str!("embed.wgsl").into(),
            matvec: include_str!("matvec.wgsl").into(),
            rms_norm: include_str!("rms_norm.wgsl").into(),
            rope: include_str!("rope.wgsl").into(),
            attention: include_str!("attention.wgsl").into(),
            silu_mul: include_str!("silu_mul.wgsl").into(),
        }
    }
}

/// How many workgroups a dispatch has in y.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Columns {
    /// One for each of this many columns.
    Each(u32),
    /// One in all: the last column's work.
    One,
}

/// A dispatch, ready to be encoded again and again.
#[derive(Debug)]
pub(crate) struct Op {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    x: u32,
    y: Columns,
}

impl Op {
    /// `constants` are the kernel's `Op`; `buffers` follow from binding 2 on.
    pub(crate) fn new(
        gpu: &Gpu,
        pipeline: &wgpu::ComputePipeline,
        step: &wgpu::Buffer,
        constants: [u32; 4],
        buffers: &[&wgpu::Buffer],
        x: u32,
        y: Columns,
    ) -> Self {
        let uniform = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 16,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        gpu.queue
            .write_buffer(&uniform, 0, bytemuck::cast_slice(&constants));
        let entries: Vec<_> = [step, &uniform]
            .iter()
            .chain(buffers)
            .zip(0..)
            .map(|(buffer, binding)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        let bindings = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        Self {
            pipeline: pipeline.clone(),
            bindings,
            x,
            y,
        }
    }

    pub(crate) fn encode(&self, pass: &mut wgpu::ComputePass<'_>, columns: u32) {
        let y = match self.y {
            Columns::Each(each) => columns.div_ceil(each),
            Columns::One => 1,
        };
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.dispatch_workgroups(self.x, y, 1);
    }

    /// Workgroups in x.
    pub(crate) fn groups(&self) -> u32 {
        self.x
    }
}

#[cfg(test)]
mod tests;
