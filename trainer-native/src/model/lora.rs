//! Low-rank adapters over a frozen model (Hu et al. 2021).

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor};

use super::{Llama, ModelSpec};

/// The pair of one linear layer: `W = W0 + (alpha / r) B A`.
#[derive(Module, Debug)]
pub struct Pair<B: Backend> {
    /// `A`, `[r, in]`
    pub a: Param<Tensor<B, 2>>,
    /// `B`, `[out, r]`, zero at the start
    pub b: Param<Tensor<B, 2>>,
}

/// The seven pairs of one block, in the order of `kernels::block::LINEARS`.
#[derive(Module, Debug)]
pub struct BlockAdapter<B: Backend> {
    /// Seven pairs.
    pub pairs: Vec<Pair<B>>,
    /// `alpha / r`
    #[module(skip)]
    pub scale: f32,
}

/// An adapter for every block.
#[derive(Module, Debug)]
pub struct Lora<B: Backend> {
    /// One entry a block.
    pub blocks: Vec<BlockAdapter<B>>,
}

impl<B: Backend> Lora<B> {
    /// A fresh adapter that changes nothing yet. `A` is uniform in `+-sqrt(3 / in)` (Kaiming with
    /// slope sqrt(5), as the reference implementation has it), `B` is zero.
    pub fn new(spec: &ModelSpec, rank: usize, alpha: f32, device: &B::Device) -> Self {
        let shapes = spec.block_spec(0).linear_shapes();
        let pair = |(out, inputs): (usize, usize)| {
            let bound = (1.0 / inputs as f64).sqrt();
            Pair {
                a: Param::from_tensor(Tensor::random(
                    [rank, inputs],
                    Distribution::Uniform(-bound, bound),
                    device,
                )),
                b: Param::from_tensor(Tensor::zeros([out, rank], device)),
            }
        };
        let block = || BlockAdapter {
            pairs: shapes.iter().copied().map(pair).collect(),
            scale: alpha / rank as f32,
        };
        Self {
            blocks: (0..spec.block_count).map(|_| block()).collect(),
        }
    }

    /// The model with the adapter's product added to every matrix.
    pub fn merge(&self, model: Llama<B>) -> Llama<B> {
        let mut model = model;
        for (block, adapter) in model.blocks.iter_mut().zip(&self.blocks) {
            for (weight, pair) in block.linears.iter_mut().zip(&adapter.pairs) {
                let delta = pair.b.val().matmul(pair.a.val()).mul_scalar(adapter.scale);
                *weight = Param::initialized(weight.id, weight.val() + delta);
            }
        }
        model
    }
}
