//! Figures by name, the table of comparisons, and the bounds of budgets.toml.

use crate::process::command;
use crate::project::Project;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The part of budgets.toml that a measurement can meet or miss; each key names a figure.
#[derive(Deserialize)]
pub struct Bounds {
    /// The least ratio to a peer.
    peers: BTreeMap<String, f64>,
    /// The most of a time, a size or memory.
    runtime: BTreeMap<String, f64>,
}

impl Bounds {
    pub fn read(project: &Project) -> Result<Self> {
        let path = project.root.join("budgets.toml");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("cannot read {}", path.display()))
    }
}

/// All figures of a run, flat.
#[derive(Default)]
pub struct Report(Map<String, Value>);

impl Report {
    /// Sets a figure; numbers are rounded to four digits behind the point.
    pub fn set(&mut self, key: impl Into<String>, value: f64) {
        self.0
            .insert(key.into(), json!((value * 1e4).round() / 1e4));
    }

    /// Sets what is no number.
    pub fn note(&mut self, key: impl Into<String>, value: &str) {
        self.0.insert(key.into(), json!(value));
    }

    /// Notes the date and the CPU.
    pub fn machine(&mut self, project: &Project) {
        let date = command(project, "date").args(["-u", "+%F"]).output();
        let date = date.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
        self.note("date", &date.unwrap_or_default());
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let value = |name: &str| {
            info.lines()
                .find_map(|line| line.strip_prefix(name)?.split_once(": "))
                .map_or("unknown", |(_, value)| value)
        };
        self.note("cpu", value("model name"));
        let has_avx512 = value("flags").contains("avx512f");
        self.note("cpu.avx512", if has_avx512 { "yes" } else { "no" });
    }

    /// What [`Self::note`] set.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    /// The flat JSON object.
    pub fn json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// Says of every bound whether it is kept; an error names those that are not.
    pub fn judge(&self, bounds: &Bounds) -> Result<()> {
        let mut missed = Vec::new();
        let least = bounds.peers.iter().map(|(key, bound)| (key, *bound, true));
        let most = bounds
            .runtime
            .iter()
            .map(|(key, bound)| (key, *bound, false));
        for (key, bound, is_least) in least.chain(most) {
            let Some(found) = self.0.get(key).and_then(Value::as_f64) else {
                continue; // Not part of this run.
            };
            let word = if is_least { "at least" } else { "at most" };
            let line = format!("{key} is {found:.2}, must be {word} {bound}");
            if (found < bound) == is_least && found != bound {
                println!("FAIL  {line}");
                missed.push(line);
            } else {
                println!("ok    {line}");
            }
        }
        if !missed.is_empty() {
            bail!(
                "{} bounds of budgets.toml are not kept: {}",
                missed.len(),
                missed.join("; ")
            );
        }
        Ok(())
    }
}

/// The middle value; of an even number the mean of the middle two.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    f64::midpoint(middle(low), middle(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_is_missed_is_named_and_others_are_not() -> Result<()> {
        let bounds: Bounds = toml::from_str(
            "[peers]\n\"a.ratio\" = 2.0\n\"b.ratio\" = 2.0\n[runtime]\n\"a.load_ms\" = 50\n\"not.run\" = 1\n",
        )?;
        let mut report = Report::default();
        report.set("a.ratio", 2.0);
        report.set("b.ratio", 1.99);
        report.set("a.load_ms", 50.1);
        let message = report.judge(&bounds).unwrap_err().to_string();
        assert!(
            message.contains("b.ratio") && message.contains("a.load_ms"),
            "{message}"
        );
        assert!(
            !message.contains("a.ratio") && !message.contains("not.run"),
            "{message}"
        );
        report.set("b.ratio", 3.0);
        report.set("a.load_ms", 50.0);
        report.judge(&bounds)
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
