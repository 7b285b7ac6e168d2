//! `meetara-train tokenizer`: a byte-level BPE vocabulary from the training part of some data.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::config::{self, Pretrain};
use crate::data::mix;
use crate::tokenizer;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// A configuration with `datasets`; the same file that `pretrain` takes.
    #[arg(long)]
    config: PathBuf,
    /// Number of ids.
    #[arg(long, default_value_t = tokenizer::VOCAB_SIZE)]
    vocab_size: usize,
    /// Where to write it; the configuration's `tokenizer` when left out.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args, json: bool) -> Result<()> {
    let config: Pretrain = config::read(&args.config)?;
    let loaded = mix::load(&config.datasets, config.holdout_permille, config.seed)?;
    let vocab = tokenizer::train(
        mix::tokenizer_texts(&loaded),
        args.vocab_size,
        &tokenizer::special_tokens(),
    )?;
    let output = args.output.unwrap_or(config.tokenizer);
    vocab.save(&output)?;
    if json {
        println!(
            "{}",
            json!({"output": output, "tokens": vocab.len(), "merges": vocab.merges.len()})
        );
    } else {
        println!(
            "{}: {} tokens, {} merges",
            output.display(),
            vocab.len(),
            vocab.merges.len()
        );
    }
    Ok(())
}
