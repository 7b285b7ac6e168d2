//! `meetara-train`: from a person's data to a small model that runs anywhere.

mod commands;
mod config;
mod data;
mod kernels;
mod model;
mod tokenizer;
mod train;

use clap::Parser;

fn main() -> std::process::ExitCode {
    let cli = commands::Cli::parse();
    match cli.run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meetara-train: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
