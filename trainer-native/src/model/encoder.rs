//! The text encoder and its heads: embeddings, encoder blocks, the mean over a text's rows, and one
//! linear layer for each thing that is read from it.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData, activation};

use super::{TrainBackend, plain};
use crate::kernels::encoder_block::{Dropout, Layout, Spec};

/// One encoder block's weights.
#[derive(Module, Debug)]
pub struct EncoderBlock<B: Backend> {
    /// The six matrices in the order of `kernels::encoder_block::PARAMS`, each `[out, in]`.
    pub matrices: Vec<Param<Tensor<B, 2>>>,
    /// The six biases and both norms' weight and bias, in the same order.
    pub vectors: Vec<Param<Tensor<B, 1>>>,
}

/// An encoder's weights.
#[derive(Module, Debug)]
pub struct Encoder<B: Backend> {
    /// `[V, C]`
    pub words: Param<Tensor<B, 2>>,
    /// `[P, C]`; the row of token type 0 is part of each.
    pub positions: Param<Tensor<B, 2>>,
    /// `[C]`
    pub norm_weight: Param<Tensor<B, 1>>,
    /// `[C]`
    pub norm_bias: Param<Tensor<B, 1>>,
    /// Encoder blocks in order.
    pub blocks: Vec<EncoderBlock<B>>,
}

/// What a batch's blocks share.
#[derive(Clone, Debug)]
pub struct EncoderContext {
    /// Shape of a block.
    pub spec: Spec,
    /// Where the texts lie.
    pub layout: Arc<Layout>,
    /// What dropout keeps in this block; nothing is dropped without it.
    pub dropout: Option<Arc<Dropout>>,
}

/// Texts one after the other.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// Token ids, `[N]`.
    pub ids: Vec<u32>,
    /// Tokens of each text, `[S]`; their sum is `N`.
    pub lengths: Vec<usize>,
}

impl Texts {
    /// Adds a text.
    pub fn push(&mut self, ids: &[u32]) {
        self.ids.extend(ids);
        self.lengths.push(ids.len());
    }
}

/// Rows in a part that one thread computes: enough for efficient products, few enough for the cache.
const PART_ROWS: usize = 384;

impl<B: TrainBackend> Encoder<B> {
    /// Every row, `[N, C]`. `dropout` gives what is kept after the embeddings (its first half) and in
    /// each block.
    pub fn rows(
        &self,
        spec: &Spec,
        texts: &Texts,
        dropout: Option<&[Arc<Dropout>]>,
    ) -> Tensor<B, 2> {
        let device = self.words.val().device();
        let n = texts.ids.len();
        let layout = Arc::new(Layout::new(&texts.lengths, PART_ROWS));
        let ids: Vec<i32> = texts.ids.iter().map(|id| *id as i32).collect();
        let positions: Vec<i32> = texts
            .lengths
            .iter()
            .flat_map(|len| 0..*len as i32)
            .collect();
        let index =
            |ids: Vec<i32>| Tensor::<B, 1, Int>::from_data(TensorData::new(ids, [n]), &device);
        let sum = self.words.val().select(0, index(ids))
            + self.positions.val().select(0, index(positions));
        let mut x = plain::layer_norm(
            sum,
            self.norm_weight.val(),
            self.norm_bias.val(),
            spec.norm_eps,
        );
        if let Some(dropout) = dropout {
            let kept = TensorData::new(dropout[0][0].clone(), [n, spec.width]);
            x = x * Tensor::from_data(kept, &device);
        }
        for (i, block) in self.blocks.iter().enumerate() {
            let ctx = EncoderContext {
                spec: *spec,
                layout: layout.clone(),
                dropout: dropout.map(|d| d[i + 1].clone()),
            };
            x = B::encoder_block(x, block, &ctx);
        }
        x
    }

    /// The mean over each text's rows, `[S, C]`.
    pub fn means(
        &self,
        spec: &Spec,
        texts: &Texts,
        dropout: Option<&[Arc<Dropout>]>,
    ) -> Tensor<B, 2> {
        let device = self.words.val().device();
        let n = texts.ids.len();
        let x = self.rows(spec, texts, dropout);
        let mut mean = vec![0.0f32; texts.lengths.len() * n];
        let mut at = 0;
        for (text, &len) in texts.lengths.iter().enumerate() {
            mean[text * n + at..text * n + at + len].fill(1.0 / len as f32);
            at += len;
        }
        Tensor::from_data(TensorData::new(mean, [texts.lengths.len(), n]), &device).matmul(x)
    }
}

/// How a head's scores become probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Each label for itself.
    Sigmoid,
    /// One of all labels.
    Softmax,
}

/// The heads' weights, one linear layer each.
#[derive(Module, Debug)]
pub struct Heads<B: Backend> {
    /// `[labels, C]` each.
    pub weights: Vec<Param<Tensor<B, 2>>>,
    /// `[labels]` each.
    pub biases: Vec<Param<Tensor<B, 1>>>,
}

/// What a head should say of some of a batch's texts.
#[derive(Clone, Debug)]
pub struct HeadTargets {
    /// Which head.
    pub head: usize,
    /// Its activation.
    pub activation: Activation,
    /// Which texts, `[K]`.
    pub texts: Vec<u32>,
    /// Wanted probabilities, `[K, labels]`.
    pub wanted: Vec<f32>,
    /// Weight of the head's loss.
    pub weight: f32,
}

impl<B: Backend> Heads<B> {
    /// Scores of head `i`: `[S, C]` -> `[S, labels]`.
    pub fn scores(&self, i: usize, means: Tensor<B, 2>) -> Tensor<B, 2> {
        means.matmul(self.weights[i].val().transpose()) + self.biases[i].val().unsqueeze()
    }

    /// The sum over texts of each head's cross-entropy (of every label, for sigmoid heads), `[1]`.
    pub fn loss_sum(&self, means: &Tensor<B, 2>, targets: &[HeadTargets]) -> Tensor<B, 1> {
        let device = means.device();
        let mut sum = Tensor::<B, 1>::zeros([1], &device);
        for target in targets {
            let k = target.texts.len();
            let rows: Vec<i32> = target.texts.iter().map(|row| *row as i32).collect();
            let rows = Tensor::<B, 1, Int>::from_data(TensorData::new(rows, [k]), &device);
            let scores = self.scores(target.head, means.clone().select(0, rows));
            let labels = scores.dims()[1];
            let wanted = Tensor::<B, 2>::from_data(
                TensorData::new(target.wanted.clone(), [k, labels]),
                &device,
            );
            let loss = match target.activation {
                Activation::Sigmoid => {
                    activation::log_sigmoid(scores.clone()) * wanted.clone()
                        + activation::log_sigmoid(scores.neg()) * (wanted.neg() + 1.0)
                }
                Activation::Softmax => activation::log_softmax(scores, 1) * wanted,
            };
            sum = sum - loss.sum() * target.weight;
        }
        sum
    }
}
