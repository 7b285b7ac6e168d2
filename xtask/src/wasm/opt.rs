//! Shrinks a module with wasm-opt from npm's binaryen.

use crate::process::{command, run};
use crate::project::Project;
use crate::tools;
use anyhow::{Context, Result};
use std::path::Path;

/// The features that browsers and workerd have. Never `--all-features`: with it wasm-opt writes
/// encodings that Chromium refuses.
const FLAGS: [&str; 12] = [
    "-O3",
    "--enable-simd",
    // Only what asks for it uses them: the build with threads.
    "--enable-threads",
    "--enable-relaxed-simd",
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-reference-types",
    "--enable-multivalue",
    // worker's panic handling uses exceptions.
    "--enable-exception-handling",
];

/// Optimises `wasm` in place; `again` until nothing gets smaller, which takes several times as long.
pub fn run_opt(project: &Project, wasm: &Path, again: bool) -> Result<()> {
    let script = tools::ensure_wasm_opt(project)?;
    let temporary = wasm.with_extension("opt.wasm");
    run(command(project, "node")
        .arg(script)
        .args(FLAGS)
        .args(again.then_some("--converge"))
        .arg(wasm)
        .arg("-o")
        .arg(&temporary))
    .context("wasm-opt failed; `--no-opt` builds without it")?;
    std::fs::rename(&temporary, wasm).with_context(|| format!("cannot replace {}", wasm.display()))
}
