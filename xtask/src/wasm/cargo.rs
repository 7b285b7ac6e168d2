//! Compiles one crate to WebAssembly and says where the file lies.

use super::Features;
use crate::process::{cargo_command, run};
use crate::project::{Project, WASM_TARGET};
use anyhow::{Result, ensure};
use std::path::PathBuf;
use std::process::Command;

impl Features {
    /// rustc's flags for this variant.
    pub fn rustflags(self) -> &'static [&'static str] {
        match self {
            Self::Scalar => &[],
            Self::Simd128 | Self::EncoderSimd128 => &["-C", "target-feature=+simd128"],
            Self::Relaxed | Self::Webgpu | Self::Encoder => {
                &["-C", "target-feature=+simd128,+relaxed-simd"]
            }
            Self::Threads => &[
                "-C",
                "target-feature=+simd128,+relaxed-simd,+atomics,+bulk-memory,+mutable-globals",
                // The page makes the memory and hands it to every worker.
                "-Clink-arg=--shared-memory",
                "-Clink-arg=--import-memory",
                "-Clink-arg=--max-memory=4294967296",
                // What wasm-bindgen needs to give each worker a stack and thread-local memory.
                "-Clink-arg=--export=__stack_pointer",
                "-Clink-arg=--export=__wasm_init_tls",
                "-Clink-arg=--export=__tls_size",
                "-Clink-arg=--export=__tls_align",
                "-Clink-arg=--export=__tls_base",
            ],
        }
    }

    /// cargo's features for this variant.
    pub fn cargo_features(self) -> &'static [&'static str] {
        match self {
            Self::Webgpu => &["--features", "meetara-browser/gpu"],
            Self::Encoder | Self::EncoderSimd128 => &[
                "--no-default-features",
                "--features",
                "meetara-browser/encoder",
            ],
            // The standard library that comes with rustc knows no threads on this target.
            Self::Threads => &[
                "--features",
                "meetara-browser/threads",
                "-Zbuild-std=std,panic_abort",
            ],
            _ => &[],
        }
    }
}

/// What is sent to browsers and to Cloudflare must be small; what servers run need only be fast.
fn profile(package: &str) -> &'static str {
    match package {
        "meetara-component" => "component",
        _ => "wasm",
    }
}

/// `cargo build -p <package>` in its profile; returns the path of the `.wasm` file.
pub fn build(project: &Project, package: &str, features: Features) -> Result<PathBuf> {
    let profile = profile(package);
    let mut cargo = command(project, "build", features);
    cargo.args(["--profile", profile, "--package", package]);
    run(cargo.args(features.cargo_features()))?;
    // cargo tells builds of other flags and features apart, and links the one asked for to this name.
    let file = target_dir(project)
        .join(WASM_TARGET)
        .join(profile)
        .join(format!("{}.wasm", package.replace('-', "_")));
    ensure!(
        file.is_file(),
        "cargo succeeded but {} is not there; is {package} still a cdylib?",
        project.show(&file)
    );
    Ok(file)
}

/// `cargo <what>` for WebAssembly: target, flags and target folder of a variant.
pub fn command(project: &Project, what: &str, features: Features) -> Command {
    let mut cargo = cargo_command(project);
    if matches!(features, Features::Threads) {
        // `-Zbuild-std` is the one thing here that stable cargo refuses without it.
        cargo.env("RUSTC_BOOTSTRAP", "1");
    }
    cargo
        .args([what, "--target", WASM_TARGET])
        .env("CARGO_TARGET_DIR", target_dir(project))
        .env_remove("RUSTFLAGS")
        // Unlike RUSTFLAGS, this form allows spaces in paths.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            encoded_rustflags(project, features),
        );
    cargo
}

/// One folder for all variants, so that what runs on this machine while building (macros, build
/// scripts) is compiled once.
fn target_dir(project: &Project) -> PathBuf {
    project.target.join("wasm")
}

/// Panic messages hold source paths. They are mapped to short ones, so that the module does not
/// depend on where it was built and does not tell.
fn encoded_rustflags(project: &Project, features: Features) -> String {
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let mut flags: Vec<String> = features
        .rustflags()
        .iter()
        .map(|&flag| flag.to_owned())
        .collect();
    flags.push(format!("--remap-path-prefix={}=.", project.root.display()));
    if let Some(home) = cargo_home {
        flags.push(format!(
            "--remap-path-prefix={}/registry/src=crates",
            home.display()
        ));
    }
    flags.join("\u{1f}")
}
