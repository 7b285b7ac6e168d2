//! What is trained on what: the file that `meetara-train emotion text --config` reads.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::gguf::encoder::MAX_POSITIONS;
use crate::model::encoder::Activation;
use crate::train::schedule::Schedule;

/// Settings of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextConfig {
    /// Name written into the file.
    pub name: String,
    /// An encoder as GGUF, for instance one that `meetara-train import` wrote.
    pub base_model: PathBuf,
    /// Blocks kept of the base, from the first on; 0 keeps all.
    pub block_count: usize,
    /// Tokens kept of the base's vocabulary; 0 keeps all.
    pub vocab_size: usize,
    /// Texts are cut to this many tokens.
    pub max_tokens: usize,
    /// Texts in a step.
    pub batch_size: usize,
    /// AdamW's learning rate for the body.
    pub learning_rate: f64,
    /// AdamW's learning rate for the heads.
    pub head_learning_rate: f64,
    /// AdamW's weight decay.
    pub weight_decay: f32,
    /// Share of the activations dropped while training.
    pub dropout: f32,
    /// Steps in all.
    pub max_steps: u64,
    /// Steps of rising learning rate.
    pub warmup_steps: u64,
    /// Steps of falling learning rate at the end.
    pub decay_steps: u64,
    /// Seed of the heads, dropout and the order of the data.
    pub seed: u64,
    /// Where checkpoints, the log and the model go.
    pub output_dir: PathBuf,
    /// Steps between checkpoints.
    pub save_steps: u64,
    /// Steps between log lines.
    pub logging_steps: u64,
    /// Steps between measurements on the held-out files; 0 measures at the end only.
    pub eval_steps: u64,
    /// Texts of each held-out file used for them while training.
    pub eval_texts: usize,
    /// What is read from a text.
    pub heads: Vec<HeadConfig>,
    /// Files to learn from.
    pub datasets: Vec<Dataset>,
    /// Files held out, on which thresholds and temperatures are set.
    pub held_out: Vec<Dataset>,
    /// Files that figures are reported on.
    pub tests: Vec<TestSet>,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            name: String::from("MeeTARA text emotion"),
            base_model: PathBuf::from("target/models/all-MiniLM-L6-v2/all-MiniLM-L6-v2-F32.gguf"),
            block_count: 0,
            vocab_size: 8192,
            max_tokens: 64,
            batch_size: 32,
            learning_rate: 1e-4,
            head_learning_rate: 1e-3,
            weight_decay: 0.01,
            dropout: 0.1,
            max_steps: 4000,
            warmup_steps: 200,
            decay_steps: 3800,
            seed: 7,
            output_dir: PathBuf::from("runs/emotion-text"),
            save_steps: 200,
            logging_steps: 20,
            eval_steps: 500,
            eval_texts: 1000,
            heads: Vec::new(),
            datasets: Vec::new(),
            held_out: Vec::new(),
            tests: Vec::new(),
        }
    }
}

/// A head.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// Its name.
    pub name: String,
    /// How scores become probabilities.
    pub activation: Activation,
    /// Its labels in order; left out, `labels_from` names a file.
    #[serde(default)]
    pub labels: Vec<String>,
    /// `domains.toml`: the names of its rows, and then `out_of_scope`.
    #[serde(default)]
    pub labels_from: Option<PathBuf>,
    /// Weight of its loss.
    #[serde(default = "one")]
    pub weight: f32,
    /// How many times as much as precision recall counts when a sigmoid head's thresholds are set: the
    /// beta of F-beta.
    #[serde(default = "one")]
    pub recall_weight: f32,
}

/// A file of labelled texts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// `.jsonl`, `.jsonl.zst`, `.tsv` (label, text) or `domains.toml` (its example requests).
    pub path: PathBuf,
    /// Heads that learn from it.
    pub heads: Vec<Link>,
    /// How often each text is seen in an epoch; below 1, a share of the texts.
    #[serde(default = "one")]
    pub repeat: f32,
    /// At most this many texts, the first of a seeded shuffle; 0 takes all.
    #[serde(default)]
    pub limit: usize,
}

/// A file that figures are reported on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestSet {
    /// What the report calls it.
    pub name: String,
    /// The file and its heads.
    pub data: Dataset,
    /// Labels are joined into groups first.
    #[serde(default)]
    pub groups: Option<Groups>,
    /// `domains.toml`: a head of domains is also counted by its categories, which was right against which
    /// was said.
    #[serde(default)]
    pub categories: Option<PathBuf>,
}

/// Groups of a head's labels.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// A JSON or TOML file whose table `table` says the group of each label.
    pub map: PathBuf,
    /// Table in `map`.
    pub table: String,
    /// From which probability a group counts; set on held-out texts.
    pub threshold: f32,
}

/// How a file's labels become a head's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The head's name.
    pub head: String,
    /// The field with the file's labels: `labels` by default, or for instance `domain`.
    #[serde(default = "labels")]
    pub field: String,
    /// A JSON or TOML file whose table `table` maps the file's labels to the head's. A label that it maps
    /// to nothing is dropped, and with its last label the text.
    #[serde(default)]
    pub map: Option<PathBuf>,
    /// Table in `map`.
    #[serde(default)]
    pub table: String,
    /// With this, labels that `map` does not name count as this one; without a map, all do. `none` says
    /// that no label of a sigmoid head is right.
    #[serde(default)]
    pub otherwise: Option<String>,
}

fn one() -> f32 {
    1.0
}

fn labels() -> String {
    String::from("labels")
}

impl TextConfig {
    /// Rejects settings that cannot work.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            !self.heads.is_empty(),
            "no [[heads]]: there is nothing to read"
        );
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
            (0.0..1.0).contains(&self.dropout),
            "dropout must be at least 0 and below 1"
        );
        let mut names = BTreeMap::new();
        for head in &self.heads {
            ensure!(
                names.insert(&head.name, ()).is_none(),
                "two heads are called {}",
                head.name
            );
        }
        for link in self
            .datasets
            .iter()
            .chain(&self.held_out)
            .flat_map(|d| &d.heads)
        {
            ensure!(
                names.contains_key(&link.head),
                "a dataset names head {}, which is not there",
                link.head
            );
        }
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
