//! Checkpoints: everything that a run needs to go on as if it had never stopped.
//!
//! ```text
//! OUTPUT/step-000400/model.mpk   weights and their identities
//!                    muon.mpk    momentum of the matrices
//!                    adamw.mpk   moments of the rest
//!                    state.json  step, schedule, seed, what the data was
//! ```
//!
//! A checkpoint is written beside its final name and renamed, so that one cut short never looks whole.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::record::{FullPrecisionSettings, NamedMpkFileRecorder, Record, Recorder};
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// What is kept beside the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// Smoothed training loss, for the progress line.
    pub loss: f64,
    /// Fingerprint of the data and every setting that decides the next batch.
    pub data: String,
}

const STATE: &str = "state.json";

/// A checkpoint being written.
pub struct Draft {
    temporary: PathBuf,
    complete: PathBuf,
}

impl Draft {
    /// Starts a checkpoint for `step` under `output`.
    pub fn begin(output: &Path, step: u64) -> Result<Self> {
        let complete = output.join(format!("step-{step:06}"));
        let temporary = output.join(format!("step-{step:06}.partial"));
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        fs::create_dir_all(&temporary)
            .with_context(|| format!("cannot create {}", temporary.display()))?;
        Ok(Self {
            temporary,
            complete,
        })
    }

    /// Writes one record.
    pub fn put<B: Backend, R: Record<B>>(&self, name: &str, record: R) -> Result<()> {
        let path = self.temporary.join(name);
        recorder()
            .record(record, path.clone())
            .with_context(|| format!("cannot write {}; is the disk full?", path.display()))
    }

    /// Writes the state and gives the checkpoint its name; older ones but the last `keep` are removed.
    pub fn finish(self, state: &State, keep: usize) -> Result<PathBuf> {
        fs::write(
            self.temporary.join(STATE),
            serde_json::to_vec_pretty(state)?,
        )?;
        if self.complete.exists() {
            fs::remove_dir_all(&self.complete)?;
        }
        fs::rename(&self.temporary, &self.complete)?;
        if let Some(output) = self.complete.parent() {
            let all = list(output)?;
            for old in &all[..all.len().saturating_sub(keep.max(1))] {
                fs::remove_dir_all(old)?;
            }
        }
        Ok(self.complete)
    }
}

/// The newest whole checkpoint under `output`.
pub fn latest(output: &Path) -> Result<Option<PathBuf>> {
    Ok(list(output)?.pop())
}

/// Whole checkpoints, oldest first.
fn list(output: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(output) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let named = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| {
            n.strip_prefix("step-")
                .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
        });
        if named && path.join(STATE).is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a checkpoint's state.
pub fn state(checkpoint: &Path) -> Result<State> {
    let path = checkpoint.join(STATE);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not a checkpoint's state", path.display()))
}

/// Reads one record.
pub fn get<B: Backend, R: Record<B>>(
    checkpoint: &Path,
    name: &str,
    device: &B::Device,
) -> Result<R> {
    let path = checkpoint.join(name);
    ensure!(
        path.with_extension("mpk").is_file(),
        "{} lacks {name}.mpk; take an older checkpoint",
        checkpoint.display()
    );
    recorder().load(path.clone(), device).with_context(|| {
        format!(
            "{}.mpk is damaged; take an older checkpoint",
            path.display()
        )
    })
}

fn recorder() -> NamedMpkFileRecorder<FullPrecisionSettings> {
    NamedMpkFileRecorder::new()
}
