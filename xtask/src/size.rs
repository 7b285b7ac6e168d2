//! `cargo xtask size`: compares what is shipped with the limits in budgets.toml.

use crate::project::Project;
use anyhow::{Context, Result, bail};
use flate2::{Compression, write::GzEncoder};
use serde::Deserialize;
use std::io::Write;

/// The part of budgets.toml that can be checked by looking at files.
#[derive(Deserialize)]
struct Budgets {
    size: Vec<Budget>,
}

/// One file and its limit. Exactly one of the two limits is given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    /// Path from the repository's root.
    file: String,
    /// Limit of the file as it is.
    bytes_max: Option<u64>,
    /// Limit of the file compressed with gzip -9.
    gzip_bytes_max: Option<u64>,
    /// How to make the file when it is missing.
    made_by: String,
}

/// Prints a line per budget; fails when one is exceeded or a file is missing.
pub fn run(project: &Project) -> Result<()> {
    let path = project.root.join("budgets.toml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let budgets: Budgets =
        toml::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?;
    let mut failed = 0;
    for budget in &budgets.size {
        match check(project, budget) {
            Ok(line) => println!("ok    {line}"),
            Err(error) => {
                failed += 1;
                println!("FAIL  {error:#}");
            }
        }
    }
    println!(
        "size: {} passed, {failed} failed",
        budgets.size.len() - failed
    );
    if failed > 0 {
        bail!(
            "{failed} of {} size budgets are not met",
            budgets.size.len()
        );
    }
    Ok(())
}

fn check(project: &Project, budget: &Budget) -> Result<String> {
    let Ok(bytes) = std::fs::read(project.root.join(&budget.file)) else {
        bail!(
            "{} is not there; `{}` makes it",
            budget.file,
            budget.made_by
        );
    };
    let (what, found, limit) = match (budget.bytes_max, budget.gzip_bytes_max) {
        (Some(limit), None) => ("bytes", bytes.len() as u64, limit),
        (None, Some(limit)) => ("bytes gzip", gzip_bytes(&bytes)?, limit),
        _ => bail!(
            "{}: give either bytes_max or gzip_bytes_max in budgets.toml",
            budget.file
        ),
    };
    let line = format!(
        "{}: {found} of {limit} {what} ({} %)",
        budget.file,
        found * 100 / limit.max(1)
    );
    if found > limit {
        bail!("{line}: over budget");
    }
    Ok(line)
}

/// Length after gzip -9, which is what a web server sends.
pub fn gzip_bytes(bytes: &[u8]) -> Result<u64> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len() as u64)
}
