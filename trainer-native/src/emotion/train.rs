//! Body and heads learn together with AdamW, texts packed without padding.

use std::path::Path;

use anyhow::Result;
use burn::module::{AutodiffModule, Module, Param};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamW, GradientsParams, Optimizer};
use burn::tensor::{ElementConversion, Tensor, TensorData, activation};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::config::TextConfig;
use super::course::{self, Course, Learner, Watched};
use super::draws::{batch, dropouts, seed_of};
use super::examples::{Example, Head};
use super::metrics;
use crate::kernels::encoder_block::Spec;
use crate::model::encoder::{Activation, HeadTargets, Texts};
use crate::model::{Encoder, Heads, TrainBackend};
use crate::train::checkpoint::{self, Draft};
use crate::train::driver::Outcome;
use crate::train::optimiser::adamw;

/// A text as ids, and what its heads should say.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// With the markers at both ends.
    pub ids: Vec<u32>,
    /// Heads and their right labels.
    pub labels: Vec<(usize, Vec<usize>)>,
}

/// Encodes texts with the tokenizer that users run; the end of a long text is left out.
pub fn encode(
    examples: &[Example],
    max_tokens: usize,
    encoder: &meetara_engine::encoder::Encoder,
) -> Result<Vec<Encoded>> {
    examples
        .iter()
        .map(|example| {
            let mut ids = encoder.tokenize(&example.text)?;
            if let (true, Some(end)) = (ids.len() > max_tokens, ids.pop()) {
                ids.truncate(max_tokens - 1);
                ids.push(end);
            }
            Ok(Encoded {
                ids,
                labels: example.labels.clone(),
            })
        })
        .collect()
}

/// Fresh heads: small weights, and biases at the labels' own frequencies.
pub fn heads<B: TrainBackend>(
    heads: &[Head],
    examples: &[Example],
    width: usize,
    seed: u64,
    device: &B::Device,
) -> Heads<B> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut weights, mut biases) = (Vec::new(), Vec::new());
    for (at, head) in heads.iter().enumerate() {
        let n = head.labels.len();
        let values: Vec<f32> = (0..n * width)
            .map(|_| rng.random_range(-0.02..0.02))
            .collect();
        let mut seen = vec![0.0f64; n];
        let mut texts = 0.0f64;
        for (_, right) in examples
            .iter()
            .flat_map(|e| &e.labels)
            .filter(|(h, _)| *h == at)
        {
            texts += 1.0;
            for label in right {
                seen[*label] += match head.activation {
                    Activation::Sigmoid => 1.0,
                    Activation::Softmax => 1.0 / right.len() as f64,
                };
            }
        }
        let bias = |seen: &f64| {
            let p = (seen + 1.0) / (texts + 2.0);
            match head.activation {
                Activation::Sigmoid => (p / (1.0 - p)).ln() as f32,
                Activation::Softmax => p.ln() as f32,
            }
        };
        let bias: Vec<f32> = seen.iter().map(bias).collect();
        weights.push(Param::from_tensor(Tensor::from_data(
            TensorData::new(values, [n, width]),
            device,
        )));
        biases.push(Param::from_tensor(Tensor::from_data(
            TensorData::new(bias, [n]),
            device,
        )));
    }
    Heads { weights, biases }
}

/// A model that learns.
pub struct Reader<B: TrainBackend>
where
    Encoder<B>: AutodiffModule<B>,
    Heads<B>: AutodiffModule<B>,
{
    /// The body as it stands.
    pub encoder: Encoder<B>,
    /// The heads as they stand.
    pub heads: Heads<B>,
    names: Vec<Head>,
    spec: Spec,
    body: OptimizerAdaptor<AdamW, Encoder<B>, B>,
    top: OptimizerAdaptor<AdamW, Heads<B>, B>,
    device: B::Device,
}

/// One line of the log.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    step: u64,
    held_out_loss: f64,
    heads: Vec<HeadFigures>,
}

#[derive(Clone, Debug, Serialize)]
struct HeadFigures {
    name: String,
    texts: usize,
    macro_f1: f64,
    accuracy: f64,
}

/// A model and the texts that it learns from and is measured on.
struct Lesson<'a, B: TrainBackend>
where
    Encoder<B>: AutodiffModule<B>,
    Heads<B>: AutodiffModule<B>,
{
    reader: Reader<B>,
    config: &'a TextConfig,
    train: &'a [Encoded],
    held_out: &'a [Encoded],
}

impl<B: TrainBackend> Reader<B>
where
    Encoder<B>: AutodiffModule<B>,
    Heads<B>: AutodiffModule<B>,
{
    /// A body and fresh heads.
    pub fn new(
        encoder: Encoder<B>,
        heads: Heads<B>,
        names: Vec<Head>,
        spec: Spec,
        weight_decay: f32,
        device: &B::Device,
    ) -> Self {
        Self {
            encoder,
            heads,
            names,
            spec,
            body: adamw(0.999, weight_decay).init(),
            top: adamw(0.999, weight_decay).init(),
            device: device.clone(),
        }
    }

    /// One step on `batch`; returns the mean loss.
    fn step(&mut self, batch: &[&Encoded], config: &TextConfig, step: u64, rate: f64) -> f64 {
        let (texts, targets) = self.targets(batch);
        let kept = dropouts(
            self.encoder.blocks.len(),
            texts.ids.len() * self.spec.width,
            config.dropout,
            seed_of(config.seed, step),
        );
        let means = self.encoder.means(&self.spec, &texts, kept.as_deref());
        let loss = self.heads.loss_sum(&means, &targets) / batch.len() as f32;
        let value = loss.clone().into_scalar().elem::<f64>();
        let mut grads = loss.backward();
        let body = GradientsParams::from_module(&mut grads, &self.encoder);
        let top = GradientsParams::from_module(&mut grads, &self.heads);
        self.encoder = self
            .body
            .step(config.learning_rate * rate, self.encoder.clone(), body);
        self.heads = self
            .top
            .step(config.head_learning_rate * rate, self.heads.clone(), top);
        value
    }

    fn targets(&self, batch: &[&Encoded]) -> (Texts, Vec<HeadTargets>) {
        let mut texts = Texts::default();
        let mut targets: Vec<HeadTargets> = self
            .names
            .iter()
            .enumerate()
            .map(|(head, name)| HeadTargets {
                head,
                activation: name.activation,
                texts: Vec::new(),
                wanted: Vec::new(),
                weight: name.weight,
            })
            .collect();
        for (row, example) in batch.iter().enumerate() {
            texts.push(&example.ids);
            for (head, right) in &example.labels {
                let target = &mut targets[*head];
                let share = match target.activation {
                    Activation::Sigmoid => 1.0,
                    Activation::Softmax => 1.0 / right.len() as f32,
                };
                target.texts.push(row as u32);
                let labels = 0..self.names[*head].labels.len();
                target
                    .wanted
                    .extend(labels.map(|label| if right.contains(&label) { share } else { 0.0 }));
            }
        }
        targets.retain(|target| !target.texts.is_empty());
        (texts, targets)
    }

    /// Probabilities of every head, `[texts][heads][labels]`, and the mean loss.
    fn read(&self, examples: &[Encoded]) -> (Vec<Vec<Vec<f32>>>, f64) {
        let (encoder, heads) = (self.encoder.clone().no_grad(), self.heads.clone().no_grad());
        let (mut all, mut loss) = (Vec::new(), 0.0);
        for chunk in examples.chunks(64) {
            let batch: Vec<&Encoded> = chunk.iter().collect();
            let (texts, targets) = self.targets(&batch);
            let means = encoder.means(&self.spec, &texts, None);
            loss += heads.loss_sum(&means, &targets).into_scalar().elem::<f64>();
            let mut read: Vec<Vec<Vec<f32>>> = vec![Vec::new(); chunk.len()];
            for (at, head) in self.names.iter().enumerate() {
                let scores = heads.scores(at, means.clone());
                let probs = match head.activation {
                    Activation::Sigmoid => activation::sigmoid(scores),
                    Activation::Softmax => activation::softmax(scores, 1),
                };
                let probs = probs.into_data().to_vec::<f32>().unwrap_or_default();
                for (text, row) in read.iter_mut().zip(probs.chunks(head.labels.len())) {
                    text.push(row.to_vec());
                }
            }
            all.extend(read);
        }
        (all, loss / examples.len().max(1) as f64)
    }

    fn measure(&self, step: u64, examples: &[Encoded]) -> Measured {
        let (probs, held_out_loss) = self.read(examples);
        let heads = self.names.iter().enumerate().map(|(at, head)| {
            let (mut p, mut right) = (Vec::new(), Vec::new());
            for (probs, example) in probs.iter().zip(examples) {
                for (_, labels) in example.labels.iter().filter(|(h, _)| *h == at) {
                    p.push(probs[at].clone());
                    right.push(labels.clone());
                }
            }
            let n = head.labels.len();
            let counts = match head.activation {
                Activation::Sigmoid => metrics::at_thresholds(
                    &p,
                    &right,
                    &metrics::best_thresholds(&p, &right, n, 1.0),
                ),
                Activation::Softmax => metrics::at_most_likely(&p, &right, n),
            };
            let hits = p
                .iter()
                .zip(&right)
                .filter(|(p, r)| r.contains(&metrics::most_likely(p)));
            HeadFigures {
                name: head.name.clone(),
                texts: p.len(),
                macro_f1: metrics::macro_f1(&counts),
                accuracy: hits.count() as f64 / p.len().max(1) as f64,
            }
        });
        Measured {
            step,
            held_out_loss,
            heads: heads.collect(),
        }
    }

    fn save(&self, draft: &Draft) -> Result<()> {
        draft.put::<B, _>("encoder", self.encoder.clone().into_record())?;
        draft.put::<B, _>("heads", self.heads.clone().into_record())?;
        draft.put::<B, _>("adamw-encoder", self.body.to_record())?;
        draft.put::<B, _>("adamw-heads", self.top.to_record())
    }

    fn restore(mut self, path: &Path) -> Result<Self> {
        let device = self.device.clone();
        self.encoder = self
            .encoder
            .load_record(checkpoint::get::<B, _>(path, "encoder", &device)?);
        self.heads = self
            .heads
            .load_record(checkpoint::get::<B, _>(path, "heads", &device)?);
        self.body = self
            .body
            .load_record(checkpoint::get::<B, _>(path, "adamw-encoder", &device)?);
        self.top = self
            .top
            .load_record(checkpoint::get::<B, _>(path, "adamw-heads", &device)?);
        Ok(self)
    }

    /// Trains as planned. `fingerprint` names the data and settings that decide the batches.
    pub fn run(
        self,
        config: &TextConfig,
        (train, held_out): (&[Encoded], &[Encoded]),
        fingerprint: &str,
        watched: &Watched<'_>,
    ) -> Result<Outcome<Self>> {
        let course = Course {
            output_dir: &config.output_dir,
            schedule: config.schedule(),
            save_steps: config.save_steps,
            logging_steps: config.logging_steps,
            eval_steps: config.eval_steps,
            fingerprint,
        };
        let lesson = Lesson {
            reader: self,
            config,
            train,
            held_out,
        };
        Ok(match course::run(lesson, &course, watched)? {
            Outcome::Finished(lesson) => Outcome::Finished(lesson.reader),
            Outcome::Interrupted => Outcome::Interrupted,
        })
    }
}

impl<B: TrainBackend> Learner for Lesson<'_, B>
where
    Encoder<B>: AutodiffModule<B>,
    Heads<B>: AutodiffModule<B>,
{
    type Measured = Measured;

    fn step(&mut self, step: u64, rate: f64) -> (f64, u64) {
        let config = self.config;
        let batch = batch(self.train, config.batch_size, config.seed, step);
        let loss = self.reader.step(&batch, config, step, rate);
        (loss, batch.iter().map(|e| e.ids.len() as u64).sum())
    }

    fn measure(&self, step: u64) -> Measured {
        self.reader.measure(step, self.held_out)
    }

    fn save(&self, draft: &Draft) -> Result<()> {
        self.reader.save(draft)
    }

    fn restore(mut self, checkpoint: &Path) -> Result<Self> {
        self.reader = self.reader.restore(checkpoint)?;
        Ok(self)
    }
}
