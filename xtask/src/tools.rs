//! Installs what is missing: rustup targets, npm packages, Debian packages.
//!
//! Each function first looks whether there is anything to do, so that a second run costs
//! milliseconds.

use crate::process::{command, run, succeeds};
use crate::project::{Project, WASM_TARGET};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of npm's `binaryen` whose wasm-opt is used.
const BINARYEN_VERSION: &str = "132.0.0";

/// Adds rustc's wasm target when it is missing.
pub fn ensure_wasm_target(project: &Project) -> Result<()> {
    let sysroot = Command::new("rustc")
        .args(["--print", "sysroot"])
        .current_dir(&project.root)
        .output();
    if let Ok(output) = sysroot {
        let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if sysroot.join("lib/rustlib").join(WASM_TARGET).is_dir() {
            return Ok(());
        }
    }
    run(command(project, "rustup").args(["target", "add", WASM_TARGET]))
        .context("the Rust target for WebAssembly is missing and rustup could not add it")
}

/// Whether the standard library's source is there, from which a build with threads makes its own.
/// Adds it where rustup can.
pub fn ensure_rust_src(project: &Project) -> bool {
    let has_source = || {
        let sysroot = Command::new("rustc")
            .args(["--print", "sysroot"])
            .current_dir(&project.root)
            .output();
        sysroot.is_ok_and(|output| {
            let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
            let library = sysroot.join("lib/rustlib/src/rust/library");
            library.join("Cargo.lock").is_file()
        })
    };
    has_source()
        || (run(command(project, "rustup").args(["component", "add", "rust-src"])).is_ok()
            && has_source())
}

/// Checks that Node is there and new enough.
pub fn ensure_node() -> Result<()> {
    let output = Command::new("node").arg("--version").output();
    let version = output
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
        .unwrap_or_default();
    let major = version
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|n| n.parse::<u32>().ok());
    match major {
        Some(20..) => Ok(()),
        Some(_) => bail!("Node {version} is too old: install Node 20 or newer"),
        None => bail!("Node is not in the PATH: install Node 20 or newer"),
    }
}

/// `npm ci` in a folder of the repository, unless its node_modules match the lock file.
/// A folder without package.json is left alone.
pub fn ensure_npm(project: &Project, dir: &Path) -> Result<()> {
    let lock = dir.join("package-lock.json");
    if !dir.join("package.json").is_file() {
        return Ok(());
    }
    ensure!(
        lock.is_file(),
        "{} is missing: run `npm install` there and commit it",
        project.show(&lock)
    );
    let wanted = std::fs::read_to_string(&lock)
        .with_context(|| format!("cannot read {}", lock.display()))?;
    let stamp = dir.join("node_modules/.installed-from-lock");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    ensure_node()?;
    println!("{}: installing npm packages", project.show(dir));
    run(command(project, "npm").current_dir(dir).args([
        "ci",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]))?;
    std::fs::create_dir_all(dir.join("node_modules"))?;
    std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Installs binaryen below the target folder; returns the path of its wasm-opt script.
pub fn ensure_wasm_opt(project: &Project) -> Result<PathBuf> {
    let dir = project.tools().join(format!("binaryen-{BINARYEN_VERSION}"));
    let script = dir.join("node_modules/binaryen/bin/wasm-opt");
    if !script.is_file() {
        ensure_node()?;
        println!("installing wasm-opt (npm package binaryen {BINARYEN_VERSION})");
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("cannot create {}", dir.display()))?;
        std::fs::write(dir.join("package.json"), "{\"private\": true}\n")?;
        let package = format!("binaryen@{BINARYEN_VERSION}");
        run(command(project, "npm").current_dir(&dir).args([
            "install",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
            "--ignore-scripts",
            &package,
        ]))?;
    }
    Ok(script)
}

/// A Debian package that the tests need, and a file that shows that it is there.
struct DebianPackage {
    name: &'static str,
    why: &'static str,
    /// Any of these files will do.
    files: &'static [&'static str],
}

const DEBIAN_PACKAGES: [DebianPackage; 3] = [
    DebianPackage {
        name: "chromium",
        why: "the browser of the page's tests",
        files: &[
            "/usr/bin/chromium",
            "/usr/bin/google-chrome",
            "/usr/bin/chromium-browser",
        ],
    },
    DebianPackage {
        name: "mesa-vulkan-drivers",
        why: "a Vulkan driver without a GPU, for the trainer's GPU path",
        files: &[
            "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json",
            "/usr/share/vulkan/icd.d/lvp_icd.aarch64.json",
            "/usr/share/vulkan/icd.d/lvp_icd.json",
        ],
    },
    DebianPackage {
        name: "libvulkan1",
        why: "the Vulkan loader",
        files: &[
            "/usr/lib/x86_64-linux-gnu/libvulkan.so.1",
            "/usr/lib/aarch64-linux-gnu/libvulkan.so.1",
            "/usr/lib64/libvulkan.so.1",
        ],
    },
];

/// Installs the Debian packages of the tests, through sudo when not root.
pub fn ensure_debian_packages(project: &Project) -> Result<()> {
    let missing: Vec<&DebianPackage> = DEBIAN_PACKAGES
        .iter()
        .filter(|p| !p.files.iter().any(|file| Path::new(file).exists()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        println!(
            "{} is missing ({}); installing it",
            package.name, package.why
        );
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    ensure!(
        Path::new("/usr/bin/apt-get").exists(),
        "install {} with this system's package manager, then run the tests again",
        names.join(", ")
    );
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|o| o.stdout.trim_ascii() == b"0");
    ensure!(
        is_root || succeeds("sudo", &["-n", "true"]) || std::env::var_os("CI").is_none(),
        "cannot install {}: not root, and sudo asks for a password",
        names.join(", ")
    );
    let apt = |args: &[&str]| {
        let mut apt = if is_root {
            command(project, "apt-get")
        } else {
            let mut sudo = command(project, "sudo");
            sudo.arg("--preserve-env=DEBIAN_FRONTEND").arg("apt-get");
            sudo
        };
        apt.env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-q", "-y"])
            .args(args);
        run(&mut apt)
    };
    apt(&["update"])?;
    apt(&[&["install", "--no-install-recommends"], names.as_slice()].concat())
}
