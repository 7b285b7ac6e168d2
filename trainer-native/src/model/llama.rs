//! The llama module: tied embedding, decoder blocks, final norm.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

use super::{BlockContext, Lora, Targets, TrainBackend};
use crate::data::pack::Batch;
use crate::kernels::block;

/// One decoder block's weights.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    /// `[C]`
    pub attn_norm: Param<Tensor<B, 1>>,
    /// `[C]`
    pub ffn_norm: Param<Tensor<B, 1>>,
    /// The seven matrices in the order of `kernels::block::LINEARS`, each `[out, in]`.
    pub linears: Vec<Param<Tensor<B, 2>>>,
}

/// A llama model with a tied output.
#[derive(Module, Debug)]
pub struct Llama<B: Backend> {
    /// `[V, C]`; also the output matrix.
    pub embed: Param<Tensor<B, 2>>,
    /// Decoder blocks in order.
    pub blocks: Vec<Block<B>>,
    /// `[C]`
    pub output_norm: Param<Tensor<B, 1>>,
}

impl<B: TrainBackend> Llama<B> {
    /// The batch's weighted sum of `-ln p(target)`, as a tensor `[1]` to call `backward` on.
    pub fn loss_sum(
        &self,
        spec: &Arc<block::Spec>,
        batch: &Batch,
        adapter: Option<&Lora<B>>,
    ) -> Tensor<B, 1> {
        let positions = batch.positions;
        let rows = batch.tokens.len() / positions.max(1);
        let device = self.embed.val().device();
        let ids: Vec<i32> = batch.tokens.iter().map(|id| *id as i32).collect();
        let count = ids.len();
        let ids = Tensor::<B, 1, Int>::from_data(TensorData::new(ids, [count]), &device);
        let ctx = BlockContext {
            spec: spec.clone(),
            starts: Arc::new(batch.starts.clone()),
            positions,
        };
        let mut x = self
            .embed
            .val()
            .select(0, ids)
            .reshape([rows, positions, spec.width]);
        for (i, block) in self.blocks.iter().enumerate() {
            x = match adapter {
                Some(adapter) => B::block_lora(x, block, &adapter.blocks[i], &ctx),
                None => B::block(x, block, &ctx),
            };
        }
        let targets = Targets {
            ids: Arc::new(batch.targets.clone()),
            weights: Arc::new(batch.weights.clone()),
            rms_eps: spec.rms_eps,
        };
        B::head(x, self.output_norm.val(), self.embed.val(), &targets)
    }
}
