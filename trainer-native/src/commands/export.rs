//! `meetara-train export`: a training checkpoint as a GGUF file.

use std::path::PathBuf;

use anyhow::{Context, Result};
use burn::backend::flex::Flex;
use burn::module::Module;
use meetara_format::mix::{ArchInfo, FileType};
use serde_json::json;

use crate::config::{self, Pretrain};
use crate::gguf::{quantise, save};
use crate::model::init;
use crate::tokenizer::BpeVocab;
use crate::train::checkpoint;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration that the run was started with.
    #[arg(long)]
    config: PathBuf,
    /// A checkpoint folder; the newest of the configuration's output folder when left out.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// File type: F32, F16, BF16, Q8_0, Q4_K_M ...
    #[arg(long = "type", default_value = "Q4_K_M")]
    file_type: FileType,
    /// `general.name` of the file.
    #[arg(long, default_value = "MeeTARA pocket")]
    name: String,
    /// Where to write it.
    #[arg(long)]
    output: PathBuf,
}

/// Runs the command.
pub fn run(args: Args, json: bool) -> Result<()> {
    let config: Pretrain = config::read(&args.config)?;
    let checkpoint = match args.checkpoint {
        Some(path) => path,
        None => checkpoint::latest(&config.output_dir)?
            .with_context(|| format!("{} holds no checkpoint", config.output_dir.display()))?,
    };
    let state = checkpoint::state(&checkpoint)?;
    let device = Default::default();
    let model = init::llama::<Flex>(&config.model, config.seed, &device)
        .load_record(checkpoint::get::<Flex, _>(&checkpoint, "model", &device)?);
    let vocab = BpeVocab::load(&config.tokenizer)?;
    let mut writer = save::header(&config.model, &vocab, &args.name);
    writer.set("meetara.training.steps", state.step as u32);
    writer.set("meetara.training.tokens", state.tokens);
    writer.set("meetara.training.seed", config.seed);
    writer.set("meetara.training.data_sha256", state.data.as_str());
    let arch = ArchInfo {
        n_layer: config.model.block_count as u32,
        tied_embeddings: true,
    };
    let bytes = quantise::write(writer, args.file_type, &arch, &save::tensors(&model)?)?;
    save::write_file(&args.output, &bytes)?;
    let size_mb = bytes.len() as f64 / 1e6;
    if json {
        let report = json!({"output": args.output, "bytes": bytes.len(), "type": args.file_type.name(), "step": state.step});
        println!("{report}");
    } else {
        println!(
            "{}: step {}, {}, {size_mb:.2} MB",
            args.output.display(),
            state.step,
            args.file_type.name()
        );
    }
    Ok(())
}
