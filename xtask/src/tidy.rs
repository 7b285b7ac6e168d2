//! Conventions as a test: what reviewers would otherwise have to say again and again.
//!
//! - every Rust file opens with a `//!` module doc;
//! - crates and the engine's modules import along the arrows of ARCHITECTURE.md only;
//! - the engine does no I/O, `format` forbids `unsafe`, and `unsafe` stays where it belongs;
//! - every `#[allow]` has a reason.

mod arrows;
mod sources;

use crate::project::Project;
use anyhow::{Result, bail};

/// Prints every fault, then fails if there was one.
pub fn run(project: &Project) -> Result<()> {
    let files = sources::list(project)?;
    let mut faults = arrows::crates(project)?;
    for file in &files {
        faults.extend(sources::faults(file));
        faults.extend(arrows::modules(file));
    }
    for fault in &faults {
        println!("tidy: {fault}");
    }
    println!("tidy: {} files, {} faults", files.len(), faults.len());
    if !faults.is_empty() {
        bail!("{} conventions are not kept", faults.len());
    }
    Ok(())
}
