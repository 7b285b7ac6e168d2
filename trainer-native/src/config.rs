//! The configuration file: TOML or YAML, with the keys that Axolotl's users know.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::data::mix::Source;
use crate::model::ModelSpec;
use crate::train::driver::Plan;
use crate::train::schedule::Schedule;

/// Settings of a pre-training run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pretrain {
    /// Shape of the model.
    pub model: ModelSpec,
    /// Tokenizer file made by `meetara-train tokenizer`.
    pub tokenizer: PathBuf,
    /// Data files and their shares.
    pub datasets: Vec<Source>,
    /// Of 1,000 examples, how many are held out for measuring.
    pub holdout_permille: u32,
    /// Loss weight of what users say; the assistant's turns have 1.
    pub user_loss_weight: f32,
    /// Positions in a row.
    pub sequence_len: usize,
    /// Rows computed at once.
    pub micro_batch_size: usize,
    /// Micro-batches in a step.
    pub gradient_accumulation_steps: usize,
    /// AdamW's learning rate, for the embedding and norms.
    pub learning_rate: f64,
    /// Muon's learning rate, for the matrices.
    pub muon_learning_rate: f64,
    /// Muon's weight decay, multiplied by its learning rate.
    pub weight_decay: f32,
    /// Steps in all.
    pub max_steps: u64,
    /// Steps of rising learning rate.
    pub warmup_steps: u64,
    /// Steps of falling learning rate at the end.
    pub decay_steps: u64,
    /// Seed of the weights and the order of the data.
    pub seed: u64,
    /// Where checkpoints and the log go.
    pub output_dir: PathBuf,
    /// Steps between checkpoints.
    pub save_steps: u64,
    /// Checkpoints kept.
    pub save_total_limit: usize,
    /// Steps between log lines.
    pub logging_steps: u64,
    /// Steps between measurements on held-out text; 0 never measures.
    pub eval_steps: u64,
    /// Rows of held-out text used for them.
    pub eval_rows: usize,
}

impl Default for Pretrain {
    fn default() -> Self {
        Self {
            model: ModelSpec::default(),
            tokenizer: PathBuf::from("tokenizer.json"),
            datasets: Vec::new(),
            holdout_permille: 10,
            user_loss_weight: 0.5,
            sequence_len: 1024,
            micro_batch_size: 2,
            gradient_accumulation_steps: 4,
            learning_rate: 3e-3,
            muon_learning_rate: 0.02,
            weight_decay: 0.01,
            max_steps: 2000,
            warmup_steps: 30,
            decay_steps: 600,
            seed: 7,
            output_dir: PathBuf::from("runs/pretrain"),
            save_steps: 50,
            save_total_limit: 2,
            logging_steps: 5,
            eval_steps: 100,
            eval_rows: 32,
        }
    }
}

impl Pretrain {
    /// The learning rate's course.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            warmup_steps: self.warmup_steps,
            max_steps: self.max_steps,
            decay_steps: self.decay_steps,
        }
    }

    /// How the run goes.
    pub fn plan(&self) -> Plan {
        Plan {
            output_dir: self.output_dir.clone(),
            schedule: self.schedule(),
            batch_rows: self.micro_batch_size * self.gradient_accumulation_steps,
            micro_rows: self.micro_batch_size,
            save_steps: self.save_steps,
            save_total_limit: self.save_total_limit,
            logging_steps: self.logging_steps,
            eval_steps: self.eval_steps,
            eval_rows: self.eval_rows,
        }
    }

    /// Says what is wrong with settings that cannot run.
    pub fn validate(&self) -> Result<()> {
        self.model.validate()?;
        ensure!(
            !self.datasets.is_empty(),
            "datasets is empty; name at least one JSON-lines file"
        );
        positive(&[
            ("sequence_len", self.sequence_len as u64),
            ("micro_batch_size", self.micro_batch_size as u64),
            (
                "gradient_accumulation_steps",
                self.gradient_accumulation_steps as u64,
            ),
            ("max_steps", self.max_steps),
            ("save_steps", self.save_steps),
            ("logging_steps", self.logging_steps),
        ])?;
        ensure!(
            self.sequence_len <= self.model.context_length,
            "sequence_len {} is beyond the model's context_length {}",
            self.sequence_len,
            self.model.context_length
        );
        positive_rate("learning_rate", self.learning_rate)?;
        positive_rate("muon_learning_rate", self.muon_learning_rate)
    }
}

/// Settings of an adapter: the recipe of a domain expert.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// GGUF model to start from; F32 or F16 lose least.
    pub base_model: PathBuf,
    /// Data files.
    pub datasets: Vec<Source>,
    /// Name of the domain, written into the result.
    pub domain: String,
    /// Rank of the low-rank pairs.
    pub lora_r: usize,
    /// Their product is multiplied by `lora_alpha / lora_r`.
    pub lora_alpha: f32,
    /// Of 1,000 examples, how many are held out for the quality score.
    pub holdout_permille: u32,
    /// Loss weight of what users say; the assistant's turns have 1.
    pub user_loss_weight: f32,
    /// Positions in a row.
    pub sequence_len: usize,
    /// Rows in a step.
    pub micro_batch_size: usize,
    /// Steps in all.
    pub max_steps: u64,
    /// Steps of rising learning rate.
    pub warmup_steps: u64,
    /// Steps of falling learning rate at the end.
    pub decay_steps: u64,
    /// AdamW's learning rate.
    pub learning_rate: f64,
    /// Seed of the adapter and the order of the data.
    pub seed: u64,
    /// Where checkpoints, the log and the results go.
    pub output_dir: PathBuf,
    /// Steps between checkpoints.
    pub save_steps: u64,
    /// Checkpoints kept.
    pub save_total_limit: usize,
    /// Steps between log lines.
    pub logging_steps: u64,
    /// Steps between measurements on held-out text; 0 never measures.
    pub eval_steps: u64,
    /// Rows of held-out text used for them.
    pub eval_rows: usize,
    /// Least quality score, per cent, that is published.
    pub quality_min: f64,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            base_model: PathBuf::from("models/pocket/meetara-pocket-q4_k_m.gguf"),
            datasets: Vec::new(),
            domain: String::from("custom"),
            lora_r: 8,
            lora_alpha: 16.0,
            holdout_permille: 50,
            user_loss_weight: 0.0,
            sequence_len: 256,
            micro_batch_size: 6,
            max_steps: 846,
            warmup_steps: 20,
            decay_steps: 826,
            learning_rate: 3e-4,
            seed: 7,
            output_dir: PathBuf::from("runs/expert"),
            save_steps: 100,
            save_total_limit: 2,
            logging_steps: 10,
            eval_steps: 0,
            eval_rows: 32,
            quality_min: 101.0,
        }
    }
}

impl LoraConfig {
    /// The learning rate's course.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            warmup_steps: self.warmup_steps,
            max_steps: self.max_steps,
            decay_steps: self.decay_steps,
        }
    }

    /// How the run goes.
    pub fn plan(&self) -> Plan {
        Plan {
            output_dir: self.output_dir.clone(),
            schedule: self.schedule(),
            batch_rows: self.micro_batch_size,
            micro_rows: self.micro_batch_size,
            save_steps: self.save_steps,
            save_total_limit: self.save_total_limit,
            logging_steps: self.logging_steps,
            eval_steps: self.eval_steps,
            eval_rows: self.eval_rows,
        }
    }

    /// Says what is wrong with settings that cannot run.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            !self.datasets.is_empty(),
            "there is no data; give --data FILE or datasets in the configuration"
        );
        positive(&[
            ("lora_r", self.lora_r as u64),
            ("sequence_len", self.sequence_len as u64),
            ("micro_batch_size", self.micro_batch_size as u64),
            ("max_steps", self.max_steps),
            ("save_steps", self.save_steps),
            ("logging_steps", self.logging_steps),
        ])?;
        ensure!(
            self.lora_alpha.is_finite() && self.lora_alpha > 0.0,
            "lora_alpha must be a positive number"
        );
        positive_rate("learning_rate", self.learning_rate)
    }
}

fn positive(values: &[(&str, u64)]) -> Result<()> {
    for (name, value) in values {
        ensure!(*value > 0, "{name} is 0; it must be positive");
    }
    Ok(())
}

fn positive_rate(name: &str, rate: f64) -> Result<()> {
    ensure!(
        rate.is_finite() && rate > 0.0,
        "{name} is {rate}; it must be a positive number"
    );
    Ok(())
}

/// Reads a configuration from a `.toml`, `.yaml` or `.yml` file. Unknown keys are errors, so that a
/// misspelt one is not silently ignored.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let wrong = || format!("in {}", path.display());
    match path.extension().and_then(|e| e.to_str()) {
        Some("toml") => toml::from_str(&text).with_context(wrong),
        Some("yaml" | "yml") => serde_yaml_ng::from_str(&text).with_context(wrong),
        _ => bail!("{} must end in .toml, .yaml or .yml", path.display()),
    }
}
