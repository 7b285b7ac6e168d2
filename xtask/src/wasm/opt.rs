//! Shrinks a module with wasm-opt from npm's binaryen.

use crate::process::{command, run};
use crate::project::Project;
use crate::tools;
use anyhow::{Context, Result};
use std::path::Path;

/// The features that browsers and workerd have. Never `--all-features`: with it wasm-opt writes
/// encodings that Chromium refuses.
const FLAGS: [&str; 13] = [
    "-O3",
    "--converge",
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

/// Optimises `wasm` in place.
pub fn run_opt(project: &Project, wasm: &Path) -> Result<()> {
    let script = tools::ensure_wasm_opt(project)?;
    let temporary = wasm.with_extension("opt.wasm");
    run(command(project, "node")
        .arg(script)
        .args(FLAGS)
        .arg(wasm)
        .arg("-o")
        .arg(&temporary))
    .context("wasm-opt failed; `--no-opt` builds without it")?;
    std::fs::rename(&temporary, wasm).with_context(|| format!("cannot replace {}", wasm.display()))
}
