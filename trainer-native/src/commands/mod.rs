//! The command line: one file a command.

mod bench;
mod device;
mod emotion;
mod eval;
mod export;
mod generate;
mod import;
mod inspect;
mod masked;
mod pretrain;
mod quantize;
mod run;
mod tokenize;
mod tokenizer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

pub use device::{Device, OnDevice};

use crate::data::pack::Packed;
use crate::data::prepare::Prepared;
use crate::emotion::course::Watched;
use crate::gguf::save;
use crate::train::driver::Session;

/// Trains, quantises, exports and measures small chat models.
#[derive(Parser)]
#[command(name = "meetara-train", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print results as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Threads for computing; 0 takes every core.
    #[arg(long, global = true, default_value_t = 0)]
    threads: usize,
    /// Where to train: cpu, wgpu, cuda, or auto.
    #[arg(long, global = true, default_value = "auto")]
    device: Device,
}

#[derive(Subcommand)]
enum Command {
    /// Make a byte-level BPE vocabulary from text.
    Tokenizer(tokenizer::Args),
    /// Train a base model from nothing.
    Pretrain(pretrain::Args),
    /// Train a domain expert: a low-rank adapter over a base, merged and quantised.
    Run(Box<run::Args>),
    /// Train a small encoder that reads feelings, domains and danger.
    Emotion(emotion::Args),
    /// Write a training checkpoint as a GGUF file.
    Export(export::Args),
    /// Write a GGUF file in a smaller type.
    Quantize(quantize::Args),
    /// Write an encoder from a Hugging Face folder as a GGUF file.
    Import(import::Args),
    /// Measure bits per byte of the assistant's turns.
    Eval(eval::Args),
    /// Print one reply of a model.
    Generate(generate::Args),
    /// Print the ids of a text.
    Tokenize(tokenize::Args),
    /// Print what a GGUF file holds.
    Inspect(inspect::Args),
    /// Time one training step on the CPU.
    Bench(bench::Args),
}

impl Cli {
    /// Runs the command that was asked for.
    pub fn run(self) -> Result<()> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads)
            .build_global()?;
        let (json, device) = (self.json, self.device);
        match self.command {
            Command::Tokenizer(args) => tokenizer::run(args, json),
            Command::Pretrain(args) => pretrain::run(args, device, json),
            Command::Run(args) => run::run(*args, device, json),
            Command::Emotion(args) => emotion::run(args, device, json),
            Command::Export(args) => export::run(args, json),
            Command::Quantize(args) => quantize::run(args, json),
            Command::Import(args) => import::run(args, json),
            Command::Eval(args) => eval::run(args, json),
            Command::Generate(args) => generate::run(args, json),
            Command::Tokenize(args) => tokenize::run(args, json),
            Command::Inspect(args) => inspect::run(args, json),
            Command::Bench(args) => bench::run(args, json),
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// How a person follows and stops a run.
struct Watch {
    resume: bool,
    json: bool,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// The first Ctrl-C ends the run after the current step, with a checkpoint; the second ends it at once.
    fn new(resume: bool, json: bool) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            eprintln!(
                "stopping after this step; press Ctrl-C again to stop at once without saving"
            );
        })?;
        Ok(Self { resume, json, stop })
    }

    /// Writes what a run made, and says where.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        save::write_file(path, bytes)?;
        if self.json {
            println!("{}", json!({"output": path, "bytes": bytes.len()}));
        } else {
            println!("wrote {}", path.display());
        }
        Ok(())
    }

    fn watched(&self) -> Watched<'_> {
        Watched {
            resume: self.resume,
            json: self.json,
            stop: &self.stop,
        }
    }

    fn session(&self, done: (u64, u64)) -> Session<'_> {
        Session {
            resume: self.resume,
            done,
            json: self.json,
            stop: &self.stop,
        }
    }
}

/// Tells what the data came to.
fn describe(prepared: &Prepared) {
    for source in &prepared.stats {
        eprintln!(
            "{}: {} examples, {} tokens an epoch, {} held out",
            source.name, source.train_examples, source.epoch_tokens, source.held_out_examples
        );
    }
    eprintln!(
        "{} rows an epoch, {:.1} % full",
        prepared.train.n_rows(),
        100.0 * prepared.train.fill()
    );
}

/// SHA-256 over the settings that decide the batches, and over every token and how often it is used.
fn fingerprint(train: &Packed, settings: &impl Serialize) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(settings)?);
    for number in train.pieces().ids.iter().chain(&train.pieces().uses) {
        hash.update(number.to_le_bytes());
    }
    Ok(hex(hash))
}

fn hex(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
