//! Pre-training: every weight is learnt.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use burn::module::{AutodiffModule, Module};
use burn::optim::{GradientsAccumulator, GradientsParams, Optimizer};
use burn::tensor::ElementConversion;

use super::checkpoint::{self, Draft, State};
use super::optimiser::{Optimisers, Rates};
use super::progress::{Entry, Progress};
use crate::config::Pretrain;
use crate::data::pack::{Batch, Packed};
use crate::kernels::block;
use crate::model::{Llama, TrainBackend, init};

/// What a run needs besides its settings.
pub struct Inputs {
    /// Rows to learn from.
    pub train: Packed,
    /// Held-out rows; only the assistant's own words carry weight.
    pub held_out: Packed,
    /// UTF-8 bytes of each token.
    pub token_bytes: Vec<u8>,
    /// Fingerprint of the data and the settings that decide its order.
    pub fingerprint: String,
}

/// How a run ended.
pub enum Outcome<B: TrainBackend> {
    /// All steps are done.
    Finished(Llama<B>),
    /// It was asked to stop and saved a checkpoint.
    Interrupted(Llama<B>),
}

/// Runs from the newest checkpoint in the output folder (with `resume`) or from fresh weights.
pub fn run<B: TrainBackend>(
    config: &Pretrain,
    inputs: &Inputs,
    resume: bool,
    json: bool,
    stop: &AtomicBool,
    device: &B::Device,
) -> Result<Outcome<B>>
where
    Llama<B>: AutodiffModule<B>,
{
    std::fs::create_dir_all(&config.output_dir)
        .with_context(|| format!("cannot create {}", config.output_dir.display()))?;
    let spec = config.model.block_spec(config.sequence_len);
    let mut run = match checkpoint::latest(&config.output_dir)?.filter(|_| resume) {
        Some(path) => Run::load(config, inputs, &path, device)?,
        None => Run::fresh(config, inputs, device),
    };
    let state = run.state.clone();
    let mut progress = Progress::new(
        &config.output_dir,
        config.max_steps,
        state.step,
        state.tokens,
        json,
    )?;
    while run.state.step < config.max_steps {
        if stop.load(Ordering::Relaxed) {
            let saved = run.save(config)?;
            progress.finish(format!(
                "stopped; go on with --resume (saved {})",
                saved.display()
            ));
            return Ok(Outcome::Interrupted(run.model));
        }
        let rate = config.schedule().factor(run.state.step);
        run.step(config, &inputs.train, &spec, rate)?;
        let step = run.state.step;
        let measure = config.eval_steps > 0
            && (step.is_multiple_of(config.eval_steps) || step == config.max_steps);
        let entry = Entry {
            step,
            tokens: run.state.tokens,
            loss: run.state.loss,
            rate,
            tokens_per_s: progress.tokens_per_s(run.state.tokens),
            bits_per_byte: measure
                .then(|| held_out_bits_per_byte(&run.model, &spec, inputs, config)),
        };
        progress.step(&entry, measure || step.is_multiple_of(config.logging_steps))?;
        if step.is_multiple_of(config.save_steps) || step == config.max_steps {
            run.save(config)?;
        }
    }
    progress.finish(format!(
        "done: {} steps, {} tokens",
        run.state.step, run.state.tokens
    ));
    Ok(Outcome::Finished(run.model))
}

struct Run<B: TrainBackend>
where
    Llama<B>: AutodiffModule<B>,
{
    model: Llama<B>,
    optimisers: Optimisers<B>,
    state: State,
}

impl<B: TrainBackend> Run<B>
where
    Llama<B>: AutodiffModule<B>,
{
    fn fresh(config: &Pretrain, inputs: &Inputs, device: &B::Device) -> Self {
        Self {
            model: init::llama(&config.model, config.seed, device),
            optimisers: Optimisers::new(config.weight_decay),
            state: State {
                step: 0,
                tokens: 0,
                loss: 0.0,
                data: inputs.fingerprint.clone(),
            },
        }
    }

    fn load(config: &Pretrain, inputs: &Inputs, path: &Path, device: &B::Device) -> Result<Self> {
        let mut run = Self::fresh(config, inputs, device);
        let state = checkpoint::state(path)?;
        ensure!(
            state.data == inputs.fingerprint,
            "{} was made with other data or settings; use another output_dir or restore them",
            path.display()
        );
        run.model = run
            .model
            .load_record(checkpoint::get::<B, _>(path, "model", device)?);
        run.optimisers.muon = run
            .optimisers
            .muon
            .load_record(checkpoint::get::<B, _>(path, "muon", device)?);
        run.optimisers.adamw = run
            .optimisers
            .adamw
            .load_record(checkpoint::get::<B, _>(path, "adamw", device)?);
        run.state = state;
        Ok(run)
    }

    fn step(
        &mut self,
        config: &Pretrain,
        train: &Packed,
        spec: &Arc<block::Spec>,
        rate: f64,
    ) -> Result<()> {
        let batch = train.batch(
            self.state.step,
            config.micro_batch_size * config.gradient_accumulation_steps,
        );
        let total_weight = batch.weights.iter().sum::<f32>().max(1e-6);
        let mut accumulator = GradientsAccumulator::new();
        let mut loss_sum = 0.0;
        for micro in batch.split(config.micro_batch_size * config.sequence_len) {
            let loss = self.model.loss_sum(spec, &micro, config.sequence_len, None);
            loss_sum += loss.clone().into_scalar().elem::<f64>();
            let grads = (loss / total_weight).backward();
            accumulator.accumulate(&self.model, GradientsParams::from_grads(grads, &self.model));
        }
        let loss = loss_sum / f64::from(total_weight);
        ensure!(
            loss.is_finite(),
            "the loss became {loss} at step {}; lower the learning rates",
            self.state.step
        );
        let rates = Rates {
            muon: config.muon_learning_rate * rate,
            adamw: config.learning_rate * rate,
        };
        self.model = self
            .optimisers
            .step(self.model.clone(), accumulator.grads(), rates);
        self.state.step += 1;
        self.state.tokens += batch.tokens.len() as u64;
        self.state.loss = loss;
        Ok(())
    }

    fn save(&self, config: &Pretrain) -> Result<std::path::PathBuf> {
        let draft = Draft::begin(&config.output_dir, self.state.step)?;
        draft.put::<B, _>("model", self.model.clone().into_record())?;
        draft.put::<B, _>("muon", self.optimisers.muon.to_record())?;
        draft.put::<B, _>("adamw", self.optimisers.adamw.to_record())?;
        draft.finish(&self.state, config.save_total_limit)
    }
}

/// Bits per byte of the weighted tokens of the first held-out rows.
fn held_out_bits_per_byte<B: TrainBackend>(
    model: &Llama<B>,
    spec: &Arc<block::Spec>,
    inputs: &Inputs,
    config: &Pretrain,
) -> f64
where
    Llama<B>: AutodiffModule<B>,
{
    let frozen = model.clone().no_grad();
    let (mut nats, mut bytes) = (0.0, 0u64);
    for batch in inputs
        .held_out
        .rows(0, config.eval_rows)
        .split(config.micro_batch_size * config.sequence_len)
    {
        nats += frozen
            .loss_sum(spec, &batch, config.sequence_len, None)
            .into_scalar()
            .elem::<f64>();
        bytes += weighted_bytes(&batch, &inputs.token_bytes);
    }
    nats / std::f64::consts::LN_2 / bytes.max(1) as f64
}

fn weighted_bytes(batch: &Batch, token_bytes: &[u8]) -> u64 {
    let weighted = batch
        .targets
        .iter()
        .zip(&batch.weights)
        .filter(|(_, weight)| **weight > 0.0);
    weighted
        .map(|(id, _)| u64::from(token_bytes.get(*id as usize).copied().unwrap_or(0)))
        .sum()
}
