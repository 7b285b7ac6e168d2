//! `meetara-train import`: an encoder from a Hugging Face folder as a GGUF file.

use std::path::PathBuf;

use anyhow::{Context, Result};
use meetara_engine::encoder::Encoder;
use meetara_format::mix::FileType;
use serde_json::json;

use crate::gguf::save;
use crate::import;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The folder: config.json, model.safetensors or pytorch_model.bin, and the tokenizer's files.
    folder: PathBuf,
    /// Where to write the file.
    output: PathBuf,
    /// File type: F32, F16, Q8_0, Q5_1, Q4_1 ...
    #[arg(long = "type", default_value = "F16")]
    file_type: FileType,
}

/// Runs the command.
pub fn run(args: Args, json: bool) -> Result<()> {
    let bytes = import::encoder(&args.folder, args.file_type)
        .with_context(|| args.folder.display().to_string())?;
    // What the engine would refuse is not written.
    let encoder = Encoder::load(bytes.clone()).context("the engine does not take the result")?;
    save::write_file(&args.output, &bytes)?;
    let config = encoder.config();
    let labels: Vec<&str> = encoder
        .heads()
        .iter()
        .flat_map(|head| &head.labels)
        .map(String::as_str)
        .collect();
    let kind = args.file_type.name();
    if json {
        println!(
            "{}",
            json!({
                "output": args.output, "bytes": bytes.len(), "type": kind, "layers": config.n_layer,
                "width": config.n_embd, "tokens_max": encoder.tokens_max(), "labels": labels,
            })
        );
    } else {
        println!(
            "{}: {kind}, {:.2} MB, {} layers of width {}, texts of up to {} tokens{}",
            args.output.display(),
            bytes.len() as f64 / 1e6,
            config.n_layer,
            config.n_embd,
            encoder.tokens_max(),
            if labels.is_empty() {
                "; no classifier".to_owned()
            } else {
                format!("; labels: {}", labels.join(", "))
            }
        );
    }
    Ok(())
}
