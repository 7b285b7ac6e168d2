//! Build, test, measure: `cargo xtask <command>`.
//!
//! Everything a person or CI runs starts here, so that nobody has to know which tool does what.
//! Each command is one file. Nothing is installed outside the target folder, `node_modules`
//! folders and rustup's targets, except Debian packages in `test`.

mod bench;
mod check;
mod models;
mod process;
mod project;
mod size;
mod test;
mod tidy;
mod tools;
mod up;
mod vectors;
mod wasm;

use anyhow::Result;
use clap::{Parser, Subcommand};
use project::Project;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, test and measure MeeTARA Lab")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing, build, start the host and open the page
    Up(up::Args),
    /// Run every test there is
    Test(test::Args),
    /// The quick checks: formatting, lints, conventions, licences
    Check,
    /// Build what runs in a sandbox: browser bundles, host module, edge worker
    Wasm(wasm::Args),
    /// Fetch a model that is not in the repository, and verify it
    Models(models::Args),
    /// Compare file sizes with budgets.toml
    Size,
    /// Measure speed, beside a reference where there is one
    Bench(bench::Args),
    /// Make the expected values of the tests anew
    Vectors(vectors::Args),
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    let project = Project::locate()?;
    match command {
        Command::Up(args) => up::run(&project, &args),
        Command::Test(args) => test::run(&project, &args),
        Command::Check => check::run(&project),
        Command::Wasm(args) => wasm::run(&project, &args),
        Command::Models(args) => models::run(&project, &args),
        Command::Size => size::run(&project),
        Command::Bench(args) => bench::run(&project, &args),
        Command::Vectors(args) => vectors::run(&project, &args),
    }
}
