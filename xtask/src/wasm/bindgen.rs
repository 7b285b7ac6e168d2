//! Makes the JavaScript side of a compiled module with wasm-bindgen, used as a library.
//!
//! The library's version equals the crate's (`=0.2.130` in both manifests), so there is no tool to
//! install and no version to mismatch.

use super::{opt, panics, stamp};
use crate::project::Project;
use anyhow::{Context, Result};
use std::path::PathBuf;
use wasm_bindgen_cli_support::Bindgen;

/// Who will load the output: an ES module with an `init` function either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flavour {
    /// A page or a web worker, which may find the `.wasm` beside the script by itself.
    Page,
    /// workerd, which hands the compiled module over, and wants a trapped instance replaced.
    Workerd,
}

/// One module to process.
pub struct Job {
    /// For messages.
    pub name: String,
    /// What cargo made.
    pub input: PathBuf,
    /// Stem of the output files: `<stem>.js`, `<stem>_bg.wasm`, `<stem>.d.ts`.
    pub out_name: &'static str,
    /// Where they go; everything else there is removed.
    pub out_dir: PathBuf,
    /// Who will load them.
    pub flavour: Flavour,
    /// Run wasm-opt.
    pub optimise: bool,
    /// Run it until nothing gets smaller.
    pub converge: bool,
}

/// Counts up when the settings below change, so that old stamps no longer hold.
const SETTINGS_VERSION: u32 = 3;

/// A module whose JavaScript side is made and whose code is not yet optimised.
pub struct Unfinished {
    job: Job,
    wasm: PathBuf,
    stamp: stamp::Stamp,
}

/// Runs wasm-bindgen unless nothing changed; reads `job.input`, which cargo may write anew afterwards.
pub fn run(project: &Project, job: Job) -> Result<Option<Unfinished>> {
    let wasm = job.out_dir.join(format!("{}_bg.wasm", job.out_name));
    let settings = format!(
        "v{SETTINGS_VERSION} {:?} optimise={} converge={}",
        job.flavour, job.optimise, job.converge
    );
    let stamp = stamp::Stamp::of(project, &job.out_dir, &job.input, &settings)?;
    if stamp.holds() && wasm.is_file() {
        report(project, &job, &wasm, "unchanged")?;
        return Ok(None);
    }
    stamp.clear()?;
    // A fresh folder: file names may change between versions.
    if job.out_dir.exists() {
        std::fs::remove_dir_all(&job.out_dir)
            .with_context(|| format!("cannot clear {}", job.out_dir.display()))?;
    }
    let mut bindgen = Bindgen::new();
    bindgen
        .input_path(&job.input)
        .out_name(job.out_name)
        .typescript(true)
        .remove_producers_section(true);
    bindgen.web(true)?;
    if job.flavour == Flavour::Workerd {
        bindgen
            .omit_default_module_path(true)
            .reset_state_function(true);
    }
    let mut output = bindgen
        .generate_output()
        .with_context(|| format!("wasm-bindgen cannot process {}", project.show(&job.input)))?;
    // The Worker's own library says what a panic was.
    if job.flavour == Flavour::Page {
        panics::trap_at_once(&mut output)?;
    }
    output
        .emit(&job.out_dir)
        .with_context(|| format!("cannot write to {}", job.out_dir.display()))?;
    Ok(Some(Unfinished { job, wasm, stamp }))
}

impl Unfinished {
    /// Runs wasm-opt where it was asked for.
    pub fn finish(self, project: &Project) -> Result<()> {
        let Self { job, wasm, stamp } = self;
        if job.optimise {
            opt::run_opt(project, &wasm, job.converge)?;
        }
        stamp.write()?;
        report(project, &job, &wasm, "built")
    }
}

fn report(project: &Project, job: &Job, wasm: &std::path::Path, what: &str) -> Result<()> {
    let bytes = std::fs::read(wasm).with_context(|| format!("cannot read {}", wasm.display()))?;
    let gzip = crate::size::gzip_bytes(&bytes)?;
    println!(
        "{}: {what}, {} ({} kB, gzip {} kB)",
        job.name,
        project.show(wasm),
        bytes.len() / 1000,
        gzip / 1000
    );
    Ok(())
}
