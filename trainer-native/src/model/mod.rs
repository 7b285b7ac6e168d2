//! The models that are trained, a llama and a text encoder: one definition each, two implementations of
//! their costly parts.
//!
//! [`TrainBackend`] is the seam. On the CPU a decoder block, an encoder block and the output head are
//! single autodiff operations over `kernels` ([`cpu`], [`cpu_encoder`]); every other back end computes the same formulas in burn tensors
//! ([`plain`]). Weights are `[out, in]`, as in GGUF and PyTorch.

pub mod cpu;
mod cpu_encoder;
pub mod encoder;
#[cfg(test)]
mod encoder_tests;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub mod gpu;
pub mod init;
pub mod llama;
pub mod lora;
pub mod plain;
pub mod spec;
#[cfg(test)]
mod tests;

pub use encoder::{Encoder, EncoderBlock, EncoderContext, Heads};
pub use llama::{Block, Llama};
pub use lora::{BlockAdapter, Lora};
pub use spec::ModelSpec;

use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use std::sync::Arc;

use crate::kernels::block;

/// The rows that a batch's positions may attend to and the shape of the block, shared by all layers.
#[derive(Clone, Debug)]
pub struct BlockContext {
    /// Shape and rotation angles.
    pub spec: Arc<block::Spec>,
    /// First visible position of each position, `[B * T]`.
    pub starts: Arc<Vec<u32>>,
    /// `T`
    pub positions: usize,
}

/// Targets and their weights, `[N]` each.
#[derive(Clone, Debug)]
pub struct Targets {
    /// Token that each position should predict.
    pub ids: Arc<Vec<u32>>,
    /// Weight of each position's loss; 0 leaves it out.
    pub weights: Arc<Vec<f32>>,
    /// RMSNorm's epsilon.
    pub rms_eps: f32,
}

/// A back end that can train the model.
pub trait TrainBackend: AutodiffBackend {
    /// One decoder block with all weights learnt: `x` `[B, T, C]` -> `[B, T, C]`.
    fn block(x: Tensor<Self, 3>, block: &Block<Self>, ctx: &BlockContext) -> Tensor<Self, 3>;

    /// One decoder block whose weights are frozen and whose linear layers carry a low-rank branch.
    fn block_lora(
        x: Tensor<Self, 3>,
        frozen: &Block<Self>,
        adapter: &BlockAdapter<Self>,
        ctx: &BlockContext,
    ) -> Tensor<Self, 3>;

    /// Final norm, tied logits and weighted cross-entropy: `x` `[B, T, C]` -> the weighted sum, `[1]`.
    fn head(
        x: Tensor<Self, 3>,
        norm: Tensor<Self, 1>,
        embed: Tensor<Self, 2>,
        targets: &Targets,
    ) -> Tensor<Self, 1>;

    /// One encoder block over packed texts: `x` `[N, C]` -> `[N, C]`.
    fn encoder_block(
        x: Tensor<Self, 2>,
        block: &EncoderBlock<Self>,
        ctx: &EncoderContext,
    ) -> Tensor<Self, 2>;
}
