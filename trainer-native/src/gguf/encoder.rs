//! An encoder between GGUF and the trainer. The layout is stated in ARCHITECTURE.md, "Encoders".

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use burn::module::Param;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use meetara_format::mix::{ArchInfo, FileType};
use meetara_format::{Array, Gguf, Value, Writer};

use super::save::{matrix, vector};
use super::{NamedTensor, quantise};
use crate::emotion::examples::Head;
use crate::kernels::encoder_block::{N_MATRICES, PARAMS, Spec};
use crate::model::encoder::Activation;
use crate::model::{Encoder, EncoderBlock, Heads};

/// Positions that a trained file has; longer texts are cut by who runs it.
pub const MAX_POSITIONS: usize = 128;

/// A BERT-shaped GGUF file, taken apart.
pub struct Base<'a> {
    gguf: Gguf,
    file: &'a [u8],
    /// Shape of its blocks.
    pub spec: Spec,
    /// Its blocks.
    pub block_count: usize,
    /// Its tokens in order of their ids.
    pub tokens: Vec<String>,
}

impl<'a> Base<'a> {
    /// Reads a file's header.
    ///
    /// # Errors
    /// When it is no `bert` file with a WordPiece vocabulary.
    pub fn parse(file: &'a [u8]) -> Result<Self> {
        let gguf = Gguf::parse(file, file.len() as u64)?;
        let architecture = gguf.get_str("general.architecture")?.unwrap_or_default();
        ensure!(
            architecture == "bert",
            "the base is a {architecture} file; an encoder of the bert kind is needed (`meetara-train import` makes one)"
        );
        let model = gguf.get_str("tokenizer.ggml.model")?.unwrap_or_default();
        ensure!(
            model == "bert",
            "the base has a {model} tokenizer; only WordPiece can be trained here"
        );
        let number = |key: &str| -> Result<usize> {
            gguf.get_u32(key)?
                .map(|n| n as usize)
                .with_context(|| format!("the base lacks {key}"))
        };
        let spec = Spec {
            width: number("bert.embedding_length")?,
            ff: number("bert.feed_forward_length")?,
            n_head: number("bert.attention.head_count")?,
            norm_eps: gguf
                .get_f32("bert.attention.layer_norm_epsilon")?
                .unwrap_or(1e-12),
        };
        ensure!(
            spec.n_head > 0 && spec.width.is_multiple_of(spec.n_head),
            "the base's width {} is no multiple of its {} heads",
            spec.width,
            spec.n_head
        );
        let block_count = number("bert.block_count")?;
        let tokens = gguf
            .get_string_array("tokenizer.ggml.tokens")?
            .context("the base has no tokenizer.ggml.tokens")?
            .iter()
            .map(str::to_owned)
            .collect();
        Ok(Self {
            gguf,
            file,
            spec,
            block_count,
            tokens,
        })
    }

    fn values(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let tensor = self
            .gguf
            .tensor(name)
            .with_context(|| format!("the base has no tensor {name}"))?;
        let count = usize::try_from(tensor.elements())?;
        let all = meetara_format::dequantize(
            tensor.ty,
            self.gguf.tensor_data(tensor, self.file)?,
            count,
        )?;
        ensure!(
            len == 0 || all.len() == len,
            "{name} has {} values, not {len}",
            all.len()
        );
        Ok(all)
    }

    /// The weights, with the embeddings of the tokens `kept` and the first `blocks` blocks.
    pub fn encoder<B: Backend>(
        &self,
        kept: &[u32],
        blocks: usize,
        device: &B::Device,
    ) -> Result<Encoder<B>> {
        let c = self.spec.width;
        let two = |values: Vec<f32>, rows: usize| {
            let columns = values.len() / rows;
            let data = TensorData::new(values, [rows, columns]);
            Param::from_tensor(Tensor::<B, 2>::from_data(data, device))
        };
        let one = |values: Vec<f32>| {
            let len = values.len();
            Param::from_tensor(Tensor::<B, 1>::from_data(
                TensorData::new(values, [len]),
                device,
            ))
        };
        let all = self.values("token_embd.weight", self.tokens.len() * c)?;
        let words = kept
            .iter()
            .flat_map(|id| &all[*id as usize * c..(*id as usize + 1) * c])
            .copied()
            .collect();
        let mut positions = self.values("position_embd.weight", 0)?;
        if self.gguf.tensor("token_types.weight").is_some() {
            let types = self.values("token_types.weight", 0)?;
            for row in positions.chunks_exact_mut(c) {
                row.iter_mut().zip(&types).for_each(|(p, t)| *p += t);
            }
        }
        positions.truncate(MAX_POSITIONS * c);
        let n_positions = positions.len() / c;
        let lens = self.spec.param_lens();
        let blocks = (0..blocks)
            .map(|i| {
                let read = |at: usize| self.values(&format!("blk.{i}.{}", PARAMS[at]), lens[at]);
                let shapes = self.spec.matrix_shapes();
                Ok(EncoderBlock {
                    matrices: (0..N_MATRICES)
                        .map(|at| Ok(two(read(at)?, shapes[at].0)))
                        .collect::<Result<_>>()?,
                    vectors: (N_MATRICES..PARAMS.len())
                        .map(|at| Ok(one(read(at)?)))
                        .collect::<Result<_>>()?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Encoder {
            words: two(words, kept.len()),
            positions: two(positions, n_positions),
            norm_weight: one(self.values("token_embd_norm.weight", c)?),
            norm_bias: one(self.values("token_embd_norm.bias", c)?),
            blocks,
        })
    }

    /// `fresh` with the weights of each head that the base already has under the same name with the same
    /// labels, and the names of those.
    ///
    /// # Errors
    /// When such a head's tensors are missing or have another size.
    pub fn heads<B: Backend>(
        &self,
        mut fresh: Heads<B>,
        heads: &[Head],
        device: &B::Device,
    ) -> Result<(Heads<B>, Vec<String>)> {
        let mut known = Vec::new();
        for (at, head) in heads.iter().enumerate() {
            let key = format!("meetara.head.{}.labels", head.name);
            let labels = self.gguf.get_string_array(&key)?;
            if labels.is_none_or(|labels| !labels.iter().eq(&head.labels)) {
                continue;
            }
            let (n, c) = (head.labels.len(), self.spec.width);
            let weight = self.values(&format!("head.{}.weight", head.name), n * c)?;
            let bias = self.values(&format!("head.{}.bias", head.name), n)?;
            fresh.weights[at] =
                Param::from_tensor(Tensor::from_data(TensorData::new(weight, [n, c]), device));
            fresh.biases[at] =
                Param::from_tensor(Tensor::from_data(TensorData::new(bias, [n]), device));
            known.push(head.name.clone());
        }
        Ok((fresh, known))
    }

    /// A file of 32-bit floats with the base's metadata: `body` over the tokens `tokens`, and `tops`, whose
    /// heads are `heads`.
    ///
    /// # Errors
    /// When a tensor cannot be read back from its device.
    pub fn write<B: Backend>(
        &self,
        name: &str,
        tokens: &[String],
        body: &Encoder<B>,
        (tops, heads): (&Heads<B>, &[Head]),
    ) -> Result<Vec<u8>> {
        let blocks = body.blocks.len();
        let arch = ArchInfo {
            n_layer: blocks as u32,
            tied_embeddings: false,
        };
        let header = self.header(name, tokens, blocks, heads);
        quantise::write(header, FileType::F32, &arch, &tensors(body, tops, heads)?)
    }

    /// A writer with the base's metadata, for a file with these tokens, blocks and heads.
    fn header(
        &self,
        name: &str,
        tokens: &[String],
        blocks: usize,
        heads: &[Head],
    ) -> Writer<'static> {
        let mut w = Writer::new("bert");
        for (key, value) in &self.gguf.metadata {
            if !key.starts_with("meetara.") {
                w.set(key, value.clone());
            }
        }
        w.set("general.name", name);
        w.set("bert.block_count", blocks as u32);
        w.set("bert.context_length", MAX_POSITIONS as u32);
        let id = |token: &str| tokens.iter().position(|t| t == token).map(|at| at as u32);
        for (key, token) in [
            ("unknown", "[UNK]"),
            ("padding", "[PAD]"),
            ("mask", "[MASK]"),
            ("seperator", "[SEP]"),
            ("cls", "[CLS]"),
            ("bos", "[CLS]"),
            ("eos", "[SEP]"),
        ] {
            let key = format!("tokenizer.ggml.{key}_token_id");
            let known = self.gguf.metadata.iter().any(|(k, _)| *k == key);
            if let (Some(id), true) = (id(token), known) {
                w.set(&key, id);
            }
        }
        w.set(
            "tokenizer.ggml.tokens",
            Value::Array(Array::String(tokens.iter().collect())),
        );
        if let Ok(Some(types)) = self.gguf.get_i32_array("tokenizer.ggml.token_type") {
            let types: HashMap<&str, i32> = self
                .tokens
                .iter()
                .map(String::as_str)
                .zip(types.iter().copied())
                .collect();
            let kept = tokens
                .iter()
                .map(|t| types.get(t.as_str()).copied().unwrap_or(1));
            let kept = Value::Array(Array::I32(kept.collect()));
            w.set("tokenizer.ggml.token_type", kept);
        }
        let strings = |all: Vec<String>| Value::Array(Array::String(all.into()));
        w.set(
            "meetara.heads",
            strings(heads.iter().map(|head| head.name.clone()).collect()),
        );
        for head in heads {
            let key = |part: &str| format!("meetara.head.{}.{part}", head.name);
            w.set(&key("labels"), strings(head.labels.clone()));
            let activation = match head.activation {
                Activation::Sigmoid => "sigmoid",
                Activation::Softmax => "softmax",
            };
            w.set(&key("activation"), activation);
            w.set(&key("temperature"), 1.0f32);
        }
        w
    }
}

/// Every tensor under its GGUF name. The row of token type 0 is part of the positions.
pub fn tensors<B: Backend>(
    encoder: &Encoder<B>,
    heads: &Heads<B>,
    names: &[Head],
) -> Result<Vec<NamedTensor>> {
    let mut all = vec![
        matrix("token_embd.weight", encoder.words.val())?,
        matrix("position_embd.weight", encoder.positions.val())?,
        vector("token_embd_norm.weight".into(), encoder.norm_weight.val())?,
        vector("token_embd_norm.bias".into(), encoder.norm_bias.val())?,
    ];
    for (i, block) in encoder.blocks.iter().enumerate() {
        for (name, weight) in PARAMS.iter().zip(&block.matrices) {
            all.push(matrix(&format!("blk.{i}.{name}"), weight.val())?);
        }
        for (name, values) in PARAMS[N_MATRICES..].iter().zip(&block.vectors) {
            all.push(vector(format!("blk.{i}.{name}"), values.val())?);
        }
    }
    for (i, head) in names.iter().enumerate() {
        let name = &head.name;
        all.push(matrix(
            &format!("head.{name}.weight"),
            heads.weights[i].val(),
        )?);
        all.push(vector(format!("head.{name}.bias"), heads.biases[i].val())?);
    }
    Ok(all)
}
