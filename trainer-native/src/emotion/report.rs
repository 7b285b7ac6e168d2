//! A finished file on texts that it has not learnt from, read by the engine that users run.
//!
//! Calibration sets each head's temperature, a sigmoid head's thresholds and the bias of `out_of_scope` on
//! the held-out files; figures come from the test files and never touch any of them.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};
use meetara_engine::encoder::{Activation, Encoder};
use meetara_format::{Array, GgmlType, Gguf, Value, Writer};
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
        recall_weight: 1.0,
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

    /// What to add to `label`'s score so that the likeliest label is right most often; of several the one
    /// nearest to 0. `None` without texts that are `label` and texts that are not.
    fn best_shift(&self, label: usize) -> Option<f32> {
        let is_label = |right: &Vec<usize>| right.contains(&label);
        if !self.right.iter().any(is_label) || self.right.iter().all(is_label) {
            return None;
        }
        let hits = |shift: f32| {
            let hit = |(logits, right): &(&Vec<f32>, &Vec<usize>)| {
                let mut logits = (*logits).clone();
                logits[label] += shift;
                right.contains(&metrics::most_likely(&logits))
            };
            self.logits.iter().zip(&self.right).filter(hit).count()
        };
        let mut best = (hits(0.0), 0.0);
        for step in 1..=40u8 {
            for shift in [f32::from(step) * 0.1, f32::from(step) * -0.1] {
                let n = hits(shift);
                if n > best.0 {
                    best = (n, shift);
                }
            }
        }
        Some(best.1)
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

/// `file` with temperatures, thresholds and the readiness to say `out_of_scope` set on `held_out`.
/// `recall_weight(head)` is the beta of the F-beta that a sigmoid head's thresholds are set for.
pub fn calibrate(
    file: &[u8],
    held_out: &[Example],
    recall_weight: impl Fn(&str) -> f32,
) -> Result<Vec<u8>> {
    let encoder = Encoder::load(file.to_vec())?;
    let mut set: Vec<(String, Value)> = Vec::new();
    let mut shifts: HashMap<String, (usize, f32)> = HashMap::new();
    for (head, mut said) in encoder.heads().iter().zip(read(&encoder, held_out)?) {
        if said.logits.is_empty() {
            eprintln!(
                "no held-out text has labels for head {}: it keeps its temperature and thresholds",
                head.name
            );
            continue;
        }
        let nowhere = head.labels.iter().position(|l| l == examples::OUT_OF_SCOPE);
        if let (Some(label), Activation::Softmax) = (nowhere, head.activation)
            && let Some(shift) = said.best_shift(label)
        {
            said.logits.iter_mut().for_each(|l| l[label] += shift);
            shifts.insert(format!("head.{}.bias", head.name), (label, shift));
        }
        let temperature = metrics::best_temperature(|t| said.nll(head.activation, t));
        set.push((
            format!("meetara.head.{}.temperature", head.name),
            Value::F32(temperature),
        ));
        if head.activation == Activation::Sigmoid {
            let probs = said.at(head.activation, temperature);
            let beta = f64::from(recall_weight(&head.name));
            let best = metrics::best_thresholds(&probs, &said.right, head.labels.len(), beta);
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
        let mut bytes = gguf.tensor_data(tensor, file)?.to_vec();
        if let Some((label, shift)) = shifts.get(&tensor.name) {
            ensure!(
                tensor.ty == GgmlType::F32,
                "{} is no 32-bit floats, so it cannot be shifted",
                tensor.name
            );
            let at = label * 4..label * 4 + 4;
            let old = f32::from_le_bytes(bytes[at.clone()].try_into()?);
            bytes[at].copy_from_slice(&(old + shift).to_le_bytes());
        }
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
    /// Of the texts for which no label of a sigmoid head is right, the share for which one was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub false_alarms: Option<f64>,
    /// One row a label (or group of labels).
    pub labels: Vec<LabelFigures>,
    /// By categories of labels, where the test asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
}

/// Which category was right against which one was said.
#[derive(Clone, Debug, Serialize)]
pub struct Confusion {
    /// Their names.
    pub categories: Vec<String>,
    /// Texts, `[right][said]`.
    pub texts: Vec<Vec<u64>>,
}

impl Confusion {
    /// Counts the likeliest label of each text. Of several right labels the first counts, unless what was
    /// said is right too. A label without a category is one by itself.
    fn count(
        labels: &[String],
        (probs, right): (&[Vec<f32>], &[Vec<usize>]),
        of: &BTreeMap<String, String>,
    ) -> Self {
        let category = |label: usize| of.get(&labels[label]).unwrap_or(&labels[label]);
        let mut categories: Vec<String> = Vec::new();
        for label in 0..labels.len() {
            if !categories.contains(category(label)) {
                categories.push(category(label).clone());
            }
        }
        let at = |label: usize| categories.iter().position(|c| c == category(label));
        let mut texts = vec![vec![0; categories.len()]; categories.len()];
        for (probs, right) in probs.iter().zip(right) {
            let said = metrics::most_likely(probs);
            let wanted = right.iter().find(|l| **l == said).or(right.first());
            if let (Some(wanted), Some(said)) = (wanted.and_then(|l| at(*l)), at(said)) {
                texts[wanted][said] += 1;
            }
        }
        Self { categories, texts }
    }
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
        let confusion = match (&test.categories, &test.groups) {
            (Some(path), None) => {
                let of = examples::categories(path)?;
                Some(Confusion::count(&labels, (&probs, &right), &of))
            }
            _ => None,
        };
        let half = vec![0.5; labels.len()];
        let thresholds = match (&test.groups, &head.thresholds) {
            (Some(groups), _) => vec![groups.threshold; labels.len()],
            (None, Some(thresholds)) => thresholds.clone(),
            (None, None) => half,
        };
        let counts = match head.activation {
            Activation::Softmax => metrics::at_most_likely(&probs, &right, labels.len()),
            Activation::Sigmoid => metrics::at_thresholds(&probs, &right, &thresholds),
        };
        let nothing: Vec<&Vec<f32>> = probs
            .iter()
            .zip(&right)
            .filter(|(_, right)| right.is_empty())
            .map(|(probs, _)| probs)
            .collect();
        let alarms = nothing
            .iter()
            .filter(|probs| probs.iter().zip(&thresholds).any(|(p, t)| p >= t));
        let false_alarms = (head.activation == Activation::Sigmoid && !nothing.is_empty())
            .then(|| alarms.count() as f64 / nothing.len() as f64);
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
            false_alarms,
            labels: labels.iter().zip(&counts).map(row).collect(),
            confusion,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_to_say_nowhere_is_set_where_both_kinds_are_right() {
        let said = Said {
            logits: vec![vec![2.0, 0.0], vec![1.0, 0.5], vec![3.0, 2.5]],
            right: vec![vec![0], vec![1], vec![1]],
        };
        let shift = said.best_shift(1).unwrap();
        assert!((0.5..2.0).contains(&shift), "{shift}");
        let one_kind = Said {
            logits: vec![vec![0.0, 1.0]],
            right: vec![vec![1]],
        };
        assert_eq!(one_kind.best_shift(1), None);
    }

    #[test]
    fn confusion_counts_categories_and_takes_what_was_said_where_it_is_right() {
        let labels: Vec<String> = ["a1", "a2", "b1", "nowhere"].map(String::from).to_vec();
        let of = [("a1", "a"), ("a2", "a"), ("b1", "b")]
            .map(|(domain, category)| (domain.to_string(), category.to_string()))
            .into_iter()
            .collect();
        let one = |at: usize| {
            let mut probs = vec![0.1; 4];
            probs[at] = 0.7;
            probs
        };
        let probs = [one(1), one(2), one(2), one(3)];
        let right = [vec![0], vec![0], vec![0, 2], vec![3]];
        let confusion = Confusion::count(&labels, (&probs, &right), &of);
        assert_eq!(confusion.categories, ["a", "b", "nowhere"]);
        assert_eq!(
            confusion.texts,
            [vec![1, 1, 0], vec![0, 1, 0], vec![0, 0, 1]]
        );
    }
}
