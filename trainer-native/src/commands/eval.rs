//! `meetara-train eval`: how well a model foretells what assistants really said.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use meetara_engine::model::Model;
use serde_json::json;

use super::read_file;
use super::run::messages;
use crate::data::reader::Reader;
use crate::data::split;
use crate::measure;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// A GGUF model.
    #[arg(long)]
    model: PathBuf,
    /// JSON lines with chats; may be given several times.
    #[arg(long, required = true)]
    data: Vec<PathBuf>,
    /// Only the examples that training with this `holdout_permille` holds out.
    #[arg(long)]
    holdout_permille: Option<u32>,
    /// At most this many chats of each file.
    #[arg(long)]
    limit: Option<usize>,
}

/// Runs the command.
pub fn run(args: Args, as_json: bool) -> Result<()> {
    let model =
        Model::load(read_file(&args.model)?).with_context(|| args.model.display().to_string())?;
    let mut chats = Vec::new();
    for path in &args.data {
        let before = chats.len();
        for example in Reader::open(path)? {
            let example = example?;
            if args
                .holdout_permille
                .is_some_and(|permille| !split::is_held_out(&example, permille))
            {
                continue;
            }
            chats.extend(messages(&example));
            if args
                .limit
                .is_some_and(|limit| chats.len() - before >= limit)
            {
                break;
            }
        }
    }
    ensure!(!chats.is_empty(), "the data holds no chat to measure");
    let result = measure::bits_per_byte(&Arc::new(model), &chats)?;
    if as_json {
        println!(
            "{}",
            json!({"bits_per_byte": result.per_byte(), "bytes": result.bytes, "bits": result.bits, "chats": chats.len()})
        );
    } else {
        println!(
            "{:.4} bits per byte over {} bytes in {} chats",
            result.per_byte(),
            result.bytes,
            chats.len()
        );
    }
    Ok(())
}
