//! Masked-token pre-training (Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers"):
//! a body learns from plain texts by guessing tokens that were left out.
//!
//! Of each text's tokens, markers excepted, 15 % are to be guessed, chosen anew each time the text is seen
//! (Liu et al. 2019, "RoBERTa"). Of those 80 % are replaced by `[MASK]`, 10 % by any token, and 10 % stay.
//! What guesses them is BERT's head: a linear layer, GELU, LayerNorm, and the token table itself with a
//! bias. It goes when the training ends; no task of sentence pairs is learnt.

mod config;
mod texts;

pub use config::MaskedConfig;
pub use texts::{Vocabulary, pieces};

use std::path::Path;

use anyhow::Result;
use burn::module::{AutodiffModule, Module, Param};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamW, GradientsParams, Optimizer};
use burn::tensor::backend::Backend;
use burn::tensor::{ElementConversion, Int, Tensor, TensorData, activation};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use texts::{MaskedTexts, mask};

use super::course::Learner;
use super::draws::{batch, dropouts, seed_of};
use crate::kernels::encoder_block::Spec;
use crate::model::{Encoder, TrainBackend, init, plain};
use crate::train::checkpoint::{self, Draft};
use crate::train::optimiser::adamw;

/// Texts computed at once where nothing is learnt.
const EVAL_TEXTS: usize = 64;

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
        let vocab = vocabulary.token_count();
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
