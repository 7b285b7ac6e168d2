//! `meetara-train pretrain`: a base model from nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::config::{self, Pretrain};
use crate::data::encode::{ChatFormat, Weights};
use crate::data::prepare::{PrepareConfig, prepare};
use crate::model::cpu::Cpu;
use crate::tokenizer::{BpeVocab, Encoder};
use crate::train::pretrain::{Inputs, run as train};

/// Arguments; each flag overrides the configuration's key of the same name.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration, `.toml` or `.yaml`.
    #[arg(long)]
    config: PathBuf,
    /// Go on from the newest checkpoint in the output folder.
    #[arg(long)]
    resume: bool,
    /// Where checkpoints and the log go.
    #[arg(long)]
    output_dir: Option<PathBuf>,
    /// Steps in all.
    #[arg(long)]
    max_steps: Option<u64>,
    /// Steps of falling learning rate at the end.
    #[arg(long)]
    decay_steps: Option<u64>,
    /// Seed of the weights and the order of the data.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the command.
pub fn run(args: Args, json: bool) -> Result<()> {
    let mut config: Pretrain = config::read(&args.config)?;
    if let Some(value) = args.output_dir {
        config.output_dir = value;
    }
    if let Some(value) = args.max_steps {
        config.max_steps = value;
    }
    if let Some(value) = args.decay_steps {
        config.decay_steps = value;
    }
    if let Some(value) = args.seed {
        config.seed = value;
    }
    config.validate()?;
    let inputs = inputs(&config)?;
    let stop = stop_on_ctrl_c()?;
    train::<Cpu>(
        &config,
        &inputs,
        args.resume,
        json,
        &stop,
        &Default::default(),
    )?;
    Ok(())
}

fn inputs(config: &Pretrain) -> Result<Inputs> {
    let vocab = BpeVocab::load(&config.tokenizer)?;
    anyhow::ensure!(
        vocab.len() == config.model.vocab_size,
        "{} holds {} tokens, but model.vocab_size is {}",
        config.tokenizer.display(),
        vocab.len(),
        config.model.vocab_size
    );
    let token_bytes = vocab.token_bytes();
    let settings = PrepareConfig {
        sources: config.datasets.clone(),
        seq_len: config.sequence_len,
        holdout_permille: config.holdout_permille,
        weights: Weights {
            prompt: config.user_loss_weight,
        },
        seed: config.seed,
        n_threads: rayon::current_num_threads(),
    };
    let prepared = prepare(
        &settings,
        Encoder::new(&vocab)?,
        ChatFormat::pocket(),
        &token_bytes,
    )?;
    for source in &prepared.stats {
        eprintln!(
            "{}: {} examples, {} tokens an epoch, {} held out",
            source.name, source.train_examples, source.epoch_tokens, source.held_out_examples
        );
    }
    let held_out = prepared
        .held_out
        .context("nothing was held out; raise holdout_permille")?;
    eprintln!(
        "{} rows of {} tokens an epoch, {:.1} % full; {} held-out rows",
        prepared.train.n_rows(),
        config.sequence_len,
        100.0 * prepared.train.fill(),
        held_out.n_rows()
    );
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(&(
        &config.model,
        config.sequence_len,
        config.micro_batch_size * config.gradient_accumulation_steps,
        config.user_loss_weight,
        config.seed,
    ))?);
    for id in &prepared.train.pieces().ids {
        hash.update(id.to_le_bytes());
    }
    let fingerprint = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(Inputs {
        train: prepared.train,
        held_out,
        token_bytes,
        fingerprint,
    })
}

/// A flag that the first Ctrl-C raises; the second ends the process as usual.
fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; press Ctrl-C again to stop at once without saving");
    })?;
    Ok(stop)
}
