//! `meetara-train emotion`: a small encoder that reads feelings, domains and danger from text.
//!
//! `text` trains and leaves `text-emotion-F32.gguf` in the output folder; `meetara-train quantize` makes
//! it small; `calibrate` makes its probabilities honest; `report` says how good it is. `pretrain` makes a
//! body to start from. `replies` measures what telling a chat model a feeling does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use burn::module::AutodiffModule;
use meetara_engine::emotion::Empathy;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Device, OnDevice, Watch, read_file};
use crate::config;
use crate::data::split;
use crate::emotion::config::TextConfig;
use crate::emotion::examples::{self, Example, Head};
use crate::emotion::replies::{self, Wording};
use crate::emotion::report;
use crate::emotion::train::{self, Encoded, Reader};
use crate::emotion::vocabulary;
use crate::gguf::{encoder, save};
use crate::model::{Encoder, Heads, Llama, Lora, TrainBackend};
use crate::train::driver::Outcome;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Train an encoder and its heads on labelled texts.
    Text(Box<TextArgs>),
    /// Train an encoder's body on plain texts, by guessing tokens that are left out.
    Pretrain(super::masked::Args),
    /// Set temperatures and thresholds on the held-out files, in a file of any type.
    Calibrate {
        /// The model.
        model: PathBuf,
        /// Where to write the result.
        output: PathBuf,
        /// The configuration with [[held_out]].
        #[arg(long)]
        config: PathBuf,
    },
    /// Measure a file on the test files, through the engine that users run.
    Report {
        /// The model.
        model: PathBuf,
        /// The configuration with [[tests]].
        #[arg(long)]
        config: PathBuf,
    },
    /// Measure how well a chat model foretells real answers when it is told a feeling.
    Replies(RepliesArgs),
}

#[derive(clap::Args)]
struct RepliesArgs {
    /// A GGUF chat model.
    #[arg(long)]
    model: PathBuf,
    /// Turns with `dialogue`, `turn`, `speaker` and one label each; with --reader, chats.
    #[arg(long, required = true)]
    data: Vec<PathBuf>,
    /// A text model whose head `emotion` says what the users of chats feel.
    #[arg(long)]
    reader: Option<PathBuf>,
    /// Of chats, only those that training with this `holdout_permille` holds out.
    #[arg(long)]
    holdout_permille: Option<u32>,
    /// At most this many answers, spread over all.
    #[arg(long)]
    limit: Option<usize>,
    /// A system line to measure, `{feeling}` in it replaced; may be given several times. Left out, the
    /// engine's own lines.
    #[arg(long)]
    line: Vec<String>,
    /// Seed of the wrong feelings and of the intervals.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

#[derive(clap::Args)]
struct TextArgs {
    /// The configuration, `.toml` or `.yaml`.
    #[arg(long)]
    config: PathBuf,
    /// An encoder as GGUF to start from.
    #[arg(long)]
    base_model: Option<PathBuf>,
    /// Where checkpoints, the log and the model go.
    #[arg(long)]
    output_dir: Option<PathBuf>,
    /// Steps in all.
    #[arg(long)]
    max_steps: Option<u64>,
    /// Steps of falling learning rate at the end.
    #[arg(long)]
    decay_steps: Option<u64>,
    /// AdamW's learning rate for the body.
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Blocks kept of the base.
    #[arg(long)]
    block_count: Option<usize>,
    /// Go on from the newest checkpoint in the output folder.
    #[arg(long)]
    resume: bool,
}

/// Runs the command.
pub fn run(args: Args, device: Device, json: bool) -> Result<()> {
    match args.command {
        Command::Text(args) => text(*args, device, json),
        Command::Pretrain(args) => super::masked::run(args, device, json),
        Command::Calibrate {
            model,
            output,
            config,
        } => calibrate(&model, &output, &config, json),
        Command::Report { model, config } => print_report(&model, &config, json),
        Command::Replies(args) => measure_replies(&args, json),
    }
}

fn calibrate(model: &Path, output: &Path, config: &Path, json: bool) -> Result<()> {
    let config: TextConfig = config::read(config)?;
    let file = read_file(model)?;
    let heads = report::heads(&meetara_engine::encoder::Encoder::load(file.clone())?);
    let held_out = examples::load(&config.held_out, &heads, config.seed)?;
    let recall_weight = |name: &str| {
        let head = config.heads.iter().find(|head| head.name == name);
        head.map_or(1.0, |head| head.recall_weight)
    };
    let bytes = report::calibrate(&file, &held_out, recall_weight)?;
    save::write_file(output, &bytes)?;
    if json {
        let texts = held_out.len();
        println!(
            "{}",
            json!({"output": output, "bytes": bytes.len(), "texts": texts})
        );
    } else {
        println!(
            "wrote {}, calibrated on {} texts",
            output.display(),
            held_out.len()
        );
    }
    Ok(())
}

fn print_report(model: &Path, config: &Path, json: bool) -> Result<()> {
    let config: TextConfig = config::read(config)?;
    let encoder = meetara_engine::encoder::Encoder::load(read_file(model)?)?;
    for test in &config.tests {
        for figures in report::figures(&encoder, test)? {
            if json {
                println!("{}", serde_json::to_string(&figures)?);
                continue;
            }
            println!(
                "{} / {}: {} texts, F1 macro {:.3} micro {:.3} weighted {:.3}, top-1 {:.3} top-3 {:.3}, \
                 calibration error {:.3} (before {:.3})",
                figures.test,
                figures.head,
                figures.texts,
                figures.macro_f1,
                figures.micro_f1,
                figures.weighted_f1,
                figures.top_1,
                figures.top_3,
                figures.calibration_error,
                figures.calibration_error_before
            );
            for row in figures.labels.iter().filter(|row| row.support > 0) {
                println!(
                    "  {:24} {:6} texts  precision {:.3}  recall {:.3}  F1 {:.3}",
                    row.label, row.support, row.precision, row.recall, row.f1
                );
            }
            if let Some(share) = figures.false_alarms {
                println!("  something said where nothing is right: {share:.3}");
            }
            if let Some(confusion) = &figures.confusion {
                println!("  right category, and which were said:");
                for (category, row) in confusion.categories.iter().zip(&confusion.texts) {
                    let said: Vec<String> = row.iter().map(|n| format!("{n:4}")).collect();
                    println!("  {category:24} {}", said.join(" "));
                }
            }
        }
    }
    Ok(())
}

fn measure_replies(args: &RepliesArgs, json: bool) -> Result<()> {
    let model = meetara_engine::model::Model::load(read_file(&args.model)?)
        .with_context(|| args.model.display().to_string())?;
    let mut pairs = Vec::new();
    match &args.reader {
        Some(reader) => {
            let reader = meetara_engine::encoder::Encoder::load(read_file(reader)?)?;
            let mut chats = Vec::new();
            for path in &args.data {
                for example in crate::data::reader::Reader::open(path)? {
                    let example = example?;
                    let held_out = |permille| split::is_held_out(&example, permille);
                    if args.holdout_permille.is_none_or(held_out) {
                        chats.extend(super::run::messages(&example));
                    }
                }
            }
            pairs.extend(replies::read(&chats, &reader)?);
        }
        None => {
            ensure!(
                args.data.len() == 1,
                "one file of labelled turns at a time: dialogues of two would share their numbers"
            );
            for path in &args.data {
                pairs.extend(replies::labelled(path)?);
            }
        }
    }
    if let Some(limit) = args.limit.filter(|limit| *limit < pairs.len()) {
        let all = pairs.len();
        pairs = (0..limit).map(|i| pairs[i * all / limit].clone()).collect();
    }
    let wordings: Vec<Wording> = match args.line.as_slice() {
        [] => [Empathy::Low, Empathy::Medium, Empathy::High]
            .map(Wording::Engine)
            .to_vec(),
        lines => lines.iter().cloned().map(Wording::Text).collect(),
    };
    for f in replies::measure(&Arc::new(model), &pairs, &wordings, args.seed)? {
        if json {
            println!("{}", serde_json::to_string(&f)?);
            continue;
        }
        println!(
            "{:?}: {} answers of {} dialogues, {} bytes; bits per byte: nothing said {:.4}, no feeling {:.4}, \
             right {:.4}, wrong {:.4}",
            f.wording, f.replies, f.dialogues, f.bytes, f.none, f.control, f.right, f.wrong
        );
        for (name, d) in [
            ("nothing said", f.right_none),
            ("no feeling", f.right_control),
            ("wrong", f.right_wrong),
        ] {
            let [low, high] = d.interval;
            println!(
                "  right less {name}: {:+.4} ({low:+.4} to {high:+.4})",
                d.mean
            );
        }
    }
    Ok(())
}

fn text(args: TextArgs, device: Device, json: bool) -> Result<()> {
    let mut config: TextConfig = config::read(&args.config)?;
    if let Some(path) = args.base_model {
        config.base_model = path;
    }
    if let Some(path) = args.output_dir {
        config.output_dir = path;
    }
    config.max_steps = args.max_steps.unwrap_or(config.max_steps);
    config.decay_steps = args
        .decay_steps
        .unwrap_or(config.decay_steps)
        .min(config.max_steps);
    config.learning_rate = args.learning_rate.unwrap_or(config.learning_rate);
    config.block_count = args.block_count.unwrap_or(config.block_count);
    config.validate()?;
    let heads = examples::heads(&config)?;
    let train = examples::load(&config.datasets, &heads, config.seed)?;
    let held_out = examples::load(&config.held_out, &heads, config.seed)?;
    let file = read_file(&config.base_model)?;
    let watch = Watch::new(args.resume, json)?;
    device.with(Training {
        config,
        heads,
        train,
        held_out,
        file,
        watch,
    })
}

struct Training {
    config: TextConfig,
    heads: Vec<Head>,
    train: Vec<Example>,
    held_out: Vec<Example>,
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
    {
        let config = &self.config;
        let base = encoder::Base::parse(&self.file)
            .with_context(|| config.base_model.display().to_string())?;
        let blocks = match config.block_count {
            0 => base.block_count,
            n => n.min(base.block_count),
        };
        let whole = meetara_engine::encoder::Encoder::load(self.file.clone())?;
        let mut counts = vec![0u64; base.tokens.len()];
        for example in train::encode(&self.train, config.max_tokens, &whole)? {
            example.ids.iter().for_each(|id| counts[*id as usize] += 1);
        }
        let kept = vocabulary::keep(&base.tokens, &counts, config.vocab_size);
        let tokens: Vec<String> = kept
            .iter()
            .map(|id| base.tokens[*id as usize].clone())
            .collect();
        let body = base.encoder::<B>(&kept, blocks, &device)?;
        let fresh = train::heads::<B>(
            &self.heads,
            &self.train,
            base.spec.width,
            config.seed,
            &device,
        );
        let (tops, known) = base.heads(fresh, &self.heads, &device)?;
        if !known.is_empty() {
            eprintln!("heads taken over from the base: {}", known.join(", "));
        }
        let write = |body: &Encoder<B>, tops: &Heads<B>| {
            base.write(&config.name, &tokens, body, (tops, &self.heads))
        };
        let start = meetara_engine::encoder::Encoder::load(write(&body, &tops)?)?;
        let train = train::encode(&self.train, config.max_tokens, &start)?;
        let mut held_out = train::encode(&self.held_out, config.max_tokens, &start)?;
        if config.eval_texts > 0 {
            held_out.truncate(config.eval_texts);
        }
        eprintln!(
            "{} texts, {} held out, {} tokens of {}, {blocks} blocks of {}",
            train.len(),
            held_out.len(),
            tokens.len(),
            base.tokens.len(),
            base.block_count
        );
        let reader = Reader::new(
            body,
            tops,
            self.heads.clone(),
            base.spec,
            config.weight_decay,
            &device,
        );
        let outcome = reader.run(
            config,
            (&train, &held_out),
            &fingerprint(config, &train)?,
            &self.watch.watched(),
        )?;
        let Outcome::Finished(reader) = outcome else {
            return Ok(());
        };
        let bytes = write(&reader.encoder, &reader.heads)?;
        let path = config.output_dir.join("text-emotion-F32.gguf");
        self.watch.write(&path, &bytes)
    }
}

/// SHA-256 over the recipe and every token and label that is learnt from.
fn fingerprint(config: &TextConfig, train: &[Encoded]) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(&(
        config.batch_size,
        config.seed,
        config.block_count,
        &config.heads,
    ))?);
    for example in train {
        for id in &example.ids {
            hash.update(id.to_le_bytes());
        }
        for (head, labels) in &example.labels {
            hash.update(serde_json::to_vec(&(head, labels))?);
        }
    }
    Ok(super::hex(hash))
}
