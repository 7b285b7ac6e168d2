//! Remembers from what a file was made, so that unchanged work is skipped.

use crate::project::Project;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// The hash of an input and the settings it is processed with.
pub struct Stamp {
    file: PathBuf,
    text: String,
}

impl Stamp {
    /// Hashes `input`; `settings` is any text that changes when the processing does.
    ///
    /// The output folder's path is part of the stamp's name: checkouts may share a target folder,
    /// but each has outputs of its own.
    pub fn of(project: &Project, out_dir: &Path, input: &Path, settings: &str) -> Result<Self> {
        let bytes =
            std::fs::read(input).with_context(|| format!("cannot read {}", input.display()))?;
        let hash = hex(&Sha256::digest(&bytes));
        let name = hex(&Sha256::digest(out_dir.as_os_str().as_encoded_bytes()));
        let file = project.target.join("wasm/stamps").join(name);
        Ok(Self {
            file,
            text: format!("{hash} {settings}\n"),
        })
    }

    /// Whether the last run had the same input and settings.
    pub fn holds(&self) -> bool {
        std::fs::read_to_string(&self.file).is_ok_and(|text| text == self.text)
    }

    /// To be called before the output is touched: what is cut off half-way must not look finished.
    pub fn clear(&self) -> Result<()> {
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.file.display()))
            }
            _ => Ok(()),
        }
    }

    /// To be called after success.
    pub fn write(&self) -> Result<()> {
        if let Some(dir) = self.file.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(&self.file, &self.text)
            .with_context(|| format!("cannot write {}", self.file.display()))
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
