//! `cargo xtask test`: everything that can fail, in one command.
//!
//! Goes on after a failure, so that one run shows all of them; the closing line counts the steps,
//! and the exit code tells whether any failed. Runners are the `.mjs` files directly in
//! `tests/runners` (those beginning with `_` are their helpers); each prints a closing line of its
//! own.

use crate::process::{cargo_command, command, run as run_command};
use crate::project::{Project, WASM_MEMBERS};
use crate::{check, models, size, tidy, tools, up, wasm};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Flags of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Run only the steps whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// List the steps and stop
    #[arg(long)]
    list: bool,
}

type Action = Box<dyn Fn(&Project) -> Result<()>>;

struct Step {
    name: String,
    action: Action,
}

struct Outcome {
    name: String,
    wall: Duration,
    error: Option<anyhow::Error>,
}

/// Runs all steps and prints a summary.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let steps = steps(project)?;
    let wanted = |step: &&Step| {
        args.only
            .as_ref()
            .is_none_or(|only| step.name.contains(only.as_str()))
    };
    if args.list {
        steps
            .iter()
            .filter(wanted)
            .for_each(|step| println!("{}", step.name));
        return Ok(());
    }
    let mut outcomes = Vec::new();
    for step in steps.iter().filter(wanted) {
        println!("\n=== {} ===", step.name);
        let start = Instant::now();
        let error = (step.action)(project).err();
        if let Some(error) = &error {
            println!("FAILED: {error:#}");
        }
        outcomes.push(Outcome {
            name: step.name.clone(),
            wall: start.elapsed(),
            error,
        });
    }
    summarise(&outcomes)
}

fn summarise(outcomes: &[Outcome]) -> Result<()> {
    println!("\n=== summary ===");
    for outcome in outcomes {
        let word = if outcome.error.is_none() {
            "ok    "
        } else {
            "FAILED"
        };
        println!("{word} {:>5} s  {}", outcome.wall.as_secs(), outcome.name);
        if let Some(error) = &outcome.error {
            println!("                {error:#}");
        }
    }
    let failed = outcomes
        .iter()
        .filter(|outcome| outcome.error.is_some())
        .count();
    println!("{} passed, {failed} failed", outcomes.len() - failed);
    if outcomes.is_empty() {
        bail!("no step has that name; `cargo xtask test --list` shows them");
    }
    if failed > 0 {
        bail!("{failed} of {} steps failed", outcomes.len());
    }
    Ok(())
}

/// All steps: cheap ones first, then what the runners need, then the runners.
fn steps(project: &Project) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut step = |name: &str, action: Action| {
        steps.push(Step {
            name: name.to_owned(),
            action,
        })
    };
    step("tools", Box::new(install));
    step("format", Box::new(check::format));
    step("tidy", Box::new(tidy::run));
    step("licences", Box::new(check::licences));
    step(
        "model smollm2",
        Box::new(|project| models::ensure_smollm2(project).map(drop)),
    );
    step(
        "model minilm",
        Box::new(|project| models::ensure_minilm(project).map(drop)),
    );
    step("clippy", Box::new(check::clippy_native));
    step("clippy wasm", Box::new(check::clippy_wasm));
    step(
        "build wasm",
        Box::new(|project| wasm::run(project, &wasm::Args::default())),
    );
    step("build page", Box::new(up::build_page));
    step("cargo test", Box::new(cargo_test));
    step("build binaries", Box::new(build_binaries));
    step("size", Box::new(size::run));
    for runner in runners(project)? {
        let name = format!(
            "runner {}",
            runner.file_stem().unwrap_or_default().to_string_lossy()
        );
        step(
            &name,
            Box::new(move |project| run_command(command(project, "node").arg(&runner))),
        );
    }
    Ok(steps)
}

fn install(project: &Project) -> Result<()> {
    tools::ensure_node()?;
    tools::ensure_wasm_target(project)?;
    tools::ensure_debian_packages(project)?;
    for dir in ["web", "pkg", "host/edge", "tests/runners"] {
        tools::ensure_npm(project, &project.root.join(dir))?;
    }
    Ok(())
}

/// Unit and integration tests of the native members.
fn cargo_test(project: &Project) -> Result<()> {
    let mut test = native(project, "test");
    run_command(test.arg("--no-fail-fast"))
}

/// The programs that the runners start.
fn build_binaries(project: &Project) -> Result<()> {
    run_command(native(project, "build").args(["--bins", "--examples"]))
}

/// The same selection of crates and features each time, so that cargo compiles every dependency once.
///
/// The trainer is built for wgpu and CUDA as well; wgpu's tests run on Debian's software Vulkan where
/// there is no GPU.
fn native(project: &Project, what: &str) -> std::process::Command {
    let mut cargo = cargo_command(project);
    cargo.args([what, "--release", "--workspace"]);
    cargo.args(["--features", "meetara-train/wgpu,meetara-train/cuda"]);
    for member in WASM_MEMBERS {
        cargo.args(["--exclude", member]);
    }
    cargo
}

fn runners(project: &Project) -> Result<Vec<PathBuf>> {
    let dir = project.root.join("tests/runners");
    let mut found = Vec::new();
    for entry in
        std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?
    {
        let path = entry?.path();
        let is_script = path.extension().is_some_and(|extension| extension == "mjs");
        let is_helper = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"_"));
        if is_script && !is_helper {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
