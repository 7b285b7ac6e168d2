//! The file that `meetara-train emotion pretrain --config` reads.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::gguf::encoder::MAX_POSITIONS;
use crate::train::schedule::Schedule;

/// Settings of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskedConfig {
    /// Name written into the file.
    pub name: String,
    /// An encoder as GGUF, which gives the vocabulary and the shape, and with `fresh = false` the weights.
    pub base_model: PathBuf,
    /// Begin with random weights.
    pub fresh: bool,
    /// Texts are cut into pieces of at most this many tokens.
    pub max_tokens: usize,
    /// Texts in a step.
    pub batch_size: usize,
    /// Share of the tokens that are to be guessed.
    pub mask_share: f64,
    /// AdamW's learning rate.
    pub learning_rate: f64,
    /// AdamW's weight decay.
    pub weight_decay: f32,
    /// Share of the activations dropped while training.
    pub dropout: f32,
    /// Steps in all; 0 writes the body that a run would begin with.
    pub max_steps: u64,
    /// Steps of rising learning rate.
    pub warmup_steps: u64,
    /// Steps of falling learning rate at the end.
    pub decay_steps: u64,
    /// Seed of the weights, the masks, dropout and the order of the data.
    pub seed: u64,
    /// Where checkpoints, the log and the model go.
    pub output_dir: PathBuf,
    /// Steps between checkpoints.
    pub save_steps: u64,
    /// Steps between log lines.
    pub logging_steps: u64,
    /// Steps between measurements on held-out texts; 0 measures at the end only.
    pub eval_steps: u64,
    /// Texts held out for them.
    pub eval_texts: usize,
    /// Files to learn from.
    pub datasets: Vec<PlainTexts>,
}

/// A file of texts or chats, `.jsonl` or `.jsonl.zst`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainTexts {
    /// The file.
    pub path: PathBuf,
    /// At most this many pieces, the first of a seeded shuffle; 0 takes all.
    #[serde(default)]
    pub limit: usize,
}

impl Default for MaskedConfig {
    fn default() -> Self {
        Self {
            name: String::from("MeeTARA text encoder"),
            base_model: PathBuf::from("models/emotion/text-emotion.gguf"),
            fresh: true,
            max_tokens: 64,
            batch_size: 32,
            mask_share: 0.15,
            learning_rate: 1e-3,
            weight_decay: 0.01,
            dropout: 0.0,
            max_steps: 3000,
            warmup_steps: 100,
            decay_steps: 2900,
            seed: 7,
            output_dir: PathBuf::from("runs/encoder"),
            save_steps: 100,
            logging_steps: 20,
            eval_steps: 500,
            eval_texts: 512,
            datasets: Vec::new(),
        }
    }
}

impl MaskedConfig {
    /// Rejects settings that cannot work.
    ///
    /// # Errors
    /// Names the setting.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            !self.datasets.is_empty(),
            "no [[datasets]]: there is nothing to learn from"
        );
        ensure!(self.batch_size > 0, "batch_size is 0");
        ensure!(
            (3..=MAX_POSITIONS).contains(&self.max_tokens),
            "max_tokens must be 3 to {MAX_POSITIONS}"
        );
        ensure!(
            self.mask_share > 0.0 && self.mask_share < 1.0,
            "mask_share must be above 0 and below 1"
        );
        ensure!(
            (0.0..1.0).contains(&self.dropout),
            "dropout must be at least 0 and below 1"
        );
        Ok(())
    }

    /// The learning rate's course.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            warmup_steps: self.warmup_steps,
            max_steps: self.max_steps,
            decay_steps: self.decay_steps,
        }
    }
}
