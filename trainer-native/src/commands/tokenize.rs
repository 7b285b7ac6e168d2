//! `meetara-train tokenize`: text as the ids that a model sees.

use std::path::PathBuf;

use anyhow::{Context, Result};
use meetara_engine::tokenizer::{Special, Tokenizer};
use meetara_format::Gguf;
use serde_json::json;

use super::read_file;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// A GGUF file; only its vocabulary is used.
    #[arg(long)]
    model: PathBuf,
    /// The text.
    #[arg(long)]
    text: String,
    /// Take control tokens in the text as plain text.
    #[arg(long)]
    no_special: bool,
}

/// Runs the command.
pub fn run(args: Args, as_json: bool) -> Result<()> {
    let file = read_file(&args.model)?;
    let gguf =
        Gguf::parse(&file, file.len() as u64).with_context(|| args.model.display().to_string())?;
    let tokenizer = Tokenizer::from_gguf(&gguf)?;
    let special = if args.no_special {
        Special::Text
    } else {
        Special::Parse
    };
    let ids = tokenizer.encode(&args.text, special)?;
    if as_json {
        let pieces: Vec<&str> = ids.iter().map(|id| tokenizer.token_text(*id)).collect();
        println!("{}", json!({"ids": ids, "pieces": pieces}));
    } else {
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        println!("{}", ids.join(" "));
    }
    Ok(())
}
