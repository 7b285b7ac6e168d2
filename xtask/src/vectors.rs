//! `cargo xtask vectors`: makes the expected values of the tests anew.
//!
//! Each folder below `tests/vectors` holds a `make.py` beside what it made. The scripts use other
//! implementations (`tests/vectors/requirements.txt`, or a folder's own), which the normal test run
//! does not need; they are installed into virtual environments below the target folder.

use crate::process::{command, run as run_command};
use crate::project::Project;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// Flags of `cargo xtask vectors`.
#[derive(clap::Args)]
pub struct Args {
    /// Only these folders of tests/vectors (default: all)
    only: Vec<String>,
}

/// Runs the scripts, in alphabetical order.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let root = project.root.join("tests/vectors");
    let mut scripts: Vec<(String, PathBuf)> = Vec::new();
    for entry in
        std::fs::read_dir(&root).with_context(|| format!("cannot list {}", root.display()))?
    {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let script = entry.path().join("make.py");
        if script.is_file() && (args.only.is_empty() || args.only.contains(&name)) {
            scripts.push((name, script));
        }
    }
    scripts.sort();
    for wanted in &args.only {
        ensure!(
            scripts.iter().any(|(name, _)| name == wanted),
            "there is no tests/vectors/{wanted}/make.py"
        );
    }
    for (name, script) in &scripts {
        let own = root.join(name).join("requirements.txt");
        let python = if own.is_file() {
            ensure_python(project, &own, &format!("vectors-venv-{name}"))?
        } else {
            ensure_python(project, &root.join("requirements.txt"), "vectors-venv")?
        };
        run_command(command(project, &python).arg(script))?;
    }
    println!(
        "{} of the scripts in tests/vectors ran; look at `git diff` before you commit",
        scripts.len()
    );
    Ok(())
}

/// A virtual environment with the packages that the scripts import.
fn ensure_python(project: &Project, requirements: &Path, venv: &str) -> Result<PathBuf> {
    let wanted = std::fs::read_to_string(requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let venv = project.tools().join(venv);
    let python = venv.join("bin/python");
    let stamp = venv.join("installed-requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    println!(
        "installing what the scripts import, which takes several minutes (llama.cpp is compiled, PyTorch is 6 GB)"
    );
    run_command(command(project, "python3").args(["-m", "venv"]).arg(&venv))?;
    run_command(
        command(project, &python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--requirement",
            ])
            .arg(requirements),
    )?;
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}
