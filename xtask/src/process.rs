//! Runs other programs: shows the command, waits, and turns a failure into an error that names it.

use crate::project::{Project, cargo};
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// A program in the repository's root, with no standard input. It is told where builds lie, and
/// where the fetched models of the tests do.
pub fn command(project: &Project, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, path) in [
        ("MEETARA_SMOLLM2", crate::models::smollm2_path(project)),
        ("MEETARA_MINILM", crate::models::minilm_path(project)),
    ] {
        if std::env::var_os(name).is_none() {
            command.env(name, path);
        }
    }
    command
        .current_dir(&project.root)
        .env("CARGO_TARGET_DIR", &project.target)
        .stdin(Stdio::null());
    command
}

/// Cargo in the repository's root.
///
/// What the outer cargo sets about the crate `xtask` is taken out, lest build scripts see it change
/// and start anew.
pub fn cargo_command(project: &Project) -> Command {
    let mut command = command(project, cargo());
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Shows and runs a command; an exit code other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    println!("$ {shown}");
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Whether a program can be started at all and says yes.
pub fn succeeds(program: &str, args: &[&str]) -> bool {
    let silent = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    silent.is_ok_and(|status| status.success())
}

/// Program and arguments, as one would type them.
fn show(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program
        .file_name()
        .unwrap_or(command.get_program())
        .to_string_lossy();
    let mut shown = name.into_owned();
    for arg in command.get_args() {
        shown.push(' ');
        shown.push_str(&arg.to_string_lossy());
    }
    shown
}
