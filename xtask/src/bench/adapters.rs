//! `cargo xtask bench adapters`: what it takes to put another LoRA adapter on while all are in memory.
//!
//! Natively and in Chromium, with two random adapters of rank 8 over the pocket model: one, the other,
//! both, none, in turn, each after a few tokens with the one before. `cargo xtask bench` measures it too.

use super::runtime::contestant::{Contestant, Swaps};
use super::runtime::{Bounds, Report, median};
use crate::process::{cargo_command, command, run as run_command};
use crate::project::Project;
use crate::{tools, wasm};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Changes that are measured together, since one takes microseconds.
const SWAPS: u32 = 400;

/// Flags of `cargo xtask bench adapters`.
#[derive(clap::Args)]
pub struct Args {
    /// How often everything is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Print one flat JSON object at the end
    #[arg(long)]
    json: bool,
}

/// Where it is measured.
#[derive(Clone, Copy)]
pub enum Place {
    Native,
    Chromium,
}

/// Builds, measures, judges.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let bounds = Bounds::read(project)?;
    run_command(cargo_command(project).args([
        "build",
        "--release",
        "--package",
        "meetara-engine",
        "--example",
        "bench_native",
    ]))?;
    wasm::ensure(project, &[wasm::Product::Relaxed])?;
    tools::ensure_npm(project, &project.root.join("tests/runners"))?;
    let mut report = Report::default();
    report.machine(project);
    let places = [Place::Native, Place::Chromium];
    measure(project, &places, args.rounds.max(1), &mut report)?;
    if args.json {
        println!("{}", report.json());
    }
    report.judge(&bounds)
}

/// Sets `PLACE.pocket.adapter_swap_ms` for each place.
pub fn measure(
    project: &Project,
    places: &[Place],
    rounds: usize,
    report: &mut Report,
) -> Result<()> {
    let model = project
        .root
        .join("models/pocket/meetara-pocket-q4_k_m.gguf");
    let native = project.target.join("release/examples/bench_native");
    let swaps = Swaps {
        adapters: [
            adapter(project, &native, &model, 1)?,
            adapter(project, &native, &model, 2)?,
        ],
        swaps: SWAPS,
    };
    for place in places {
        let (name, program) = match place {
            Place::Native => {
                let mut program = command(project, &native);
                program.arg("turns").arg(&model);
                ("native", program)
            }
            Place::Chromium => {
                let mut node = command(project, "node");
                node.arg("tests/runners/bench/chromium.mjs").arg("meetara");
                node.arg(&model).arg("1").arg(project.root.join("pkg/dist"));
                ("chromium", node)
            }
        };
        let swap_ms = median(times(name, program, &swaps, rounds)?);
        let key = format!("{name}.pocket.adapter_swap_ms");
        println!("{key}: another adapter is on in {:.1} us", swap_ms * 1e3);
        report.set(key, swap_ms);
    }
    Ok(())
}

fn times(name: &str, program: Command, swaps: &Swaps, rounds: usize) -> Result<Vec<f64>> {
    let mut contestant = Contestant::start(name, program)?;
    // The first round lets compilers settle.
    contestant.swap_ms(swaps)?;
    (0..rounds).map(|_| contestant.swap_ms(swaps)).collect()
}

/// The file of a random adapter of rank 8 over `model`.
fn adapter(project: &Project, native: &Path, model: &Path, seed: u32) -> Result<PathBuf> {
    let mut program = command(project, native);
    program.arg("adapter").arg(model).arg(seed.to_string());
    let output = program.output()?;
    ensure!(
        output.status.success(),
        "no adapter could be made: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let folder = project.target.join("bench");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let file = folder.join(format!("random-{seed}.adapter.gguf"));
    std::fs::write(&file, output.stdout)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
