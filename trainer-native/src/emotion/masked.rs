//! Masked-token pre-training (Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers"):
//! a body learns from plain texts by guessing tokens that were left out.
//!
//! Of each text's tokens, markers excepted, 15 % are to be guessed, chosen anew each time the text is seen
//! (Liu et al. 2019, "RoBERTa"). Of those 80 % are replaced by `[MASK]`, 10 % by any token, and 10 % stay.
//! What guesses them is BERT's head: a linear layer, GELU, LayerNorm, and the token table itself with a
//! bias. It goes when the training ends; no task of sentence pairs is learnt.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::module::{AutodiffModule, Module, Param};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamW, GradientsParams, Optimizer};
use burn::tensor::backend::Backend;
use burn::tensor::{ElementConversion, Int, Tensor, TensorData, activation};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::course::{Learner, batch, dropouts, seed_of};
use crate::data::reader::Reader;
use crate::gguf::encoder::MAX_POSITIONS;
use crate::kernels::encoder_block::Spec;
use crate::model::encoder::Texts;
use crate::model::{Encoder, TrainBackend, init, plain};
use crate::train::checkpoint::{self, Draft};
use crate::train::optimiser::adamw;
use crate::train::schedule::Schedule;

/// Of the tokens to be guessed, those that become `[MASK]`, and those that become any token.
const REPLACED: (f64, f64) = (0.8, 0.1);
/// Texts computed at once where nothing is learnt.
const EVAL_TEXTS: usize = 64;

/// Settings of a run: the file that `meetara-train emotion pretrain --config` reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskedConfig {
    /// Name written into the file.
    pub name: String,
    /// An encoder as GGUF, which gives the vocabulary and the shape, and with `fresh = false` the weights.
    pub base_model: PathBuf,
    /// Begin with random weights.
    pub fresh: bool,
    /// Texts are cut into pieces of at most this many tokens.
    pub max_tokens: usize,
    /// Texts in a step.
    pub batch_size: usize,
    /// Share of the tokens that are to be guessed.
    pub mask_share: f64,
    /// AdamW's learning rate.
    pub learning_rate: f64,
    /// AdamW's weight decay.
    pub weight_decay: f32,
    /// Share of the activations dropped while training.
    pub dropout: f32,
    /// Steps in all; 0 writes the body that a run would begin with.
    pub max_steps: u64,
    /// Steps of rising learning rate.
    pub warmup_steps: u64,
    /// Steps of falling learning rate at the end.
    pub decay_steps: u64,
    /// Seed of the weights, the masks, dropout and the order of the data.
    pub seed: u64,
    /// Where checkpoints, the log and the model go.
    pub output_dir: PathBuf,
    /// Steps between checkpoints.
    pub save_steps: u64,
    /// Steps between log lines.
    pub logging_steps: u64,
    /// Steps between measurements on held-out texts; 0 measures at the end only.
    pub eval_steps: u64,
    /// Texts held out for them.
    pub eval_texts: usize,
    /// Files to learn from.
    pub datasets: Vec<PlainTexts>,
}

/// A file of texts or chats, `.jsonl` or `.jsonl.zst`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainTexts {
    /// The file.
    pub path: PathBuf,
    /// At most this many pieces, the first of a seeded shuffle; 0 takes all.
    #[serde(default)]
    pub limit: usize,
}

impl Default for MaskedConfig {
    fn default() -> Self {
        Self {
            name: String::from("MeeTARA text encoder"),
            base_model: PathBuf::from("models/emotion/text-emotion.gguf"),
            fresh: true,
            max_tokens: 64,
            batch_size: 32,
            mask_share: 0.15,
            learning_rate: 1e-3,
            weight_decay: 0.01,
            dropout: 0.0,
            max_steps: 3000,
            warmup_steps: 100,
            decay_steps: 2900,
            seed: 7,
            output_dir: PathBuf::from("runs/encoder"),
            save_steps: 100,
            logging_steps: 20,
            eval_steps: 500,
            eval_texts: 512,
            datasets: Vec::new(),
        }
    }
}

impl MaskedConfig {
    /// Rejects settings that cannot work.
    ///
    /// # Errors
    /// Names the setting.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            !self.datasets.is_empty(),
            "no [[datasets]]: there is nothing to learn from"
        );
        ensure!(self.batch_size > 0, "batch_size is 0");
        ensure!(
            (3..=MAX_POSITIONS).contains(&self.max_tokens),
            "max_tokens must be 3 to {MAX_POSITIONS}"
        );
        ensure!(
            self.mask_share > 0.0 && self.mask_share < 1.0,
            "mask_share must be above 0 and below 1"
        );
        ensure!(
            (0.0..1.0).contains(&self.dropout),
            "dropout must be at least 0 and below 1"
        );
        Ok(())
    }

    /// The learning rate's course.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            warmup_steps: self.warmup_steps,
            max_steps: self.max_steps,
            decay_steps: self.decay_steps,
        }
    }
}

/// The texts of all files as ids, cut into pieces with a marker at both ends, in a seeded order. A piece
/// without a token that may be guessed is left out.
///
/// # Errors
/// When a file cannot be read, or all are without words of the vocabulary.
pub fn pieces(
    config: &MaskedConfig,
    encoder: &meetara_engine::encoder::Encoder,
    vocabulary: &Vocabulary,
) -> Result<Vec<Vec<u32>>> {
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut all = Vec::new();
    for dataset in &config.datasets {
        let mut found = Vec::new();
        for example in Reader::open(&dataset.path)? {
            for text in example?.texts() {
                let ids = encoder.tokenize(text)?;
                let [first, inner @ .., last] = ids.as_slice() else {
                    continue;
                };
                let pieces = inner.chunks(config.max_tokens - 2);
                for piece in pieces.filter(|piece| vocabulary.knows_any(piece)) {
                    found.push([&[*first], piece, &[*last]].concat());
                }
            }
        }
        found.shuffle(&mut rng);
        if dataset.limit > 0 {
            found.truncate(dataset.limit);
        }
        all.extend(found);
    }
    ensure!(
        !all.is_empty(),
        "the [[datasets]] hold no text in the base's vocabulary; there is nothing to learn from"
    );
    all.shuffle(&mut rng);
    Ok(all)
}

/// Which ids may be guessed and put in the place of others, and which stands for what is left out.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    mask: u32,
    markers: HashSet<u32>,
    len: u32,
}

impl Vocabulary {
    /// Of the tokens in order of their ids.
    ///
    /// # Errors
    /// When `[MASK]` is not among them, or nothing but markers.
    pub fn new(tokens: &[String]) -> Result<Self> {
        let ids = || (0u32..).zip(tokens);
        let mask = ids().find(|(_, token)| *token == "[MASK]");
        let (mask, _) = mask.context("the base's vocabulary has no token [MASK]")?;
        let is_marker =
            |token: &str| token.len() > 2 && token.starts_with('[') && token.ends_with(']');
        let markers: HashSet<u32> = ids()
            .filter(|(_, token)| is_marker(token))
            .map(|(id, _)| id)
            .collect();
        ensure!(
            markers.len() < tokens.len(),
            "the base's vocabulary has only markers"
        );
        Ok(Self {
            mask,
            markers,
            len: tokens.len() as u32,
        })
    }

    fn knows_any(&self, ids: &[u32]) -> bool {
        ids.iter().any(|id| !self.markers.contains(id))
    }

    fn any(&self, rng: &mut impl Rng) -> u32 {
        loop {
            let id = rng.random_range(0..self.len);
            if !self.markers.contains(&id) {
                return id;
            }
        }
    }
}

/// Texts with tokens left out.
#[derive(Clone, Debug, Default)]
pub struct MaskedTexts {
    /// The texts as the body sees them.
    pub texts: Texts,
    /// Rows whose token is to be guessed, `[K]`.
    pub rows: Vec<i32>,
    /// What stood there, `[K]`.
    pub wanted: Vec<i32>,
}

/// Leaves `share` of the tokens out, and one at least where a text has any.
pub fn mask(batch: &[&Vec<u32>], vocabulary: &Vocabulary, share: f64, seed: u64) -> MaskedTexts {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut masked = MaskedTexts::default();
    for ids in batch {
        let first = masked.texts.ids.len();
        let open: Vec<usize> = (0..ids.len())
            .filter(|at| !vocabulary.markers.contains(&ids[*at]))
            .collect();
        let mut chosen: Vec<usize> = open
            .iter()
            .copied()
            .filter(|_| rng.random_bool(share))
            .collect();
        if chosen.is_empty() && !open.is_empty() {
            chosen.push(open[rng.random_range(0..open.len())]);
        }
        masked.texts.push(ids);
        for at in chosen {
            let (to_mask, to_any) = REPLACED;
            let drawn: f64 = rng.random();
            let seen = &mut masked.texts.ids[first + at];
            if drawn < to_mask {
                *seen = vocabulary.mask;
            } else if drawn < to_mask + to_any {
                *seen = vocabulary.any(&mut rng);
            }
            masked.rows.push((first + at) as i32);
            masked.wanted.push(ids[at] as i32);
        }
    }
    masked
}

/// What guesses tokens from the rows of the body.
#[derive(Module, Debug)]
pub struct Guesser<B: Backend> {
    /// `[C, C]`
    pub dense: Param<Tensor<B, 2>>,
    /// `[C]`
    pub dense_bias: Param<Tensor<B, 1>>,
    /// `[C]`
    pub norm_weight: Param<Tensor<B, 1>>,
    /// `[C]`
    pub norm_bias: Param<Tensor<B, 1>>,
    /// `[V]`
    pub bias: Param<Tensor<B, 1>>,
}

impl<B: TrainBackend> Guesser<B> {
    /// Fresh weights.
    pub fn new(width: usize, vocab: usize, seed: u64, device: &B::Device) -> Self {
        let flat =
            |value: f32, len: usize| Param::from_tensor(Tensor::<B, 1>::full([len], value, device));
        Self {
            dense: init::normal(
                &mut ChaCha8Rng::seed_from_u64(seed),
                width,
                width,
                0.02,
                device,
            ),
            dense_bias: flat(0.0, width),
            norm_weight: flat(1.0, width),
            norm_bias: flat(0.0, width),
            bias: flat(0.0, vocab),
        }
    }

    /// The mean cross-entropy of the tokens left out, in nats, `[1]`.
    fn loss(
        &self,
        body: &Encoder<B>,
        spec: &Spec,
        rows: Tensor<B, 2>,
        masked: &MaskedTexts,
    ) -> Tensor<B, 1> {
        let device = rows.device();
        let k = masked.rows.len();
        let index = |ids: &[i32]| {
            Tensor::<B, 1, Int>::from_data(TensorData::new(ids.to_vec(), [k]), &device)
        };
        let x = rows.select(0, index(&masked.rows));
        let x = x.matmul(self.dense.val().transpose()) + self.dense_bias.val().unsqueeze();
        let x = plain::layer_norm(
            activation::gelu(x),
            self.norm_weight.val(),
            self.norm_bias.val(),
            spec.norm_eps,
        );
        let logits = x.matmul(body.words.val().transpose()) + self.bias.val().unsqueeze();
        let wanted = index(&masked.wanted).reshape([k, 1]);
        activation::log_softmax(logits, 1)
            .gather(1, wanted)
            .mean()
            .neg()
    }
}

/// What is measured on held-out texts.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    step: u64,
    /// Mean cross-entropy of the tokens left out, in nats; nothing where no text is held out.
    held_out_loss: Option<f64>,
}

/// A body that learns from plain texts.
pub struct Masked<'a, B: TrainBackend>
where
    Encoder<B>: AutodiffModule<B>,
    Guesser<B>: AutodiffModule<B>,
{
    /// The body as it stands.
    pub encoder: Encoder<B>,
    guesser: Guesser<B>,
    body: OptimizerAdaptor<AdamW, Encoder<B>, B>,
    top: OptimizerAdaptor<AdamW, Guesser<B>, B>,
    spec: Spec,
    vocabulary: Vocabulary,
    config: &'a MaskedConfig,
    held_out: &'a [Vec<u32>],
    train: &'a [Vec<u32>],
    device: B::Device,
}

impl<'a, B: TrainBackend> Masked<'a, B>
where
    Encoder<B>: AutodiffModule<B>,
    Guesser<B>: AutodiffModule<B>,
{
    /// A body, a fresh head, and what it learns from: the first `eval_texts` pieces, at most a tenth, are
    /// held out.
    pub fn new(
        encoder: Encoder<B>,
        spec: Spec,
        vocabulary: Vocabulary,
        config: &'a MaskedConfig,
        pieces: &'a [Vec<u32>],
        device: &B::Device,
    ) -> Self {
        let (held_out, train) = pieces.split_at(config.eval_texts.min(pieces.len() / 10));
        let vocab = vocabulary.len as usize;
        Self {
            encoder,
            guesser: Guesser::new(spec.width, vocab, config.seed, device),
            body: adamw(0.98, config.weight_decay).init(),
            top: adamw(0.98, config.weight_decay).init(),
            spec,
            vocabulary,
            config,
            held_out,
            train,
            device: device.clone(),
        }
    }
}

impl<B: TrainBackend> Learner for Masked<'_, B>
where
    Encoder<B>: AutodiffModule<B>,
    Guesser<B>: AutodiffModule<B>,
{
    type Measured = Measured;

    fn step(&mut self, step: u64, rate: f64) -> (f64, u64) {
        let config = self.config;
        let batch = batch(self.train, config.batch_size, config.seed, step);
        let seed = seed_of(config.seed, step);
        let masked = mask(&batch, &self.vocabulary, config.mask_share, seed);
        let tokens = masked.texts.ids.len();
        let blocks = self.encoder.blocks.len();
        let kept = dropouts(blocks, tokens * self.spec.width, config.dropout, seed);
        let rows = self
            .encoder
            .rows(&self.spec, &masked.texts, kept.as_deref());
        let loss = self.guesser.loss(&self.encoder, &self.spec, rows, &masked);
        let value = loss.clone().into_scalar().elem::<f64>();
        let mut grads = loss.backward();
        let body = GradientsParams::from_module(&mut grads, &self.encoder);
        let top = GradientsParams::from_module(&mut grads, &self.guesser);
        let rate = config.learning_rate * rate;
        self.encoder = self.body.step(rate, self.encoder.clone(), body);
        self.guesser = self.top.step(rate, self.guesser.clone(), top);
        (value, tokens as u64)
    }

    fn measure(&self, step: u64) -> Measured {
        let (encoder, guesser) = (
            self.encoder.clone().no_grad(),
            self.guesser.clone().no_grad(),
        );
        let (mut sum, mut count) = (0.0, 0);
        for (at, chunk) in self.held_out.chunks(EVAL_TEXTS).enumerate() {
            let batch: Vec<&Vec<u32>> = chunk.iter().collect();
            // The same tokens are left out each time.
            let seed = seed_of(!self.config.seed, at as u64);
            let masked = mask(&batch, &self.vocabulary, self.config.mask_share, seed);
            let rows = encoder.rows(&self.spec, &masked.texts, None);
            let loss = guesser.loss(&encoder, &self.spec, rows, &masked);
            sum += loss.into_scalar().elem::<f64>() * masked.rows.len() as f64;
            count += masked.rows.len();
        }
        Measured {
            step,
            held_out_loss: (count > 0).then(|| sum / count as f64),
        }
    }

    fn save(&self, draft: &Draft) -> Result<()> {
        draft.put::<B, _>("encoder", self.encoder.clone().into_record())?;
        draft.put::<B, _>("guesser", self.guesser.clone().into_record())?;
        draft.put::<B, _>("adamw-encoder", self.body.to_record())?;
        draft.put::<B, _>("adamw-guesser", self.top.to_record())
    }

    fn restore(mut self, path: &Path) -> Result<Self> {
        let device = self.device.clone();
        let encoder = checkpoint::get::<B, _>(path, "encoder", &device)?;
        let guesser = checkpoint::get::<B, _>(path, "guesser", &device)?;
        self.encoder = self.encoder.load_record(encoder);
        self.guesser = self.guesser.load_record(guesser);
        let body = checkpoint::get::<B, _>(path, "adamw-encoder", &device)?;
        let top = checkpoint::get::<B, _>(path, "adamw-guesser", &device)?;
        self.body = self.body.load_record(body);
        self.top = self.top.load_record(top);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        let markers = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        let words = (0..95).map(|i| format!("▁w{i}"));
        let tokens: Vec<String> = markers.map(String::from).into_iter().chain(words).collect();
        Vocabulary::new(&tokens).unwrap()
    }

    #[test]
    fn fifteen_of_a_hundred_tokens_are_left_out_and_never_a_marker() {
        let vocabulary = vocabulary();
        let text: Vec<u32> = [2]
            .into_iter()
            .chain((5..100).cycle().take(62))
            .chain([3])
            .collect();
        let batch = vec![&text; 2000];
        let masked = mask(&batch, &vocabulary, 0.15, 1);
        let n = masked.rows.len() as f64;
        assert!((n / (2000.0 * 62.0) - 0.15).abs() < 0.005, "{n}");
        let (mut masks, mut kept) = (0.0, 0.0);
        for (row, wanted) in masked.rows.iter().zip(&masked.wanted) {
            let seen = masked.texts.ids[*row as usize];
            assert_eq!(*wanted as u32, text[*row as usize % 64]);
            assert!(!vocabulary.markers.contains(&(*wanted as u32)));
            assert!(seen == 4 || !vocabulary.markers.contains(&seen));
            masks += f64::from(u8::from(seen == 4));
            kept += f64::from(u8::from(seen == *wanted as u32));
        }
        assert!((masks / n - 0.8).abs() < 0.01, "{masks} of {n}");
        assert!((kept / n - 0.1).abs() < 0.01, "{kept} of {n}");
        let changed = (0..masked.texts.ids.len())
            .filter(|at| masked.texts.ids[*at] != text[at % 64])
            .count() as f64;
        assert_eq!(changed, n - kept, "only what is to be guessed is changed");
    }

    #[test]
    fn a_short_text_has_a_token_left_out_and_one_of_markers_none() {
        let vocabulary = vocabulary();
        let (short, bare) = (vec![2, 7, 3], vec![2, 1, 3]);
        let masked = mask(&[&short, &bare], &vocabulary, 0.001, 1);
        assert_eq!((masked.rows, masked.wanted), (vec![1], vec![7]));
        assert_eq!(masked.texts.lengths, [3, 3]);
        assert!(Vocabulary::new(&["a".to_owned()]).is_err());
        assert!(Vocabulary::new(&["[MASK]".to_owned()]).is_err());
    }
}
