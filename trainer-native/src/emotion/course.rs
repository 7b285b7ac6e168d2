//! The loop that both kinds of training of an encoder share: steps by number, log, measurements,
//! checkpoints, and stopping between two steps.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use serde::Serialize;

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
