//! Where things are: the repository's root, the target folder and the workspace's members.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates that are built for WebAssembly only, so native builds leave them out.
pub const WASM_MEMBERS: [&str; 4] = [
    "meetara-browser",
    "meetara-browser-constraint",
    "meetara-component",
    "meetara-edge",
];

/// The target triple of everything that runs in a sandbox.
pub const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// The workspace as cargo sees it.
pub struct Project {
    /// Absolute path of the repository.
    pub root: PathBuf,
    /// Absolute path of the target folder; honours `CARGO_TARGET_DIR`.
    pub target: PathBuf,
    /// Names and manifests of all members.
    pub members: Vec<Member>,
}

/// One crate of the workspace.
#[derive(Deserialize)]
pub struct Member {
    /// The crate's name.
    pub name: String,
    /// Absolute path of its Cargo.toml.
    pub manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Member>,
    target_directory: PathBuf,
    workspace_root: PathBuf,
}

impl Project {
    /// Asks cargo. Works from any folder of the repository.
    pub fn locate() -> Result<Self> {
        // Set when cargo runs this program; the fallback serves a directly started binary.
        let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let output = Command::new(cargo())
            .args([
                "metadata",
                "--no-deps",
                "--format-version=1",
                "--manifest-path",
            ])
            .arg(manifest_dir.join("Cargo.toml"))
            .output()
            .context("cannot run `cargo metadata`; is cargo in the PATH?")?;
        anyhow::ensure!(
            output.status.success(),
            "`cargo metadata` failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: Metadata = serde_json::from_slice(&output.stdout)
            .context("cannot read what `cargo metadata` printed")?;
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
            members: metadata.packages,
        })
    }

    /// Where tools from npm are installed.
    pub fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// `path` relative to the root, for messages.
    pub fn show<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// The cargo that runs us, else the one in the PATH.
pub fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
