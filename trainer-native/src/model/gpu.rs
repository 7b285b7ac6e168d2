//! GPUs: every part of the model in burn's own tensor operations.

use burn::backend::Autodiff;
use burn::tensor::Tensor;

use super::{
    Block, BlockAdapter, BlockContext, EncoderBlock, EncoderContext, Targets, TrainBackend, plain,
};

/// Vulkan, Metal or DirectX, with gradients.
#[cfg(feature = "wgpu")]
pub type Wgpu = Autodiff<burn::backend::Wgpu>;

/// NVIDIA's CUDA, with gradients.
#[cfg(feature = "cuda")]
pub type Cuda = Autodiff<burn::backend::Cuda>;

macro_rules! plain_back_end {
    ($back_end:ty) => {
        impl TrainBackend for $back_end {
            fn block(
                x: Tensor<Self, 3>,
                block: &Block<Self>,
                ctx: &BlockContext,
            ) -> Tensor<Self, 3> {
                plain::block(x, block, None, ctx)
            }

            fn block_lora(
                x: Tensor<Self, 3>,
                frozen: &Block<Self>,
                adapter: &BlockAdapter<Self>,
                ctx: &BlockContext,
            ) -> Tensor<Self, 3> {
                plain::block(x, frozen, Some(adapter), ctx)
            }

            fn head(
                x: Tensor<Self, 3>,
                norm: Tensor<Self, 1>,
                embed: Tensor<Self, 2>,
                targets: &Targets,
            ) -> Tensor<Self, 1> {
                plain::head(x, norm, embed, targets)
            }

            fn encoder_block(
                x: Tensor<Self, 2>,
                block: &EncoderBlock<Self>,
                ctx: &EncoderContext,
            ) -> Tensor<Self, 2> {
                plain::encoder_block(x, block, ctx)
            }
        }
    };
}

#[cfg(feature = "wgpu")]
plain_back_end!(Wgpu);
#[cfg(feature = "cuda")]
plain_back_end!(Cuda);
