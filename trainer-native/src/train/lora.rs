//! Training an adapter: the base is frozen, its low-rank branches are learnt with AdamW.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use burn::module::{AutodiffModule, Module};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamW, GradientsAccumulator, GradientsParams, Optimizer};
use burn::tensor::ElementConversion;

use super::checkpoint::{self, Draft};
use super::driver::Learner;
use super::optimiser::adamw;
use crate::data::pack::Batch;
use crate::kernels::block;
use crate::model::{Llama, Lora, TrainBackend};

/// An adapter over a frozen base.
pub struct Adapter<B: TrainBackend>
where
    Lora<B>: AutodiffModule<B>,
{
    /// The frozen base.
    pub base: Llama<B>,
    /// The adapter as it stands.
    pub lora: Lora<B>,
    optimiser: OptimizerAdaptor<AdamW, Lora<B>, B>,
    grads: GradientsAccumulator<Lora<B>>,
    learning_rate: f64,
    device: B::Device,
}

impl<B: TrainBackend> Adapter<B>
where
    Lora<B>: AutodiffModule<B>,
{
    /// A fresh adapter over `base`, which is frozen.
    pub fn new(base: Llama<B>, lora: Lora<B>, learning_rate: f64, device: &B::Device) -> Self {
        Self {
            base: base.no_grad(),
            lora,
            optimiser: adamw(0.999, 0.0).init(),
            grads: GradientsAccumulator::new(),
            learning_rate,
            device: device.clone(),
        }
    }
}

impl<B: TrainBackend> Learner for Adapter<B>
where
    Lora<B>: AutodiffModule<B>,
{
    fn accumulate(&mut self, spec: &Arc<block::Spec>, batch: &Batch, total_weight: f32) -> f64 {
        let loss = self.base.loss_sum(spec, batch, Some(&self.lora));
        let sum = loss.clone().into_scalar().elem::<f64>();
        let grads = (loss / total_weight).backward();
        self.grads
            .accumulate(&self.lora, GradientsParams::from_grads(grads, &self.lora));
        sum
    }

    fn update(&mut self, rate: f64) {
        let grads = self.grads.grads();
        self.lora = self
            .optimiser
            .step(self.learning_rate * rate, self.lora.clone(), grads);
    }

    fn loss_sum(&self, spec: &Arc<block::Spec>, batch: &Batch) -> f64 {
        self.base
            .loss_sum(spec, batch, Some(&self.lora.clone().no_grad()))
            .into_scalar()
            .elem()
    }

    fn save(&self, draft: &Draft) -> Result<()> {
        draft.put::<B, _>("adapter", self.lora.clone().into_record())?;
        draft.put::<B, _>("adamw", self.optimiser.to_record())
    }

    fn restore(mut self, path: &Path) -> Result<Self> {
        let device = self.device.clone();
        self.lora = self
            .lora
            .load_record(checkpoint::get::<B, _>(path, "adapter", &device)?);
        self.optimiser = self
            .optimiser
            .load_record(checkpoint::get::<B, _>(path, "adamw", &device)?);
        Ok(self)
    }
}
