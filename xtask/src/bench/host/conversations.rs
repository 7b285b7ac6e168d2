//! The time to start a conversation, and the memory that each has for itself.
//!
//! Every conversation is an instance of its own that springs from one image of the loaded model.
//! Memory is PSS; see host/server/examples/bench_wasmtime/conversations.rs.

use super::super::runtime::Report;
use crate::process::command;
use crate::project::Project;
use crate::wasm;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;

/// Measures 1, 100 and 1,000 conversations with `model`.
pub fn measure(project: &Project, program: &Path, model: &Path, report: &mut Report) -> Result<()> {
    let output = command(project, program)
        .arg("conversations")
        .arg(wasm::component_path(project))
        .arg(model)
        .output()?;
    ensure!(
        output.status.success(),
        "conversations could not be measured: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let measured: Value = serde_json::from_str(line).context("a line is no JSON")?;
        note(&measured, report)?;
    }
    Ok(())
}

/// One line of the program: so many conversations.
fn note(measured: &Value, report: &mut Report) -> Result<()> {
    let figure = |key: &str| {
        let value = measured.get(key).and_then(Value::as_f64);
        value.with_context(|| format!("{key} was not measured"))
    };
    let number = figure("conversations")?;
    let (start_us, p99) = (figure("start_us_median")?, figure("start_us_p99")?);
    let (started, talked) = (figure("pss_bytes_started")?, figure("pss_bytes_talked")?);
    let tokens = figure("tokens_talked")?;
    println!(
        "{number} conversations: one starts in {start_us:.0} us (99 % within {p99:.0}) and takes {:.0} kB, {:.0} kB with {tokens} tokens in its context",
        started / 1e3,
        talked / 1e3,
    );
    let mut set = |key: &str, value| report.set(format!("host.conversations{number}.{key}"), value);
    set("start_ms", start_us / 1e3);
    set("start_p99_ms", p99 / 1e3);
    set("pss_started_mb", started / 1e6);
    set("pss_talked_mb", talked / 1e6);
    set("tokens", tokens);
    Ok(())
}
