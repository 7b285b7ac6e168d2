//! `cargo xtask bench host`: what conversations on a server cost, and how many users it serves.
//!
//! `conversations` measures their start and their memory, `load` the speed with 1, 8 and 64 clients
//! at once, beside llama-server on the same file.

mod client;
mod conversations;
mod load;
mod servers;

use super::runtime::{Bounds, Report};
use crate::process::{cargo_command, run as run_command};
use crate::project::Project;
use crate::wasm;
use anyhow::Result;
use std::path::PathBuf;

/// Flags of `cargo xtask bench host`.
#[derive(clap::Args)]
pub struct Args {
    /// Turns of each server at each number of clients
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Tokens of a reply at most
    #[arg(long, default_value_t = 32)]
    tokens: u32,
    /// Threads of both servers
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Only what conversations cost: needs no peer
    #[arg(long)]
    alone: bool,
    /// Print one flat JSON object at the end
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let program = build(project)?;
    let model = project
        .root
        .join("models/pocket/meetara-pocket-q4_k_m.gguf");
    let mut report = Report::default();
    report.machine(project);
    conversations::measure(project, &program, &model, &mut report)?;
    if !args.alone {
        load::measure(project, args, &model, &mut report)?;
    }
    // Before the verdict, so that whoever reads the figures gets them in any case.
    if args.json {
        println!("{}", report.json());
    }
    report.judge(&Bounds::read(project)?)
}

/// Builds the sandboxed engine, the host, and the program that runs the engine for measurements.
pub fn build(project: &Project) -> Result<PathBuf> {
    let only = vec![wasm::Product::Component];
    let no_opt = false;
    wasm::run(project, &wasm::Args { no_opt, only })?;
    let mut cargo = cargo_command(project);
    cargo.args(["build", "--release", "--package", "meetara-host"]);
    run_command(cargo.args(["--bins", "--example", "bench_wasmtime"]))?;
    Ok(project.target.join("release/examples/bench_wasmtime"))
}
