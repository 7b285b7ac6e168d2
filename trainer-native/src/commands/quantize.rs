//! `meetara-train quantize`: a GGUF file in a smaller type.

use std::path::PathBuf;

use anyhow::{Context, Result};
use meetara_format::mix::FileType;
use serde_json::json;

use super::read_file;
use crate::gguf::{quantise, save};

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The file to quantise; F32, F16 or BF16 lose least.
    input: PathBuf,
    /// Where to write the result.
    output: PathBuf,
    /// File type: Q4_K_M, Q8_0, Q6_K ...
    #[arg(long = "type", default_value = "Q4_K_M")]
    file_type: FileType,
}

/// Runs the command.
pub fn run(args: Args, json: bool) -> Result<()> {
    let file = read_file(&args.input)?;
    let bytes = quantise::convert(&file, args.file_type)
        .with_context(|| args.input.display().to_string())?;
    save::write_file(&args.output, &bytes)?;
    if json {
        println!(
            "{}",
            json!({"output": args.output, "bytes": bytes.len(), "type": args.file_type.name(), "input_bytes": file.len()})
        );
    } else {
        let mb = |bytes: usize| bytes as f64 / 1e6;
        println!(
            "{}: {}, {:.2} MB from {:.2} MB",
            args.output.display(),
            args.file_type.name(),
            mb(bytes.len()),
            mb(file.len())
        );
    }
    Ok(())
}
