//! The loop that both kinds of training of an encoder share: steps by number, log, measurements,
//! checkpoints, and stopping between two steps.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use rand::seq::SliceRandom;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::sync::Arc;

use crate::kernels::encoder_block::Dropout;
use crate::train::checkpoint::{self, Draft, State};
use crate::train::driver::Outcome;
use crate::train::progress::{Entry, Progress};
use crate::train::schedule::Schedule;

/// How long a run goes and what it leaves behind.
#[derive(Clone, Copy, Debug)]
pub struct Course<'a> {
    /// Where checkpoints and the log go.
    pub output_dir: &'a Path,
    /// The learning rates' course; its `max_steps` ends the run.
    pub schedule: Schedule,
    /// Steps between checkpoints.
    pub save_steps: u64,
    /// Steps between log lines.
    pub logging_steps: u64,
    /// Steps between measurements; 0 measures at the end only.
    pub eval_steps: u64,
    /// Names the data and settings that decide the batches.
    pub fingerprint: &'a str,
}

/// How a run is watched and continued.
#[derive(Clone, Copy, Debug)]
pub struct Watched<'a> {
    /// Go on from the newest checkpoint.
    pub resume: bool,
    /// Print log entries as JSON.
    pub json: bool,
    /// Raised to stop after the current step.
    pub stop: &'a AtomicBool,
}

/// Something that learns step by step.
pub trait Learner: Sized {
    /// What is measured on held-out texts.
    type Measured: Serialize;
    /// Takes step `step`, all learning rates multiplied by `rate`; the loss and the tokens seen.
    fn step(&mut self, step: u64, rate: f64) -> (f64, u64);
    /// How good it is after `step` steps.
    fn measure(&self, step: u64) -> Self::Measured;
    /// Writes everything but the state.
    fn save(&self, draft: &Draft) -> Result<()>;
    /// Replaces itself by what `save` wrote.
    fn restore(self, checkpoint: &Path) -> Result<Self>;
}

/// Trains `learner` as planned.
///
/// # Errors
/// When a checkpoint cannot be written, was made from other data, or the loss is no number.
pub fn run<L: Learner>(
    mut learner: L,
    course: &Course<'_>,
    watched: &Watched<'_>,
) -> Result<Outcome<L>> {
    std::fs::create_dir_all(course.output_dir)?;
    let mut state = State {
        step: 0,
        tokens: 0,
        loss: 0.0,
        data: course.fingerprint.into(),
    };
    if watched.resume
        && let Some(path) = checkpoint::latest(course.output_dir)?
    {
        state = checkpoint::state(&path)?;
        ensure!(
            state.data == course.fingerprint,
            "{} was made with other data or settings; use another output_dir or restore them",
            path.display()
        );
        learner = learner.restore(&path)?;
    }
    let max_steps = course.schedule.max_steps;
    let mut progress = Progress::new(
        course.output_dir,
        max_steps,
        state.step,
        state.tokens,
        watched.json,
    )?;
    while state.step < max_steps {
        if watched.stop.load(Ordering::Relaxed) {
            save(&learner, course, &state)?;
            progress.finish(String::from("stopped; go on with --resume"));
            return Ok(Outcome::Interrupted);
        }
        let rate = course.schedule.factor(state.step);
        let (loss, tokens) = learner.step(state.step, rate);
        ensure!(
            loss.is_finite(),
            "the loss became {loss} at step {}; lower the learning rates",
            state.step
        );
        state.step += 1;
        state.tokens += tokens;
        state.loss = if state.loss == 0.0 {
            loss
        } else {
            0.95 * state.loss + 0.05 * loss
        };
        let entry = Entry {
            step: state.step,
            tokens: state.tokens,
            loss: state.loss,
            rate,
            tokens_per_s: progress.tokens_per_s(state.tokens),
            bits_per_byte: None,
        };
        progress.step(&entry, state.step.is_multiple_of(course.logging_steps))?;
        let last = state.step == max_steps;
        if last || (course.eval_steps > 0 && state.step.is_multiple_of(course.eval_steps)) {
            progress.note(&learner.measure(state.step))?;
        }
        if last || state.step.is_multiple_of(course.save_steps) {
            save(&learner, course, &state)?;
        }
    }
    progress.finish(format!(
        "done: {} steps, {} tokens",
        state.step, state.tokens
    ));
    Ok(Outcome::Finished(learner))
}

fn save<L: Learner>(learner: &L, course: &Course<'_>, state: &State) -> Result<()> {
    let draft = Draft::begin(course.output_dir, state.step)?;
    learner.save(&draft)?;
    draft.finish(state, 2)?;
    Ok(())
}

/// The texts of step `step`: the epochs, each shuffled by its own seed, cut into batches of `size`.
pub fn batch<T>(train: &[T], size: usize, seed: u64, step: u64) -> Vec<&T> {
    let n = train.len() as u64;
    let first = step * size as u64;
    let mut batch = Vec::with_capacity(size);
    let mut order: (u64, Vec<u32>) = (u64::MAX, Vec::new());
    for at in first..first + size as u64 {
        let epoch = at / n;
        if order.0 != epoch {
            let mut ids: Vec<u32> = (0..n as u32).collect();
            ids.shuffle(&mut ChaCha8Rng::seed_from_u64(seed.wrapping_add(epoch)));
            order = (epoch, ids);
        }
        batch.push(&train[order.1[(at % n) as usize] as usize]);
    }
    batch
}

/// A seed for what is random in step `step`.
pub fn seed_of(seed: u64, step: u64) -> u64 {
    seed ^ (step + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What dropout keeps after the embeddings and in each block, `len` elements twice each; nothing is dropped
/// where `share` is 0.
pub fn dropouts(blocks: usize, len: usize, share: f32, seed: u64) -> Option<Vec<Arc<Dropout>>> {
    if share <= 0.0 {
        return None;
    }
    // Eight random bits an element: shares are multiples of 1 / 256.
    let limit = (share * 256.0).round() as u8;
    let factor = 256.0 / (256.0 - f32::from(limit));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut bytes = vec![0u8; len];
    let mut one = || -> Vec<f32> {
        rng.fill_bytes(&mut bytes);
        bytes
            .iter()
            .map(|byte| if *byte < limit { 0.0 } else { factor })
            .collect()
    };
    Some((0..=blocks).map(|_| Arc::new([one(), one()])).collect())
}
