//! The command line: one file a command.

mod pretrain;
mod tokenizer;

use anyhow::Result;
use clap::{Parser, Subcommand};

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
}

#[derive(Subcommand)]
enum Command {
    /// Make a byte-level BPE vocabulary from text.
    Tokenizer(tokenizer::Args),
    /// Train a base model from nothing.
    Pretrain(pretrain::Args),
}

impl Cli {
    /// Runs the command that was asked for.
    pub fn run(self) -> Result<()> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads)
            .build_global()?;
        match self.command {
            Command::Tokenizer(args) => tokenizer::run(args, self.json),
            Command::Pretrain(args) => pretrain::run(args, self.json),
        }
    }
}
