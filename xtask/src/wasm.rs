//! `cargo xtask wasm`: builds what runs in a sandbox.
//!
//! | what | crate | features | output |
//! |---|---|---|---|
//! | browser bundle for every engine | browser | none | `pkg/dist/scalar/` |
//! | browser bundle with SIMD | browser | simd128 | `pkg/dist/simd128/` |
//! | browser bundle with relaxed SIMD | browser | simd128, relaxed-simd | `pkg/dist/relaxed/` |
//! | browser bundle that also runs on the GPU | browser, feature `gpu` | simd128, relaxed-simd | `pkg/dist/webgpu/` |
//! | browser bundle of encoders alone | browser, feature `encoder` without the others | simd128 | `pkg/dist/encoder/` |
//! | browser bundle with threads | browser, feature `threads` | the same, atomics | `pkg/dist/threads/` |
//! | masks of schemas, for any of these | browser/constraint | none | `pkg/dist/constraint/` |
//! | module for the wasmtime host | component | relaxed | `<target>/wasm/meetara_component.wasm` |
//! | Cloudflare Worker | edge | relaxed | `host/edge/dist/` |
//!
//! Cargo decides whether a crate is compiled again; the steps after it are skipped when their
//! input and settings hash to what they were (`<target>/wasm/stamps`).

mod bindgen;
mod cargo;
mod opt;
mod panics;
mod stamp;

pub use cargo::command;
pub use stamp::hex;

use crate::project::Project;
use crate::tools;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};

/// How many modules are optimised at once, beside the compiler.
const FINISHERS: usize = 2;

/// Flags of `cargo xtask wasm`.
#[derive(clap::Args, Clone, Default)]
pub struct Args {
    /// Skip wasm-opt: quicker builds, larger files
    #[arg(long)]
    pub no_opt: bool,
    /// Build only these (default: all)
    #[arg(value_enum)]
    pub only: Vec<Product>,
}

/// What can be built.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// The browser bundle without SIMD
    Scalar,
    /// The browser bundle with SIMD
    Simd128,
    /// The browser bundle with relaxed SIMD
    Relaxed,
    /// The browser bundle with relaxed SIMD that also runs on the GPU, where there is one
    Webgpu,
    /// The browser bundle with relaxed SIMD whose products several workers share
    Threads,
    /// The browser bundle with relaxed SIMD that runs encoders, and no chat models
    Encoder,
    /// The same with SIMD
    EncoderSimd128,
    /// The browser's module that holds replies to schemas, beside any bundle
    Constraint,
    /// The module that the native host runs in wasmtime
    Component,
    /// The Cloudflare Worker
    Edge,
}

impl Product {
    /// The builds of which a browser takes one, and what goes beside; the page's build needs all of them.
    pub const BROWSER: [Self; 8] = [
        Self::Scalar,
        Self::Simd128,
        Self::Relaxed,
        Self::Webgpu,
        Self::Threads,
        Self::Encoder,
        Self::EncoderSimd128,
        Self::Constraint,
    ];
    /// The builds that run on servers.
    const SERVERS: [Self; 2] = [Self::Component, Self::Edge];
}

/// How a product is compiled: target features, cargo's features.
#[derive(Clone, Copy)]
pub enum Features {
    Scalar,
    Simd128,
    Relaxed,
    /// Relaxed SIMD and the cargo feature `gpu`.
    Webgpu,
    /// Relaxed SIMD and the cargo feature `threads`, over shared memory, with a standard library of
    /// its own.
    Threads,
    /// Relaxed SIMD and the cargo feature `encoder` alone.
    Encoder,
    /// The same with SIMD.
    EncoderSimd128,
}

/// Builds `products` as they are shipped.
pub fn ensure(project: &Project, products: &[Product]) -> Result<()> {
    let only = products.to_vec();
    let no_opt = false;
    run(project, &Args { no_opt, only })
}

/// Builds the products asked for, all by default.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    tools::ensure_wasm_target(project)?;
    if !args.no_opt {
        // Here, so that no two of the threads below install it.
        tools::ensure_wasm_opt(project)?;
    }
    let products = Product::BROWSER.into_iter().chain(Product::SERVERS);
    let wanted = products.filter(|product| args.only.is_empty() || args.only.contains(product));
    // wasm-opt has one thread, and so has rustc where it links: they take turns on different modules.
    let (sender, receiver) = mpsc::channel::<bindgen::Unfinished>();
    let receiver = Mutex::new(receiver);
    let next = || receiver.lock().ok()?.recv().ok();
    std::thread::scope(|scope| {
        let finishers: Vec<_> = (0..FINISHERS)
            .map(|_| {
                scope.spawn(|| {
                    std::iter::from_fn(next).try_for_each(|module| module.finish(project))
                })
            })
            .collect();
        let mut outcome = Ok(());
        for product in wanted {
            outcome = build(project, product, !args.no_opt).map(|module| {
                // Fails where all finishers failed, which is told below.
                module.and_then(|module| sender.send(module).err());
            });
            if outcome.is_err() {
                break;
            }
        }
        drop(sender);
        for finisher in finishers {
            let finished = finisher
                .join()
                .unwrap_or_else(|_| bail!("a thread panicked"));
            outcome = outcome.and(finished);
        }
        outcome
    })
}

/// Compiles a product; gives what is left to do for it, where there is something.
fn build(
    project: &Project,
    product: Product,
    optimise: bool,
) -> Result<Option<bindgen::Unfinished>> {
    match product {
        Product::Scalar
        | Product::Simd128
        | Product::Relaxed
        | Product::Webgpu
        | Product::Encoder
        | Product::EncoderSimd128
        | Product::Threads => {
            let (features, name, out_name) = match product {
                Product::Scalar => (Features::Scalar, "scalar", "meetara_browser"),
                Product::Simd128 => (Features::Simd128, "simd128", "meetara_browser"),
                Product::Relaxed => (Features::Relaxed, "relaxed", "meetara_browser"),
                Product::Encoder => (Features::Encoder, "encoder", "meetara_encoder"),
                Product::EncoderSimd128 => (
                    Features::EncoderSimd128,
                    "encoder-simd128",
                    "meetara_encoder",
                ),
                Product::Threads => (Features::Threads, "threads", "meetara_threads"),
                _ => (Features::Webgpu, "webgpu", "meetara_webgpu"),
            };
            let out_dir = project.root.join("pkg/dist").join(name);
            if product == Product::Threads && !tools::ensure_rust_src(project) {
                let why = "rustup has no component rust-src here";
                return without_threads(&out_dir, out_name, why).map(|()| None);
            }
            let input = match cargo::build(project, "meetara-browser", features) {
                // What our own code would be to blame for, `clippy wasm` finds.
                Err(error) if product == Product::Threads => {
                    return without_threads(&out_dir, out_name, &format!("{error:#}"))
                        .map(|()| None);
                }
                built => built?,
            };
            let job = bindgen::Job {
                name: format!("browser-{name}"),
                input,
                out_name,
                out_dir,
                flavour: bindgen::Flavour::Page,
                optimise,
                converge: true,
            };
            bindgen::run(project, job)
        }
        Product::Constraint => {
            let input = cargo::build(project, "meetara-browser-constraint", Features::Scalar)?;
            let job = bindgen::Job {
                name: "browser-constraint".to_owned(),
                input,
                out_name: "meetara_constraint",
                out_dir: project.root.join("pkg/dist/constraint"),
                flavour: bindgen::Flavour::Page,
                optimise,
                // It is the largest and fetched by few, and would take two minutes.
                converge: false,
            };
            bindgen::run(project, job)
        }
        Product::Component => {
            let input = cargo::build(project, "meetara-component", Features::Relaxed)?;
            let output = component_path(project);
            // An unchanged file keeps its time stamp, so that nothing downstream is built again.
            let bytes = std::fs::read(&input)
                .with_context(|| format!("cannot read {}", input.display()))?;
            if std::fs::read(&output).ok().as_deref() != Some(&bytes) {
                std::fs::write(&output, &bytes)
                    .with_context(|| format!("cannot write {}", output.display()))?;
            }
            println!(
                "component: {} ({} kB)",
                project.show(&output),
                bytes.len() / 1000
            );
            Ok(None)
        }
        Product::Edge => {
            let input = cargo::build(project, "meetara-edge", Features::Relaxed)?;
            let job = bindgen::Job {
                name: "edge".to_owned(),
                input,
                out_name: "meetara_edge",
                out_dir: project.root.join("host/edge/dist"),
                flavour: bindgen::Flavour::Workerd,
                optimise,
                converge: true,
            };
            bindgen::run(project, job)
        }
    }
}

/// Puts a file in place of the build with threads that says why it is not there, so that the page,
/// which would import it, can be built; it goes on without.
fn without_threads(out_dir: &Path, out_name: &str, why: &str) -> Result<()> {
    println!("browser-threads: SKIPPED ({why}); large models run on one thread");
    std::fs::create_dir_all(out_dir)
        .with_context(|| format!("cannot make {}", out_dir.display()))?;
    // Bundlers look for the names that the package imports.
    let text = "throw new Error(\"this package was built without the build for threads\");\n\
                export const initSync = null, pool_work = null;\n\
                export default null;\n";
    for name in [format!("{out_name}.js"), format!("{out_name}_bg.wasm")] {
        let file = out_dir.join(name);
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Where the host finds its module.
pub fn component_path(project: &Project) -> PathBuf {
    project.target.join("wasm/meetara_component.wasm")
}
