//! A finished file on texts that it has not learnt from, read by the engine that users run.
//!
//! Calibration sets each head's temperature, and a sigmoid head's thresholds, on the held-out files;
//! figures come from the test files and never touch either.

use anyhow::{Context, Result};
use meetara_engine::encoder::{Activation, Encoder};
use meetara_format::{Array, Gguf, Value, Writer};
use rayon::prelude::*;
use serde::Serialize;

use super::config::TestSet;
use super::examples::{self, Example, Head};
use super::metrics::{self, Counts};

/// What a head said of some texts, and what was right.
#[derive(Clone, Debug, Default)]
struct Said {
    logits: Vec<Vec<f32>>,
    right: Vec<Vec<usize>>,
}

/// The file's heads in the trainer's terms.
pub fn heads(encoder: &Encoder) -> Vec<Head> {
    let head = |head: &meetara_engine::encoder::Head| Head {
        name: head.name.clone(),
        activation: match head.activation {
            Activation::Sigmoid => crate::model::encoder::Activation::Sigmoid,
            Activation::Softmax => crate::model::encoder::Activation::Softmax,
        },
        labels: head.labels.clone(),
        weight: 1.0,
    };
    encoder.heads().iter().map(head).collect()
}

/// Reads every text once; what each head said of the texts that have labels for it.
fn read(encoder: &Encoder, examples: &[Example]) -> Result<Vec<Said>> {
    let rows: Vec<Vec<Vec<f32>>> = examples
        .par_iter()
        .map(|example| {
            let reading = encoder.encode(&example.text)?;
            Ok(reading.heads.into_iter().map(|head| head.logits).collect())
        })
        .collect::<Result<_>>()?;
    let mut said = vec![Said::default(); encoder.heads().len()];
    for (mut logits, example) in rows.into_iter().zip(examples) {
        for (head, right) in &example.labels {
            said[*head].logits.push(std::mem::take(&mut logits[*head]));
            said[*head].right.push(right.clone());
        }
    }
    Ok(said)
}

/// Logits over the temperature, activated.
fn probabilities(logits: &[f32], activation: Activation, temperature: f32) -> Vec<f32> {
    let scaled = logits.iter().map(|x| x / temperature);
    match activation {
        Activation::Sigmoid => scaled.map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
        Activation::Softmax => {
            let max = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b)) / temperature;
            let powers: Vec<f32> = scaled.map(|x| (x - max).exp()).collect();
            let sum: f32 = powers.iter().sum();
            powers.iter().map(|p| p / sum).collect()
        }
    }
}

impl Said {
    fn at(&self, activation: Activation, temperature: f32) -> Vec<Vec<f32>> {
        let of = |logits: &Vec<f32>| probabilities(logits, activation, temperature);
        self.logits.iter().map(of).collect()
    }

    /// Mean negative log-likelihood: for softmax that one of the right labels is, for sigmoid of every
    /// label.
    fn nll(&self, activation: Activation, temperature: f32) -> f64 {
        let ln = |p: f64| p.clamp(1e-7, 1.0).ln();
        let mut sum = 0.0;
        for (probs, right) in self.at(activation, temperature).iter().zip(&self.right) {
            let probs = probs.iter().map(|p| f64::from(*p));
            sum -= match activation {
                Activation::Softmax => {
                    let rights = probs.enumerate().filter(|(label, _)| right.contains(label));
                    ln(rights.map(|(_, p)| p).sum())
                }
                Activation::Sigmoid => probs
                    .enumerate()
                    .map(|(label, p)| ln(if right.contains(&label) { p } else { 1.0 - p }))
                    .sum(),
            };
        }
        sum / self.logits.len().max(1) as f64
    }

    /// Expected calibration error: of the likeliest label for softmax, of every label for sigmoid.
    fn calibration_error(&self, activation: Activation, temperature: f32) -> f64 {
        let probs = self.at(activation, temperature);
        metrics::calibration_error(probs.iter().zip(&self.right).flat_map(|(probs, right)| {
            let labels = match activation {
                Activation::Sigmoid => (0..probs.len()).collect(),
                Activation::Softmax => vec![metrics::most_likely(probs)],
            };
            labels
                .into_iter()
                .map(|label| (probs[label], right.contains(&label)))
        }))
    }
}

/// `file` with temperatures and thresholds set on `held_out`.
pub fn calibrate(file: &[u8], held_out: &[Example]) -> Result<Vec<u8>> {
    let encoder = Encoder::load(file.to_vec())?;
    let mut set: Vec<(String, Value)> = Vec::new();
    for (head, said) in encoder.heads().iter().zip(read(&encoder, held_out)?) {
        if said.logits.is_empty() {
            eprintln!(
                "no held-out text has labels for head {}: it keeps its temperature and thresholds",
                head.name
            );
            continue;
        }
        let temperature = metrics::best_temperature(|t| said.nll(head.activation, t));
        set.push((
            format!("meetara.head.{}.temperature", head.name),
            Value::F32(temperature),
        ));
        if head.activation == Activation::Sigmoid {
            let probs = said.at(head.activation, temperature);
            let best = metrics::best_thresholds(&probs, &said.right, head.labels.len());
            set.push((
                format!("meetara.head.{}.thresholds", head.name),
                Value::Array(Array::F32(best)),
            ));
        }
    }
    let gguf = Gguf::parse(file, file.len() as u64)?;
    let mut writer = Writer::new(gguf.get_str("general.architecture")?.unwrap_or_default());
    for (key, value) in gguf.metadata.iter().chain(&set) {
        writer.set(key, value.clone());
    }
    for tensor in &gguf.tensors {
        let bytes = gguf.tensor_data(tensor, file)?.to_vec();
        writer.add_tensor(&tensor.name, tensor.shape(), tensor.ty, bytes)?;
    }
    Ok(writer.finish()?)
}

/// Figures of one head on one test file.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// The test's name.
    pub test: String,
    /// The head's name.
    pub head: String,
    /// Texts with labels for it.
    pub texts: usize,
    /// Mean F1 over labels.
    pub macro_f1: f64,
    /// F1 of all decisions together.
    pub micro_f1: f64,
    /// Mean F1 over labels by how often each is right.
    pub weighted_f1: f64,
    /// The likeliest label is right.
    pub top_1: f64,
    /// One of the three likeliest is.
    pub top_3: f64,
    /// Expected calibration error with temperature 1.
    pub calibration_error_before: f64,
    /// With the file's own.
    pub calibration_error: f64,
    /// One row a label (or group of labels).
    pub labels: Vec<LabelFigures>,
}

/// Figures of one label.
#[derive(Clone, Debug, Serialize)]
pub struct LabelFigures {
    /// Its name.
    pub label: String,
    /// Texts it is right for.
    pub support: u64,
    /// Of what was said, the share that was right.
    pub precision: f64,
    /// Of what was right, the share that was said.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
}

/// Figures of every head that a test has labels for.
pub fn figures(encoder: &Encoder, test: &TestSet) -> Result<Vec<Figures>> {
    let heads = heads(encoder);
    let examples = examples::file(&test.data, &heads)?;
    let all = read(encoder, &examples)?;
    let mut figures = Vec::new();
    for (head, said) in encoder.heads().iter().zip(&all) {
        if said.logits.is_empty() {
            continue;
        }
        let probs = said.at(head.activation, head.temperature);
        let (labels, probs, right) = match &test.groups {
            Some(groups) => grouped(head, &probs, &said.right, &groups.of(&head.labels)?),
            None => (head.labels.clone(), probs, said.right.clone()),
        };
        let counts = match (head.activation, &test.groups) {
            (Activation::Softmax, _) => metrics::at_most_likely(&probs, &right, labels.len()),
            (Activation::Sigmoid, Some(groups)) => {
                metrics::at_thresholds(&probs, &right, &vec![groups.threshold; labels.len()])
            }
            (Activation::Sigmoid, None) => {
                let half = vec![0.5; labels.len()];
                let thresholds = head.thresholds.as_ref().unwrap_or(&half);
                metrics::at_thresholds(&probs, &right, thresholds)
            }
        };
        let among = |n: usize| {
            let hit = |(probs, right): &(&Vec<f32>, &Vec<usize>)| {
                let mut order: Vec<usize> = (0..probs.len()).collect();
                order.sort_by(|a, b| probs[*b].total_cmp(&probs[*a]));
                order.iter().take(n).any(|label| right.contains(label))
            };
            probs.iter().zip(&right).filter(hit).count() as f64 / probs.len() as f64
        };
        let row = |(label, c): (&String, &Counts)| LabelFigures {
            label: label.clone(),
            support: c.hits + c.misses,
            precision: c.precision(),
            recall: c.recall(),
            f1: c.f1(),
        };
        figures.push(Figures {
            test: test.name.clone(),
            head: head.name.clone(),
            texts: probs.len(),
            macro_f1: metrics::macro_f1(&counts),
            micro_f1: metrics::micro_f1(&counts),
            weighted_f1: metrics::weighted_f1(&counts),
            top_1: among(1),
            top_3: among(3),
            calibration_error_before: said.calibration_error(head.activation, 1.0),
            calibration_error: said.calibration_error(head.activation, head.temperature),
            labels: labels.iter().zip(&counts).map(row).collect(),
        });
    }
    Ok(figures)
}

type Rows = (Vec<String>, Vec<Vec<f32>>, Vec<Vec<usize>>);

/// Labels joined into groups: a group is as likely as that one of its labels is right, were they
/// independent; for softmax heads the sum.
fn grouped(
    head: &meetara_engine::encoder::Head,
    probs: &[Vec<f32>],
    right: &[Vec<usize>],
    group_of: &[String],
) -> Rows {
    let mut names: Vec<String> = group_of.to_vec();
    names.sort();
    names.dedup();
    let at: Vec<usize> = group_of
        .iter()
        .filter_map(|group| names.iter().position(|name| name == group))
        .collect();
    let join = |probs: &Vec<f32>| {
        let mut joined = vec![0.0f32; names.len()];
        for (p, group) in probs.iter().zip(&at) {
            let sum = &mut joined[*group];
            *sum = match head.activation {
                Activation::Sigmoid => 1.0 - (1.0 - *sum) * (1.0 - p),
                Activation::Softmax => *sum + p,
            };
        }
        joined
    };
    let probs = probs.iter().map(join).collect();
    let right = right.iter().map(|right| {
        let mut groups: Vec<usize> = right.iter().map(|label| at[*label]).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    });
    (names.clone(), probs, right.collect())
}

impl super::config::Groups {
    /// The group of each label.
    fn of(&self, labels: &[String]) -> Result<Vec<String>> {
        let map = examples::map(&self.map, &self.table)
            .with_context(|| format!("map {} of {}", self.table, self.map.display()))?;
        labels
            .iter()
            .map(|label| {
                map.get(label)
                    .cloned()
                    .flatten()
                    .with_context(|| format!("{} has no group for {label}", self.table))
            })
            .collect()
    }
}
