//! `meetara-train run`: a domain expert from a person's data.
//!
//! Leaves in the output folder `DOMAIN.adapter.gguf` (the low-rank pairs alone), `DOMAIN.gguf` (base and
//! adapter merged and quantised, stands alone) and `report.json`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use burn::module::AutodiffModule;
use meetara_engine::model::Model;
use meetara_engine::template::Message;
use meetara_format::mix::{ArchInfo, FileType};
use meetara_format::{Gguf, Value, Writer};
use serde_json::json;

use super::{Device, Watch, describe, fingerprint, read_file};
use crate::config::{self, LoraConfig};
use crate::data::encode::Weights;
use crate::data::mix::{self, Source};
use crate::data::prepare::{PrepareConfig, prepare};
use crate::data::template::{ModelEncoder, chat_format};
use crate::data::{Body, Example};
use crate::gguf::{adapter, load, quantise, save};
use crate::measure;
use crate::model::{Encoder, Heads, Llama, Lora, TrainBackend};
use crate::train::driver::{self, Inputs, Outcome};
use crate::train::lora::Adapter;

/// Arguments; each flag overrides the configuration's key of the same name.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration, `.toml` or `.yaml`; may be left out when --data is given.
    #[arg(long)]
    config: Option<PathBuf>,
    /// JSON lines to learn from; may be given several times.
    #[arg(long)]
    data: Vec<PathBuf>,
    /// Name of the domain.
    #[arg(long)]
    domain: Option<String>,
    /// GGUF model to start from.
    #[arg(long)]
    base_model: Option<PathBuf>,
    /// Go on from the newest checkpoint in the output folder.
    #[arg(long)]
    resume: bool,
    /// Where checkpoints, the log and the results go.
    #[arg(long)]
    output_dir: Option<PathBuf>,
    /// Steps in all.
    #[arg(long)]
    max_steps: Option<u64>,
    /// AdamW's learning rate.
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Rank of the low-rank pairs.
    #[arg(long)]
    lora_r: Option<usize>,
    /// Positions in a row.
    #[arg(long)]
    sequence_len: Option<usize>,
    /// Seed of the adapter and the order of the data.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the command.
pub fn run(args: Args, device: Device, json: bool) -> Result<()> {
    let config = settings(&args)?;
    config.validate()?;
    let base_file = read_file(&config.base_model)?;
    let base = Arc::new(
        Model::load(base_file.clone())
            .with_context(|| format!("base {}", config.base_model.display()))?,
    );
    ensure!(
        config.sequence_len <= base.config().context_len,
        "sequence_len {} is beyond the base's context of {}",
        config.sequence_len,
        base.config().context_len
    );
    let inputs = inputs(&config, &base)?;
    let held_out: Vec<Example> = mix::load(&config.datasets, config.holdout_permille, config.seed)?
        .into_iter()
        .flat_map(|source| source.held_out)
        .filter(|example| matches!(example.body, Body::Chat(_)))
        .collect();
    ensure!(
        !held_out.is_empty(),
        "no chat was held out for the quality score; raise holdout_permille"
    );
    let watch = Watch::new(args.resume, json)?;
    device.with(Training {
        config,
        base,
        base_file,
        inputs,
        held_out,
        watch,
    })
}

fn settings(args: &Args) -> Result<LoraConfig> {
    let mut config: LoraConfig = match &args.config {
        Some(path) => config::read(path)?,
        None => LoraConfig::default(),
    };
    if !args.data.is_empty() {
        config.datasets = args.data.iter().map(Source::new).collect();
    }
    if let Some(domain) = &args.domain {
        config.domain.clone_from(domain);
        if args.config.is_none() {
            config.output_dir = Path::new("runs").join(domain);
        }
    }
    if let Some(path) = &args.base_model {
        config.base_model.clone_from(path);
    }
    if let Some(path) = &args.output_dir {
        config.output_dir.clone_from(path);
    }
    if let Some(steps) = args.max_steps {
        config.max_steps = steps;
        config.decay_steps = config.decay_steps.min(steps);
    }
    config.learning_rate = args.learning_rate.unwrap_or(config.learning_rate);
    config.lora_r = args.lora_r.unwrap_or(config.lora_r);
    config.sequence_len = args.sequence_len.unwrap_or(config.sequence_len);
    config.seed = args.seed.unwrap_or(config.seed);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if config.domain.is_empty() || !config.domain.chars().all(plain) {
        bail!("domain may hold letters, digits, _ and - only; it names the output files");
    }
    Ok(config)
}

fn inputs(config: &LoraConfig, base: &Arc<Model>) -> Result<Inputs> {
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
    let prepared = prepare(&settings, ModelEncoder(base.clone()), chat_format(base)?)?;
    describe(&prepared);
    let tokenizer = base.tokenizer();
    let mut bytes = Vec::new();
    let width = |id| {
        bytes.clear();
        tokenizer.append_bytes(id, &mut bytes);
        bytes.len().min(255) as u8
    };
    let recipe = (
        config.lora_r,
        config.lora_alpha,
        config.micro_batch_size,
        config.seed,
    );
    Ok(Inputs {
        fingerprint: fingerprint(&prepared.train, &recipe)?,
        token_bytes: (0..tokenizer.len() as u32).map(width).collect(),
        train: prepared.train,
        held_out: prepared
            .held_out
            .context("nothing was held out; raise holdout_permille")?,
    })
}

struct Training {
    config: LoraConfig,
    base: Arc<Model>,
    base_file: Vec<u8>,
    inputs: Inputs,
    held_out: Vec<Example>,
    watch: Watch,
}

impl super::OnDevice for Training {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()>
    where
        Llama<B>: AutodiffModule<B>,
        Lora<B>: AutodiffModule<B>,
        Encoder<B>: AutodiffModule<B>,
        Heads<B>: AutodiffModule<B>,
    {
        let config = &self.config;
        let spec = load::spec(&self.base)?;
        B::seed(&device, config.seed);
        let learner = Adapter::<B>::new(
            load::llama(&spec, &self.base_file, &device)?,
            Lora::new(&spec, config.lora_r, config.lora_alpha, &device),
            config.learning_rate,
            &device,
        );
        let block_spec = spec.block_spec(config.sequence_len);
        let outcome = driver::run(
            learner,
            &config.plan(),
            &block_spec,
            &self.inputs,
            &self.watch.session((0, 0)),
        )?;
        match outcome {
            Outcome::Finished(learner) => self.publish(&learner.lora, learner.base.clone()),
            Outcome::Interrupted => Ok(()),
        }
    }
}

impl Training {
    /// Writes both files with the score in their metadata, and the report; refuses a score that is too low.
    fn publish<B: TrainBackend>(&self, lora: &Lora<B>, base: Llama<B>) -> Result<()>
    where
        Lora<B>: AutodiffModule<B>,
        Llama<B>: AutodiffModule<B>,
    {
        let config = &self.config;
        let merged = save::tensors(&lora.merge(base))?;
        let gguf = Gguf::parse(&self.base_file, self.base_file.len() as u64)?;
        let arch = ArchInfo::from_gguf(&gguf)?;
        let header = || {
            let mut writer = Writer::new("llama");
            for (key, value) in &gguf.metadata {
                writer.set(key, value.clone());
            }
            writer
        };
        eprintln!(
            "measuring the quality score on {} held-out chats",
            self.held_out.len()
        );
        let chats: Vec<Vec<Message>> = self.held_out.iter().filter_map(messages).collect();
        let base_bits = measure::bits_per_byte(&self.base, &chats)?.per_byte();
        let draft = quantise::write(header(), FileType::Q4_K_M, &arch, &merged)?;
        let expert = Arc::new(Model::load(draft)?);
        let expert_bits = measure::bits_per_byte(&expert, &chats)?.per_byte();
        let score = 100.0 * base_bits / expert_bits;

        let metadata = self.metadata(score);
        let mut writer = header();
        for (key, value) in &metadata {
            writer.set(key, value.clone());
        }
        writer.set(
            "general.name",
            format!("MeeTARA {}", config.domain).as_str(),
        );
        let file = |suffix: &str| config.output_dir.join(format!("{}{suffix}", config.domain));
        let report = json!({
            "domain": config.domain, "quality_score": score, "quality_min": config.quality_min,
            "base_bits_per_byte": base_bits, "expert_bits_per_byte": expert_bits,
            "held_out_chats": chats.len(), "published": score >= config.quality_min,
            "adapter": file(".adapter.gguf"), "model": file(".gguf"),
        });
        save::write_file(
            &config.output_dir.join("report.json"),
            &serde_json::to_vec_pretty(&report)?,
        )?;
        if self.watch.json {
            println!("{report}");
        } else {
            println!(
                "quality score {score:.2} % ({base_bits:.4} -> {expert_bits:.4} bits per byte on {} held-out chats)",
                chats.len()
            );
        }
        if score < config.quality_min {
            bail!(
                "the expert scores {score:.2} %, less than quality_min {}; nothing was published. \
                 More data, more steps or a lower learning rate may help",
                config.quality_min
            );
        }
        save::write_file(
            &file(".adapter.gguf"),
            &adapter::write(
                lora,
                config.lora_alpha,
                (&self.base, &self.base_file),
                &metadata,
            )?,
        )?;
        save::write_file(
            &file(".gguf"),
            &quantise::write(writer, FileType::Q4_K_M, &arch, &merged)?,
        )?;
        if !self.watch.json {
            println!(
                "wrote {} and {}",
                file(".gguf").display(),
                file(".adapter.gguf").display()
            );
        }
        Ok(())
    }

    fn metadata(&self, score: f64) -> Vec<(String, Value)> {
        let config = &self.config;
        let set = |key: &str, value: Value| (format!("meetara.{key}"), value);
        vec![
            set("domain", Value::String(config.domain.clone())),
            set("quality_score", Value::F32(score as f32)),
            set("training.seed", Value::U64(config.seed)),
            set("training.steps", Value::U32(config.max_steps as u32)),
            set(
                "training.learning_rate",
                Value::F32(config.learning_rate as f32),
            ),
            set("training.lora_r", Value::U32(config.lora_r as u32)),
            set("training.lora_alpha", Value::F32(config.lora_alpha)),
            set("training.batch", Value::U32(config.micro_batch_size as u32)),
            set(
                "training.data_sha256",
                Value::String(self.inputs.fingerprint.clone()),
            ),
        ]
    }
}

/// The turns of a chat as the engine takes them; nothing for plain text.
pub(super) fn messages(example: &Example) -> Option<Vec<Message>> {
    match &example.body {
        Body::Chat(turns) => Some(
            turns
                .iter()
                .map(|turn| Message::new(turn.role.name(), turn.content.as_str()))
                .collect(),
        ),
        Body::Text(_) => None,
    }
}
