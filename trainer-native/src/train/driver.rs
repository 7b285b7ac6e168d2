//! The loop that every kind of training shares: batches by step number, log, held-out measurement,
//! checkpoints, and stopping between two steps.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};

use super::checkpoint::{self, Draft, State};
use super::progress::{Entry, Progress};
use super::schedule::Schedule;
use crate::data::pack::{Batch, Packed};
use crate::kernels::block;

/// What a run needs besides its model.
pub struct Inputs {
    /// Rows to learn from.
    pub train: Packed,
    /// Held-out rows; only the assistant's own words carry weight.
    pub held_out: Packed,
    /// UTF-8 bytes of each token, 0 for control tokens. `[V]`
    pub token_bytes: Vec<u8>,
    /// Fingerprint of the data and the settings that decide its order.
    pub fingerprint: String,
}

/// How long a run goes and what it leaves behind.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where checkpoints and the log go.
    pub output_dir: PathBuf,
    /// The learning rate's course; its `max_steps` ends the run.
    pub schedule: Schedule,
    /// Rows in a step.
    pub batch_rows: usize,
    /// Rows computed at once.
    pub micro_rows: usize,
    /// Steps between checkpoints.
    pub save_steps: u64,
    /// Checkpoints kept.
    pub save_total_limit: usize,
    /// Steps between log lines.
    pub logging_steps: u64,
    /// Steps between measurements on held-out text; 0 never measures.
    pub eval_steps: u64,
    /// Rows of held-out text used for them.
    pub eval_rows: usize,
}

/// How a run is watched and continued.
pub struct Session<'a> {
    /// Go on from the newest checkpoint.
    pub resume: bool,
    /// Steps done and tokens seen by the weights that a fresh run begins with.
    pub done: (u64, u64),
    /// Print log entries as JSON.
    pub json: bool,
    /// Raised to stop after the current step.
    pub stop: &'a AtomicBool,
}

/// Something that learns from batches.
pub trait Learner: Sized {
    /// Adds a micro-batch's gradients, divided by `total_weight`; returns its loss sum.
    fn accumulate(&mut self, spec: &Arc<block::Spec>, batch: &Batch, total_weight: f32) -> f64;
    /// Applies the gradients with all learning rates multiplied by `rate`.
    fn update(&mut self, rate: f64);
    /// The loss sum of a batch, without gradients.
    fn loss_sum(&self, spec: &Arc<block::Spec>, batch: &Batch) -> f64;
    /// Writes everything but the state.
    fn save(&self, draft: &Draft) -> Result<()>;
    /// Replaces itself by what `save` wrote.
    fn restore(self, checkpoint: &Path) -> Result<Self>;
}

/// How a run ended.
pub enum Outcome<L> {
    /// All steps are done.
    Finished(L),
    /// It was asked to stop and saved a checkpoint.
    Interrupted,
}

/// Trains `learner` as planned.
pub fn run<L: Learner>(
    mut learner: L,
    plan: &Plan,
    spec: &Arc<block::Spec>,
    inputs: &Inputs,
    session: &Session,
) -> Result<Outcome<L>> {
    std::fs::create_dir_all(&plan.output_dir)
        .with_context(|| format!("cannot create {}", plan.output_dir.display()))?;
    let mut state = State {
        step: session.done.0,
        tokens: session.done.1,
        loss: 0.0,
        data: inputs.fingerprint.clone(),
    };
    if session.resume
        && let Some(path) = checkpoint::latest(&plan.output_dir)?
    {
        state = checkpoint::state(&path)?;
        ensure!(
            state.data == inputs.fingerprint,
            "{} was made with other data or settings; use another output_dir or restore them",
            path.display()
        );
        learner = learner.restore(&path)?;
    }
    let max_steps = plan.schedule.max_steps;
    let mut progress = Progress::new(
        &plan.output_dir,
        max_steps,
        state.step,
        state.tokens,
        session.json,
    )?;
    while state.step < max_steps {
        if session.stop.load(Ordering::Relaxed) {
            let saved = save(&learner, plan, &state)?;
            progress.finish(format!(
                "stopped; go on with --resume (saved {})",
                saved.display()
            ));
            return Ok(Outcome::Interrupted);
        }
        let rate = plan.schedule.factor(state.step);
        step(&mut learner, plan, spec, &inputs.train, &mut state, rate)?;
        let last = state.step == max_steps;
        let measure = plan.eval_steps > 0 && (last || state.step.is_multiple_of(plan.eval_steps));
        let entry = Entry {
            step: state.step,
            tokens: state.tokens,
            loss: state.loss,
            rate,
            tokens_per_s: progress.tokens_per_s(state.tokens),
            bits_per_byte: measure.then(|| held_out_bits_per_byte(&learner, plan, spec, inputs)),
        };
        progress.step(
            &entry,
            measure || state.step.is_multiple_of(plan.logging_steps),
        )?;
        if last || state.step.is_multiple_of(plan.save_steps) {
            save(&learner, plan, &state)?;
        }
    }
    progress.finish(format!(
        "done: {} steps, {} tokens",
        state.step, state.tokens
    ));
    Ok(Outcome::Finished(learner))
}

fn step<L: Learner>(
    learner: &mut L,
    plan: &Plan,
    spec: &Arc<block::Spec>,
    train: &Packed,
    state: &mut State,
    rate: f64,
) -> Result<()> {
    let batch = train.batch(state.step, plan.batch_rows);
    let total_weight = batch.weights.iter().sum::<f32>().max(1e-6);
    let loss_sum: f64 = batch
        .split(plan.micro_rows)
        .map(|micro| learner.accumulate(spec, &micro, total_weight))
        .sum();
    let loss = loss_sum / f64::from(total_weight);
    ensure!(
        loss.is_finite(),
        "the loss became {loss} at step {}; lower the learning rates",
        state.step
    );
    learner.update(rate);
    state.step += 1;
    state.tokens += batch.tokens.len() as u64;
    state.loss = loss;
    Ok(())
}

fn save<L: Learner>(learner: &L, plan: &Plan, state: &State) -> Result<PathBuf> {
    let draft = Draft::begin(&plan.output_dir, state.step)?;
    learner.save(&draft)?;
    draft.finish(state, plan.save_total_limit)
}

/// Bits per byte of the weighted tokens of the first held-out rows.
fn held_out_bits_per_byte<L: Learner>(
    learner: &L,
    plan: &Plan,
    spec: &Arc<block::Spec>,
    inputs: &Inputs,
) -> f64 {
    let held_out = &inputs.held_out;
    let (mut nats, mut bytes) = (0.0, 0u64);
    for batch in held_out.rows(0, plan.eval_rows).split(plan.micro_rows) {
        nats += learner.loss_sum(spec, &batch);
        let weighted = batch
            .targets
            .iter()
            .zip(&batch.weights)
            .filter(|(_, weight)| **weight > 0.0);
        let width = |id: u32| inputs.token_bytes.get(id as usize).copied().unwrap_or(0);
        bytes += weighted.map(|(id, _)| u64::from(width(*id))).sum::<u64>();
    }
    nats / std::f64::consts::LN_2 / bytes.max(1) as f64
}
