//! `meetara-train emotion pretrain`: the body of an encoder from plain texts, by guessing tokens that are
//! left out. `encoder-F32.gguf` in the output folder is a base for `meetara-train emotion text`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use burn::module::AutodiffModule;
use sha2::{Digest, Sha256};

use super::{Device, OnDevice, Watch, read_file};
use crate::config;
use crate::emotion::course::{self, Course};
use crate::emotion::masked::{self, Guesser, Masked, MaskedConfig, Vocabulary};
use crate::gguf::encoder;
use crate::model::{Encoder, Heads, Llama, Lora, TrainBackend, init};
use crate::train::driver::Outcome;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration, `.toml` or `.yaml`.
    #[arg(long)]
    config: PathBuf,
    /// An encoder as GGUF that gives vocabulary and shape.
    #[arg(long)]
    base_model: Option<PathBuf>,
    /// Where checkpoints, the log and the model go.
    #[arg(long)]
    output_dir: Option<PathBuf>,
    /// Steps in all.
    #[arg(long)]
    max_steps: Option<u64>,
    /// Go on from the newest checkpoint in the output folder.
    #[arg(long)]
    resume: bool,
}

/// Runs the command.
pub fn run(args: Args, device: Device, json: bool) -> Result<()> {
    let mut config: MaskedConfig = config::read(&args.config)?;
    if let Some(path) = args.base_model {
        config.base_model = path;
    }
    if let Some(path) = args.output_dir {
        config.output_dir = path;
    }
    if let Some(steps) = args.max_steps {
        config.max_steps = steps;
        config.decay_steps = config.decay_steps.min(steps);
    }
    config.validate()?;
    let file = read_file(&config.base_model)?;
    let watch = Watch::new(args.resume, json)?;
    device.with(Training {
        config,
        file,
        watch,
    })
}

struct Training {
    config: MaskedConfig,
    file: Vec<u8>,
    watch: Watch,
}

impl OnDevice for Training {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()>
    where
        Llama<B>: AutodiffModule<B>,
        Lora<B>: AutodiffModule<B>,
        Encoder<B>: AutodiffModule<B>,
        Heads<B>: AutodiffModule<B>,
        Guesser<B>: AutodiffModule<B>,
    {
        let config = &self.config;
        let base = encoder::Base::parse(&self.file)
            .with_context(|| config.base_model.display().to_string())?;
        let vocabulary = Vocabulary::new(&base.tokens)?;
        let reader = meetara_engine::encoder::Encoder::load(self.file.clone())?;
        let pieces = masked::pieces(config, &reader, &vocabulary)?;
        let size = (base.tokens.len(), encoder::MAX_POSITIONS, base.block_count);
        let body = if config.fresh {
            init::encoder::<B>(&base.spec, size, config.seed, &device)
        } else {
            let all: Vec<u32> = (0..base.tokens.len() as u32).collect();
            base.encoder::<B>(&all, base.block_count, &device)?
        };
        eprintln!(
            "{} texts of {} tokens at most, {} tokens, {} blocks",
            pieces.len(),
            config.max_tokens,
            base.tokens.len(),
            base.block_count
        );
        let learner = Masked::new(body, base.spec, vocabulary, config, &pieces, &device);
        let course = Course {
            output_dir: &config.output_dir,
            schedule: config.schedule(),
            save_steps: config.save_steps,
            logging_steps: config.logging_steps,
            eval_steps: config.eval_steps,
            fingerprint: &fingerprint(config, &self.file, &pieces)?,
        };
        let Outcome::Finished(learner) = course::run(learner, &course, &self.watch.watched())?
        else {
            return Ok(());
        };
        let none = Heads {
            weights: Vec::new(),
            biases: Vec::new(),
        };
        let bytes = base.write(&config.name, &base.tokens, &learner.encoder, (&none, &[]))?;
        let path = config.output_dir.join("encoder-F32.gguf");
        self.watch.write(&path, &bytes)
    }
}

/// SHA-256 over what decides the batches and the weights that a run begins with.
fn fingerprint(config: &MaskedConfig, base: &[u8], pieces: &[Vec<u32>]) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(&(
        config.batch_size,
        config.seed,
        config.fresh,
        config.mask_share,
        config.eval_texts,
    ))?);
    hash.update(base);
    for id in pieces.iter().flatten() {
        hash.update(id.to_le_bytes());
    }
    Ok(super::hex(hash))
}
