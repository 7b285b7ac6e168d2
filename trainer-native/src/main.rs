//! `meetara-train`: from a person's data to a small model that runs anywhere.

use clap::Parser;
use meetara_train::commands::Cli;

fn main() -> std::process::ExitCode {
    match Cli::parse().run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meetara-train: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
