//! What a person sees while a run goes on: a bar with loss, tokens a second and time left; and the
//! same figures as JSON lines in the output folder.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// One line of the log.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Step just done.
    pub step: u64,
    /// Tokens seen in all.
    pub tokens: u64,
    /// Mean loss of the step's weighted tokens, nats.
    pub loss: f64,
    /// Factor of the learning rates.
    pub rate: f64,
    /// Tokens a second since this start.
    pub tokens_per_s: f64,
    /// Held-out bits per byte, at the steps where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
}

/// The bar and the log.
pub struct Progress {
    bar: ProgressBar,
    log: File,
    started: Instant,
    tokens_at_start: u64,
    json: bool,
}

impl Progress {
    /// Shows a bar on a terminal; with `json` prints each entry to standard output instead.
    pub fn new(output: &Path, max_steps: u64, step: u64, tokens: u64, json: bool) -> Result<Self> {
        let path = output.join("log.jsonl");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let target = if json {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(max_steps), target);
        bar.set_style(ProgressStyle::with_template(
            "{bar:32} {pos}/{len}  {msg}  {eta_precise} left",
        )?);
        bar.set_position(step);
        bar.reset_eta();
        Ok(Self {
            bar,
            log,
            started: Instant::now(),
            tokens_at_start: tokens,
            json,
        })
    }

    /// Tokens a second since this start.
    pub fn tokens_per_s(&self, tokens: u64) -> f64 {
        (tokens - self.tokens_at_start) as f64 / self.started.elapsed().as_secs_f64().max(1e-9)
    }

    /// Shows a step, and logs it when `keep`.
    pub fn step(&mut self, entry: &Entry, keep: bool) -> Result<()> {
        let bits = entry
            .bits_per_byte
            .map(|b| format!("  held-out {b:.3} bits/byte"))
            .unwrap_or_default();
        self.bar.set_message(format!(
            "loss {:.4}  {:.0} tokens/s{bits}",
            entry.loss, entry.tokens_per_s
        ));
        self.bar.set_position(entry.step);
        if keep {
            let line = serde_json::to_string(entry)?;
            writeln!(self.log, "{line}").context("cannot write the log; is the disk full?")?;
            if self.json {
                println!("{line}");
            } else if self.bar.is_hidden() {
                eprintln!(
                    "step {} loss {:.4} {:.0} tokens/s{bits}",
                    entry.step, entry.loss, entry.tokens_per_s
                );
            }
        }
        Ok(())
    }

    /// Logs a measurement of another shape, and shows it.
    pub fn note(&mut self, figures: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(figures)?;
        writeln!(self.log, "{line}").context("cannot write the log; is the disk full?")?;
        if self.json {
            println!("{line}");
        } else {
            self.bar.suspend(|| eprintln!("{line}"));
        }
        Ok(())
    }

    /// Leaves the last line standing.
    pub fn finish(&self, message: String) {
        self.bar.abandon_with_message(message.clone());
        if self.bar.is_hidden() && !self.json {
            eprintln!("{message}");
        }
    }
}
