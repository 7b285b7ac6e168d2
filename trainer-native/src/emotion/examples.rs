//! Files of labelled texts, and what each head should say of each text.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::config::{Dataset, HeadConfig, Link, TextConfig};
use crate::model::encoder::Activation;

/// The label of a request that belongs to no domain.
pub const OUT_OF_SCOPE: &str = "out_of_scope";

/// A head as the trainer needs it.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its name.
    pub name: String,
    /// How scores become probabilities.
    pub activation: Activation,
    /// Its labels in order.
    pub labels: Vec<String>,
    /// Weight of its loss.
    pub weight: f32,
    /// Beta of the F-beta that its thresholds are set for.
    pub recall_weight: f32,
}

/// One text.
#[derive(Clone, Debug)]
pub struct Example {
    /// What was written.
    pub text: String,
    /// Heads that have something to learn from it, and the labels that are right. A sigmoid head may
    /// have none: then every label is wrong.
    pub labels: Vec<(usize, Vec<usize>)>,
}

/// Reads the heads.
pub fn heads(config: &TextConfig) -> Result<Vec<Head>> {
    config.heads.iter().map(head).collect()
}

fn head(config: &HeadConfig) -> Result<Head> {
    let labels = match &config.labels_from {
        Some(path) => {
            let mut names: Vec<String> = domains(path)?.into_iter().map(|(name, _)| name).collect();
            names.push(OUT_OF_SCOPE.into());
            names
        }
        None => config.labels.clone(),
    };
    ensure!(!labels.is_empty(), "head {} has no labels", config.name);
    Ok(Head {
        name: config.name.clone(),
        activation: config.activation,
        labels,
        weight: config.weight,
        recall_weight: config.recall_weight,
    })
}

/// All texts of some files; `repeat` decides how often each stands in the result.
pub fn load(datasets: &[Dataset], heads: &[Head], seed: u64) -> Result<Vec<Example>> {
    let mut all = Vec::new();
    for dataset in datasets {
        let mut examples = file(dataset, heads)?;
        examples.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        if dataset.limit > 0 {
            examples.truncate(dataset.limit);
        }
        let wanted = (examples.len() as f32 * dataset.repeat).round() as usize;
        all.extend(examples.iter().cycle().take(wanted).cloned());
    }
    Ok(all)
}

/// The texts of one file that at least one head learns from.
pub fn file(dataset: &Dataset, heads: &[Head]) -> Result<Vec<Example>> {
    let links: Vec<Reader> = dataset
        .heads
        .iter()
        .map(|link| Reader::new(link, heads))
        .collect::<Result<_>>()?;
    let path = &dataset.path;
    let mut examples = Vec::new();
    for row in rows(path)? {
        let text =
            text(&row).with_context(|| format!("{} has a row without text", path.display()))?;
        let mut labels = Vec::new();
        for link in &links {
            if let Some(found) = link.read(&row)? {
                labels.push((link.head, found));
            }
        }
        if !labels.is_empty() && !text.trim().is_empty() {
            examples.push(Example { text, labels });
        }
    }
    ensure!(
        !examples.is_empty(),
        "{} has no text that a head could learn from; see its labels and `map`",
        path.display()
    );
    Ok(examples)
}

/// Turns a row's labels into a head's.
struct Reader<'a> {
    head: usize,
    activation: Activation,
    link: &'a Link,
    index: HashMap<&'a str, usize>,
    map: Option<BTreeMap<String, Option<String>>>,
}

impl<'a> Reader<'a> {
    fn new(link: &'a Link, heads: &'a [Head]) -> Result<Self> {
        let head = heads
            .iter()
            .position(|head| head.name == link.head)
            .with_context(|| format!("there is no head {}", link.head))?;
        let labels = &heads[head].labels;
        let map = match &link.map {
            Some(path) => Some(
                map(path, &link.table)
                    .with_context(|| format!("map {} of {}", link.table, path.display()))?,
            ),
            None => None,
        };
        Ok(Self {
            head,
            activation: heads[head].activation,
            link,
            index: labels
                .iter()
                .enumerate()
                .map(|(i, l)| (l.as_str(), i))
                .collect(),
            map,
        })
    }

    /// The head's labels of a row; `None` when the head has nothing to learn from it.
    fn read(&self, row: &Value) -> Result<Option<Vec<usize>>> {
        let given: Vec<&str> = match row.get(&self.link.field) {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            // CLINC150 marks a request that is out of scope with no domain.
            Some(Value::Null) => vec!["null"],
            _ => return Ok(None),
        };
        let (mut found, mut none) = (Vec::new(), false);
        for label in &given {
            let ours = match &self.map {
                Some(map) => match map.get(*label) {
                    Some(mapped) => mapped.as_deref(),
                    None => self.link.otherwise.as_deref(),
                },
                // Without a map, `otherwise` is what every text of the file is.
                None => self.link.otherwise.as_deref().or(Some(*label)),
            };
            // A sigmoid head may be told that none of its labels is right.
            none |= ours == Some("none");
            let Some(ours) = ours.filter(|label| *label != "none") else {
                continue;
            };
            let Some(at) = self.index.get(ours) else {
                bail!("head {} has no label {ours}", self.link.head);
            };
            if !found.contains(at) {
                found.push(*at);
            }
        }
        let nothing_is_right = self.activation == Activation::Sigmoid && none;
        Ok((!found.is_empty() || nothing_is_right).then_some(found))
    }
}

/// A row's own text, or the first thing a user said in its chat.
fn text(row: &Value) -> Option<String> {
    if let Some(text) = row.get("text").and_then(Value::as_str) {
        return Some(text.into());
    }
    let turns = row.get("turns")?.as_array()?;
    let said = |turn: &&Value| turn.get("role").and_then(Value::as_str) == Some("user");
    let first = turns.iter().find(said)?.get("content")?.as_str()?;
    Some(first.into())
}

/// The rows of a file as JSON objects.
pub(super) fn rows(path: &Path) -> Result<Vec<Value>> {
    let name = path.to_string_lossy();
    let file = || File::open(path).with_context(|| format!("cannot read {}", path.display()));
    if name.ends_with(".toml") {
        let row = |(domain, text)| serde_json::json!({"text": text, "labels": [domain]});
        return Ok(domains(path)?
            .into_iter()
            .flat_map(|(domain, examples)| {
                examples
                    .into_iter()
                    .map(move |text| row((domain.clone(), text)))
            })
            .collect());
    }
    let reader: Box<dyn Read> = if name.ends_with(".zst") {
        Box::new(zstd::Decoder::new(file()?)?)
    } else {
        Box::new(file()?)
    };
    let mut rows = Vec::new();
    for (i, line) in BufReader::new(reader).lines().enumerate() {
        let at = || format!("{} line {}", path.display(), i + 1);
        let line = line.with_context(at)?;
        if line.is_empty() {
            continue;
        }
        if name.ends_with(".tsv") {
            let columns: Vec<&str> = line.split('\t').collect();
            let Some((text, labels)) = columns.split_last().filter(|(_, l)| !l.is_empty()) else {
                bail!("{}: expected label, tab, text", at());
            };
            rows.push(serde_json::json!({"text": text, "labels": labels}));
        } else {
            // The error's own text would quote the line.
            rows.push(serde_json::from_str(&line).map_err(|error| {
                anyhow::anyhow!("{}: not JSON at column {}", at(), error.column())
            })?);
        }
    }
    Ok(rows)
}

#[derive(serde::Deserialize)]
struct Domains {
    domain: Vec<Domain>,
}

#[derive(serde::Deserialize)]
struct Domain {
    name: String,
    category: String,
    examples: Vec<String>,
}

fn table(path: &Path) -> Result<Vec<Domain>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let all: Domains = toml::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(all.domain)
}

/// Names and example requests of the rows of `domains.toml`.
fn domains(path: &Path) -> Result<Vec<(String, Vec<String>)>> {
    let named = |d: Domain| (d.name, d.examples);
    Ok(table(path)?.into_iter().map(named).collect())
}

/// The category of each domain in `domains.toml`.
pub(super) fn categories(path: &Path) -> Result<BTreeMap<String, String>> {
    let named = |d: Domain| (d.name, d.category);
    Ok(table(path)?.into_iter().map(named).collect())
}

/// A table of label -> label or nothing.
pub(super) fn map(path: &Path, table: &str) -> Result<BTreeMap<String, Option<String>>> {
    let text = std::fs::read_to_string(path)?;
    let all: Value = if path.extension().is_some_and(|e| e == "toml") {
        toml::from_str(&text)?
    } else {
        serde_json::from_str(&text)?
    };
    let table = all.get(table).context("no such table")?;
    let rows = table.as_object().context("not a table")?;
    rows.iter()
        .map(|(from, to)| match to {
            Value::Null => Ok((from.clone(), None)),
            // TOML has no null.
            Value::String(to) if to.is_empty() => Ok((from.clone(), None)),
            Value::String(to) => Ok((from.clone(), Some(to.clone()))),
            _ => bail!("{from} is mapped to something that is no label"),
        })
        .collect()
}
