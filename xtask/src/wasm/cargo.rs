//! Compiles one crate to WebAssembly and says where the file lies.

use super::Features;
use crate::process::{cargo_command, run};
use crate::project::{Project, WASM_TARGET};
use anyhow::{Result, ensure};
use std::path::PathBuf;

impl Features {
    /// The folder below `<target>/wasm` that holds this variant's builds.
    pub fn dir(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Simd128 => "simd128",
        }
    }

    /// RUSTFLAGS of this variant.
    pub fn rustflags(self) -> &'static str {
        match self {
            Self::Scalar => "",
            Self::Simd128 => "-C target-feature=+simd128",
        }
    }
}

/// `cargo build --profile wasm -p <package>`; returns the path of the `.wasm` file.
pub fn build(project: &Project, package: &str, features: Features) -> Result<PathBuf> {
    let target = project.target.join("wasm").join(features.dir());
    run(cargo_command(project)
        .args([
            "build",
            "--profile",
            "wasm",
            "--target",
            WASM_TARGET,
            "--package",
            package,
        ])
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", features.rustflags())
        .env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    let file = target
        .join(WASM_TARGET)
        .join("wasm")
        .join(format!("{}.wasm", package.replace('-', "_")));
    ensure!(
        file.is_file(),
        "cargo succeeded but {} is not there; is {package} still a cdylib?",
        project.show(&file)
    );
    Ok(file)
}
