//! Body and heads learn together with AdamW, texts packed without padding.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use burn::module::{AutodiffModule, Module, Param};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamW, GradientsParams, Optimizer};
use burn::tensor::{ElementConversion, Tensor, TensorData, activation};
use rand::seq::SliceRandom;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::config::TextConfig;
use super::examples::{Example, Head};
use super::metrics;
use crate::kernels::encoder_block::{Dropout, Spec};
use crate::model::encoder::{Activation, HeadTargets, Texts};
use crate::model::{Encoder, Heads, TrainBackend};
use crate::train::checkpoint::{self, Draft, State};
use crate::train::optimiser::adamw;
use crate::train::progress::Progress;

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

/// How a run ended.
pub enum Outcome<B: TrainBackend>
where
    Encoder<B>: AutodiffModule<B>,
    Heads<B>: AutodiffModule<B>,
{
    /// All steps are done.
    Finished(Box<Reader<B>>),
    /// It was asked to stop and saved a checkpoint.
    Interrupted,
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
        let kept = (config.dropout > 0.0).then(|| {
            let seed = config.seed ^ (step + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            dropouts(
                self.encoder.blocks.len(),
                texts.ids.len() * self.spec.width,
                config.dropout,
                seed,
            )
        });
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

    fn save(&self, config: &TextConfig, state: &State) -> Result<()> {
        let draft = Draft::begin(&config.output_dir, state.step)?;
        draft.put::<B, _>("encoder", self.encoder.clone().into_record())?;
        draft.put::<B, _>("heads", self.heads.clone().into_record())?;
        draft.put::<B, _>("adamw-encoder", self.body.to_record())?;
        draft.put::<B, _>("adamw-heads", self.top.to_record())?;
        draft.finish(state, 2)?;
        Ok(())
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
        mut self,
        config: &TextConfig,
        (train, held_out): (&[Encoded], &[Encoded]),
        fingerprint: &str,
        (resume, json, stop): (bool, bool, &AtomicBool),
    ) -> Result<Outcome<B>> {
        std::fs::create_dir_all(&config.output_dir)?;
        let mut state = State {
            step: 0,
            tokens: 0,
            loss: 0.0,
            data: fingerprint.into(),
        };
        if resume && let Some(path) = checkpoint::latest(&config.output_dir)? {
            state = checkpoint::state(&path)?;
            ensure!(
                state.data == fingerprint,
                "{} was made with other data or settings; use another output_dir or restore them",
                path.display()
            );
            self = self.restore(&path)?;
        }
        let schedule = config.schedule();
        let mut progress = Progress::new(
            &config.output_dir,
            config.max_steps,
            state.step,
            state.tokens,
            json,
        )?;
        while state.step < config.max_steps {
            if stop.load(Ordering::Relaxed) {
                self.save(config, &state)?;
                progress.finish(String::from("stopped; go on with --resume"));
                return Ok(Outcome::Interrupted);
            }
            let rate = schedule.factor(state.step);
            let batch = batch(train, config, state.step);
            let loss = self.step(&batch, config, state.step, rate);
            ensure!(
                loss.is_finite(),
                "the loss became {loss} at step {}; lower the learning rates",
                state.step
            );
            state.step += 1;
            state.tokens += batch.iter().map(|e| e.ids.len() as u64).sum::<u64>();
            state.loss = if state.loss == 0.0 {
                loss
            } else {
                0.95 * state.loss + 0.05 * loss
            };
            let entry = crate::train::progress::Entry {
                step: state.step,
                tokens: state.tokens,
                loss: state.loss,
                rate,
                tokens_per_s: progress.tokens_per_s(state.tokens),
                bits_per_byte: None,
            };
            progress.step(&entry, state.step.is_multiple_of(config.logging_steps))?;
            let last = state.step == config.max_steps;
            if last || (config.eval_steps > 0 && state.step.is_multiple_of(config.eval_steps)) {
                progress.note(&self.measure(state.step, held_out))?;
            }
            if last || state.step.is_multiple_of(config.save_steps) {
                self.save(config, &state)?;
            }
        }
        progress.finish(format!(
            "done: {} steps, {} tokens",
            state.step, state.tokens
        ));
        Ok(Outcome::Finished(Box::new(self)))
    }
}

/// The texts of a step: the epochs, each shuffled by its own seed, cut into batches.
fn batch<'a>(train: &'a [Encoded], config: &TextConfig, step: u64) -> Vec<&'a Encoded> {
    let n = train.len() as u64;
    let first = step * config.batch_size as u64;
    let mut batch = Vec::with_capacity(config.batch_size);
    let mut order: (u64, Vec<u32>) = (u64::MAX, Vec::new());
    for at in first..first + config.batch_size as u64 {
        let epoch = at / n;
        if order.0 != epoch {
            let mut ids: Vec<u32> = (0..n as u32).collect();
            ids.shuffle(&mut ChaCha8Rng::seed_from_u64(
                config.seed.wrapping_add(epoch),
            ));
            order = (epoch, ids);
        }
        batch.push(&train[order.1[(at % n) as usize] as usize]);
    }
    batch
}

/// What dropout keeps after the embeddings and in each block, `len` elements twice each.
fn dropouts(blocks: usize, len: usize, share: f32, seed: u64) -> Vec<Arc<Dropout>> {
    // Eight random bits an element: shares are multiples of 1 / 256.
    let limit = (share * 256.0).round() as u8;
    let factor = 256.0 / (256.0 - f32::from(limit));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut bytes = vec![0u8; len];
    let mut one = || -> Vec<f32> {
        rng.fill_bytes(&mut bytes);
        bytes
            .iter()
            .map(|byte| if *byte < limit { 0.0 } else { factor })
            .collect()
    };
    (0..=blocks).map(|_| Arc::new([one(), one()])).collect()
}
