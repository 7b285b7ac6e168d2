//! Muon for the matrices inside the blocks, AdamW for the embedding and the norms.
//!
//! Muon (Jordan et al. 2024) needs about half of AdamW's steps on this model. It makes no sense for an
//! embedding or a vector, so those keep AdamW with PyTorch's epsilon (burn's own default is 1e-5).

use burn::module::{AutodiffModule, ParamId};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamW, AdamWConfig, GradientsParams, Muon, MuonConfig, Optimizer};
use burn::tensor::backend::AutodiffBackend;

use crate::model::Llama;

/// Learning rates of one step.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// For the matrices.
    pub muon: f64,
    /// For the embedding and norms.
    pub adamw: f64,
}

/// The two optimisers of a pre-training run.
pub struct Optimisers<B: AutodiffBackend> {
    /// For the matrices inside the blocks.
    pub muon: OptimizerAdaptor<Muon<B::InnerBackend>, Llama<B>, B>,
    /// For everything else.
    pub adamw: OptimizerAdaptor<AdamW, Llama<B>, B>,
}

impl<B: AutodiffBackend> Optimisers<B>
where
    Llama<B>: AutodiffModule<B>,
{
    /// Fresh optimisers; `weight_decay` is Muon's, multiplied by its learning rate.
    pub fn new(weight_decay: f32) -> Self {
        Self {
            muon: MuonConfig::new()
                .with_weight_decay(Some(WeightDecayConfig::new(weight_decay)))
                .init(),
            adamw: adamw(0.95, 0.0).init(),
        }
    }

    /// Applies one step's gradients.
    pub fn step(&mut self, model: Llama<B>, mut grads: GradientsParams, rates: Rates) -> Llama<B> {
        let mut matrices = GradientsParams::new();
        for id in matrix_ids(&model) {
            if let Some(grad) = grads.remove::<B::InnerBackend, 2>(id) {
                matrices.register::<B::InnerBackend, 2>(id, grad);
            }
        }
        let model = self.muon.step(rates.muon, model, matrices);
        self.adamw.step(rates.adamw, model, grads)
    }
}

/// AdamW with PyTorch's epsilon.
pub fn adamw(beta_2: f32, weight_decay: f32) -> AdamWConfig {
    AdamWConfig::new()
        .with_beta_2(beta_2)
        .with_epsilon(1e-8)
        .with_weight_decay(weight_decay)
}

fn matrix_ids<B: AutodiffBackend>(model: &Llama<B>) -> Vec<ParamId> {
    model
        .blocks
        .iter()
        .flat_map(|block| block.linears.iter().map(|weight| weight.id))
        .collect()
}
