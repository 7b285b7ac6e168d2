//! `meetara-train pretrain`: a base model from nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::module::AutodiffModule;
use meetara_engine::model::Model;

use super::{Device, Watch, describe, fingerprint, read_file};
use crate::config::{self, Pretrain};
use crate::data::encode::{ChatFormat, Weights};
use crate::data::prepare::{PrepareConfig, prepare};
use crate::gguf::load;
use crate::model::{Llama, TrainBackend};
use crate::tokenizer::{BpeVocab, Encoder};
use crate::train::driver::{self, Inputs};
use crate::train::pretrain::WholeModel;

/// Arguments; each flag overrides the configuration's key of the same name.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration, `.toml` or `.yaml`.
    #[arg(long)]
    config: PathBuf,
    /// Go on from the newest checkpoint in the output folder.
    #[arg(long)]
    resume: bool,
    /// Begin with the weights of a GGUF file that `export` wrote, at the step it was taken at.
    /// The optimisers begin anew.
    #[arg(long, conflicts_with = "resume")]
    init: Option<PathBuf>,
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
pub fn run(args: Args, device: Device, json: bool) -> Result<()> {
    let mut config: Pretrain = config::read(&args.config)?;
    config.output_dir = args.output_dir.unwrap_or(config.output_dir);
    config.max_steps = args.max_steps.unwrap_or(config.max_steps);
    config.decay_steps = args.decay_steps.unwrap_or(config.decay_steps);
    config.seed = args.seed.unwrap_or(config.seed);
    config.validate()?;
    let inputs = inputs(&config)?;
    let init = args
        .init
        .as_deref()
        .map(|path| Init::read(path, &config))
        .transpose()?;
    let watch = Watch::new(args.resume, json)?;
    device.with(Training {
        config,
        inputs,
        init,
        watch,
    })
}

/// Weights to begin with.
struct Init {
    file: Vec<u8>,
    /// Steps done and tokens seen.
    done: (u64, u64),
}

impl Init {
    fn read(path: &Path, config: &Pretrain) -> Result<Self> {
        let file = read_file(path)?;
        let model = Model::load(file.clone()).with_context(|| path.display().to_string())?;
        ensure!(
            load::spec(&model)? == config.model,
            "{} has another shape than the configuration's model",
            path.display()
        );
        let count = |key: &str| -> Result<u64> { Ok(model.gguf().get_u64(key)?.unwrap_or(0)) };
        let done = (
            count("meetara.training.steps")?,
            count("meetara.training.tokens")?,
        );
        Ok(Self { file, done })
    }
}

struct Training {
    config: Pretrain,
    inputs: Inputs,
    init: Option<Init>,
    watch: Watch,
}

impl super::OnDevice for Training {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()>
    where
        Llama<B>: AutodiffModule<B>,
        crate::model::Lora<B>: AutodiffModule<B>,
    {
        let Self {
            config,
            inputs,
            init,
            watch,
        } = self;
        let spec = config.model.block_spec(config.sequence_len);
        let mut learner = WholeModel::<B>::new(&config, &device);
        let mut done = (0, 0);
        if let Some(init) = init {
            learner.model = load::llama(&config.model, &init.file, &device)?;
            done = init.done;
        }
        driver::run(
            learner,
            &config.plan(),
            &spec,
            &inputs,
            &watch.session(done),
        )?;
        Ok(())
    }
}

fn inputs(config: &Pretrain) -> Result<Inputs> {
    let vocab = BpeVocab::load(&config.tokenizer)?;
    ensure!(
        vocab.len() == config.model.vocab_size,
        "{} holds {} tokens, but model.vocab_size is {}",
        config.tokenizer.display(),
        vocab.len(),
        config.model.vocab_size
    );
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
    let prepared = prepare(&settings, Encoder::new(&vocab)?, ChatFormat::pocket())?;
    describe(&prepared);
    let rows = config.micro_batch_size * config.gradient_accumulation_steps;
    let fingerprint = fingerprint(
        &prepared.train,
        &(&config.model, rows, config.user_loss_weight, config.seed),
    )?;
    Ok(Inputs {
        train: prepared.train,
        held_out: prepared
            .held_out
            .context("nothing was held out; raise holdout_permille")?,
        token_bytes: vocab.token_bytes(),
        fingerprint,
    })
}
