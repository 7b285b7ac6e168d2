//! Pre-training: every weight is learnt.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use burn::module::{AutodiffModule, Module};
use burn::optim::{GradientsAccumulator, GradientsParams, Optimizer};
use burn::tensor::ElementConversion;

use super::checkpoint::{self, Draft};
use super::driver::Learner;
use super::optimiser::{Optimisers, Rates};
use crate::config::Pretrain;
use crate::data::pack::Batch;
use crate::kernels::block;
use crate::model::{Llama, TrainBackend, init};

/// A whole model and its optimisers.
pub struct WholeModel<B: TrainBackend>
where
    Llama<B>: AutodiffModule<B>,
{
    /// The model as it stands.
    pub model: Llama<B>,
    optimisers: Optimisers<B>,
    grads: GradientsAccumulator<Llama<B>>,
    rates: Rates,
    device: B::Device,
}

impl<B: TrainBackend> WholeModel<B>
where
    Llama<B>: AutodiffModule<B>,
{
    /// Fresh weights.
    pub fn new(config: &Pretrain, device: &B::Device) -> Self {
        Self {
            model: init::llama(&config.model, config.seed, device),
            optimisers: Optimisers::new(config.weight_decay),
            grads: GradientsAccumulator::new(),
            rates: Rates {
                muon: config.muon_learning_rate,
                adamw: config.learning_rate,
            },
            device: device.clone(),
        }
    }
}

impl<B: TrainBackend> Learner for WholeModel<B>
where
    Llama<B>: AutodiffModule<B>,
{
    fn accumulate(&mut self, spec: &Arc<block::Spec>, batch: &Batch, total_weight: f32) -> f64 {
        let loss = self.model.loss_sum(spec, batch, None);
        let sum = loss.clone().into_scalar().elem::<f64>();
        let grads = (loss / total_weight).backward();
        self.grads
            .accumulate(&self.model, GradientsParams::from_grads(grads, &self.model));
        sum
    }

    fn update(&mut self, rate: f64) {
        let rates = Rates {
            muon: self.rates.muon * rate,
            adamw: self.rates.adamw * rate,
        };
        self.model = self
            .optimisers
            .step(self.model.clone(), self.grads.grads(), rates);
    }

    fn loss_sum(&self, spec: &Arc<block::Spec>, batch: &Batch) -> f64 {
        self.model
            .clone()
            .no_grad()
            .loss_sum(spec, batch, None)
            .into_scalar()
            .elem()
    }

    fn save(&self, draft: &Draft) -> Result<()> {
        draft.put::<B, _>("model", self.model.clone().into_record())?;
        draft.put::<B, _>("muon", self.optimisers.muon.to_record())?;
        draft.put::<B, _>("adamw", self.optimisers.adamw.to_record())
    }

    fn restore(mut self, path: &Path) -> Result<Self> {
        let device = self.device.clone();
        self.model = self
            .model
            .load_record(checkpoint::get::<B, _>(path, "model", &device)?);
        let Optimisers { muon, adamw } = self.optimisers;
        self.optimisers = Optimisers {
            muon: muon.load_record(checkpoint::get::<B, _>(path, "muon", &device)?),
            adamw: adamw.load_record(checkpoint::get::<B, _>(path, "adamw", &device)?),
        };
        Ok(self)
    }
}
