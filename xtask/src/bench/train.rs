//! `cargo xtask bench train`: one training step of ours beside PyTorch's.
//!
//! Both programs run the same two steps (P, pre-training; L, an adapter) on the same shape. They take
//! turns, so that what else the machine does falls on both; medians over the rounds are compared.

use crate::process::{cargo_command, command, run as run_command};
use crate::project::Project;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, json};
use std::path::PathBuf;
use std::process::Command;

/// The reference that is installed when none is named.
const TORCH: &str = "torch==2.15.0";

/// Flags of `cargo xtask bench train`.
#[derive(clap::Args)]
pub struct Args {
    /// Turns of each program
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Steps measured in a turn
    #[arg(long, default_value_t = 2)]
    steps: usize,
    /// Threads of both
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Print one flat JSON object at the end
    #[arg(long)]
    json: bool,
}

/// What each program prints for a turn.
#[derive(Deserialize)]
struct Turn {
    engine: String,
    cpu_s: f64,
    wall_s: f64,
    tokens: u64,
}

/// Runs all rounds and prints the comparison.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    run_command(cargo_command(project).args(["build", "--release", "--package", "meetara-train"]))?;
    let python = python(project)?;
    let mut report = Map::new();
    for which in ["P", "L"] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds.max(1) {
            let mut mine = command(project, project.target.join("release/meetara-train"));
            mine.args(["--json", "--threads", &args.threads.to_string(), "bench"]);
            ours.push(turn(&mut mine, which, args.steps)?);
            let mut torch = command(project, &python);
            torch
                .arg("trainer-native/bench/torch_reference.py")
                .args(["--threads", &args.threads.to_string()])
                // Spinning threads would make PyTorch several times slower on a busy machine.
                .env("OMP_WAIT_POLICY", "PASSIVE")
                .env("GOMP_SPINCOUNT", "0");
            theirs.push(turn(&mut torch, which, args.steps)?);
        }
        compare(which, &ours, &theirs, &mut report);
    }
    if args.json {
        println!("{}", serde_json::Value::Object(report));
    }
    Ok(())
}

fn turn(command: &mut Command, which: &str, steps: usize) -> Result<Turn> {
    command.args(["--which", which, "--steps", &steps.to_string()]);
    let output = command
        .output()
        .context("cannot start a program of the bench")?;
    ensure!(
        output.status.success(),
        "a turn failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).context("a turn did not print its result")
}

fn compare(
    which: &str,
    ours: &[Turn],
    theirs: &[Turn],
    report: &mut Map<String, serde_json::Value>,
) {
    let median = |turns: &[Turn], of: fn(&Turn) -> f64| {
        let mut values: Vec<f64> = turns.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let cpu = (median(ours, |t| t.cpu_s), median(theirs, |t| t.cpu_s));
    let wall = (median(ours, |t| t.wall_s), median(theirs, |t| t.wall_s));
    let name = theirs.first().map_or("", |t| t.engine.as_str());
    let tokens = ours.first().map_or(0, |t| t.tokens);
    println!(
        "{which}: a step of {tokens} tokens takes {:.2} CPU s, {name} {:.2}: {:.2} times its speed per CPU second, {:.2} per wall second",
        cpu.0,
        cpu.1,
        cpu.1 / cpu.0,
        wall.1 / wall.0
    );
    let mut set = |key: &str, value: serde_json::Value| {
        report.insert(format!("train.{which}.{key}"), value);
    };
    set("cpu_s", json!(cpu.0));
    set("torch_cpu_s", json!(cpu.1));
    set("vs_torch", json!(cpu.1 / cpu.0));
    set("vs_torch_wall", json!(wall.1 / wall.0));
    set("torch", json!(name));
}

/// A Python with PyTorch: the one that `MEETARA_TORCH_PYTHON` names, or one that is set up here once.
fn python(project: &Project) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("MEETARA_TORCH_PYTHON") {
        return Ok(named.into());
    }
    let venv = project.tools().join("torch-venv");
    let python = venv.join("bin/python");
    let ready = Command::new(&python)
        .args(["-c", "import torch"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !ready {
        println!("installing {TORCH} for the comparison: some gigabytes, once");
        run_command(command(project, "python3").args(["-m", "venv"]).arg(&venv))?;
        run_command(
            command(project, &python).args(["-m", "pip", "install", "--quiet", "numpy", TORCH]),
        )?;
    }
    Ok(python)
}
