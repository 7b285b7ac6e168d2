//! `cargo xtask check`: what should pass before every commit, cheapest first.

use crate::process::{cargo_command, run as run_command, succeeds};
use crate::project::{Project, WASM_MEMBERS};
use crate::{tidy, tools, wasm};
use anyhow::Result;

/// Runs the checks; the first failure ends it.
pub fn run(project: &Project) -> Result<()> {
    format(project)?;
    tidy::run(project)?;
    licences(project)?;
    clippy_native(project)?;
    clippy_wasm(project)?;
    println!("check: all good");
    Ok(())
}

/// rustfmt changes nothing.
pub fn format(project: &Project) -> Result<()> {
    run_command(cargo_command(project).args(["fmt", "--all", "--check"]))
}

/// Clippy over the native members and their tests.
///
/// In the release profile, so that build scripts and macros are shared with the tests.
pub fn clippy_native(project: &Project) -> Result<()> {
    let mut clippy = cargo_command(project);
    clippy.args(["clippy", "--release", "--workspace", "--all-targets"]);
    for member in WASM_MEMBERS {
        clippy.args(["--exclude", member]);
    }
    run_command(clippy.args(["--", "-D", "warnings"]))
}

/// Clippy over the members that are built for WebAssembly, with SIMD as they are shipped, and over
/// what the browser's builds for encoders, for the GPU and with threads add.
pub fn clippy_wasm(project: &Project) -> Result<()> {
    tools::ensure_wasm_target(project)?;
    for features in [wasm::Features::Simd128, wasm::Features::Relaxed] {
        let mut clippy = wasm::command(project, "clippy", features);
        clippy.args(["--profile", "wasm"]);
        for member in WASM_MEMBERS {
            clippy.args(["--package", member]);
        }
        run_command(clippy.args(["--", "-D", "warnings"]))?;
    }
    let features = wasm::Features::Encoder;
    let mut clippy = wasm::command(project, "clippy", features);
    clippy.args(["--profile", "wasm", "--package", "meetara-browser"]);
    clippy.args(features.cargo_features());
    run_command(clippy.args(["--", "-D", "warnings"]))?;
    let features = wasm::Features::Webgpu;
    let mut clippy = wasm::command(project, "clippy", features);
    clippy.args(["--profile", "wasm"]);
    clippy.args(["--package", "meetara-browser", "--package", "meetara-gpu"]);
    clippy.args(features.cargo_features());
    // Without atomics, and so without a standard library of its own: the same lines of code.
    clippy.args(["--features", "meetara-browser/threads"]);
    run_command(clippy.args(["--", "-D", "warnings"]))
}

/// Licences, bans and sources of all dependencies, when cargo-deny is installed.
pub fn licences(project: &Project) -> Result<()> {
    if !succeeds("cargo-deny", &["--version"]) {
        println!(
            "cargo-deny is not installed, so licences were not checked (cargo install cargo-deny)"
        );
        return Ok(());
    }
    run_command(cargo_command(project).args(["deny", "check", "licenses", "bans", "sources"]))
}
