//! `config.json` of BERT and RoBERTa, and the GGUF names of their tensors.
//!
//! ```text
//! embeddings.word_embeddings            token_embd
//! embeddings.position_embeddings        position_embd     RoBERTa: from row padding + 1 on
//! embeddings.token_type_embeddings      token_types
//! embeddings.LayerNorm                  token_embd_norm
//! encoder.layer.N.attention.self.query  blk.N.attn_q      key, value: attn_k, attn_v
//! ....attention.output.dense            ....attn_output   LayerNorm: attn_output_norm
//! ....intermediate.dense                ....ffn_up
//! ....output.dense                      ....ffn_down      LayerNorm: layer_output_norm
//! pooler.dense, classifier              cls, cls.output   BERT
//! classifier.dense, classifier.out_proj cls, cls.output   RoBERTa
//! ```

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::weights::Weights;
use crate::gguf::NamedTensor;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Bert,
    /// And its smaller kin, such as DistilRoBERTa.
    Roberta,
}

/// What is read of `config.json`.
#[derive(Debug, Deserialize)]
pub struct Config {
    model_type: String,
    #[serde(default)]
    architectures: Vec<String>,
    pub hidden_size: u32,
    pub num_hidden_layers: u32,
    pub num_attention_heads: u32,
    pub intermediate_size: u32,
    pub vocab_size: usize,
    max_position_embeddings: u32,
    #[serde(default = "one")]
    pub type_vocab_size: u32,
    #[serde(default = "norm_eps")]
    pub layer_norm_eps: f32,
    #[serde(default)]
    hidden_act: Option<String>,
    #[serde(default)]
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
    #[serde(default)]
    pad_token_id: Option<u32>,
    #[serde(default)]
    id2label: BTreeMap<u32, String>,
    #[serde(default)]
    problem_type: Option<String>,
}

fn one() -> u32 {
    1
}

fn norm_eps() -> f32 {
    1e-12
}

impl Config {
    /// Which body the folder holds.
    ///
    /// # Errors
    /// Says what is not supported.
    pub fn body(&self) -> Result<Body> {
        let body = match self.model_type.as_str() {
            "bert" => Body::Bert,
            "roberta" => Body::Roberta,
            other => bail!(
                "config.json: model_type is {other:?}; \"bert\" and \"roberta\" (also DistilRoBERTa and MiniLM) are supported"
            ),
        };
        let activation = self.hidden_act.as_deref().unwrap_or("gelu");
        ensure!(
            activation == "gelu",
            "config.json: hidden_act is {activation:?}; \"gelu\" is supported"
        );
        let positions = self
            .position_embedding_type
            .as_deref()
            .unwrap_or("absolute");
        ensure!(
            positions == "absolute",
            "config.json: position_embedding_type is {positions:?}; \"absolute\" is supported"
        );
        ensure!(
            !self.is_decoder,
            "config.json: is_decoder is true; only encoders are supported"
        );
        Ok(body)
    }

    /// Rows of the position table that no text uses: RoBERTa counts from its padding token's id on.
    fn position_offset(&self, body: Body) -> u32 {
        match body {
            Body::Bert => 0,
            Body::Roberta => self.pad_token_id.unwrap_or(1).saturating_add(1),
        }
    }

    /// How many tokens a text can have.
    pub fn positions(&self, body: Body) -> Result<u32> {
        let positions = self
            .max_position_embeddings
            .checked_sub(self.position_offset(body));
        positions.filter(|&n| n > 0).with_context(|| {
            format!(
                "config.json: max_position_embeddings {} leaves no position for a token",
                self.max_position_embeddings
            )
        })
    }

    /// How the classifier's logits become probabilities.
    pub fn activation(&self, labels: usize) -> Result<&'static str> {
        match self.problem_type.as_deref() {
            Some("multi_label_classification") => Ok("sigmoid"),
            None | Some("single_label_classification") if labels > 1 => Ok("softmax"),
            other => bail!(
                "config.json: problem_type is {other:?} with {labels} labels; classifiers are supported, regression is not"
            ),
        }
    }
}

/// A tensor's name here, without `.weight` or `.bias`; `None` where it is left out.
fn gguf_name(name: &str, body: Body, classifier: bool) -> Result<Option<String>> {
    let unknown = || anyhow::anyhow!("the tensor {name} is no part of a supported model");
    let whole = match (name, body) {
        ("embeddings.word_embeddings", _) => Some("token_embd"),
        ("embeddings.position_embeddings", _) => Some("position_embd"),
        ("embeddings.token_type_embeddings", _) => Some("token_types"),
        ("embeddings.LayerNorm", _) => Some("token_embd_norm"),
        ("pooler.dense", Body::Bert) if classifier => Some("cls"),
        ("classifier", Body::Bert) | ("classifier.out_proj", Body::Roberta) if classifier => {
            Some("cls.output")
        }
        ("classifier.dense", Body::Roberta) if classifier => Some("cls"),
        _ => None,
    };
    if let Some(whole) = whole {
        return Ok(Some(whole.to_owned()));
    }
    // Heads of pre-training, and tables of numbers that are no weights.
    let left_out = [
        "embeddings.position_ids",
        "embeddings.token_type_ids",
        "pooler.",
        "cls.",
        "lm_head.",
    ];
    if left_out.iter().any(|part| name.starts_with(part)) {
        return Ok(None);
    }
    let (layer, part) = name
        .strip_prefix("encoder.layer.")
        .and_then(|rest| rest.split_once('.'))
        .with_context(unknown)?;
    let part = match part {
        "attention.self.query" => "attn_q",
        "attention.self.key" => "attn_k",
        "attention.self.value" => "attn_v",
        "attention.output.dense" => "attn_output",
        "attention.output.LayerNorm" => "attn_output_norm",
        "intermediate.dense" => "ffn_up",
        "output.dense" => "ffn_down",
        "output.LayerNorm" => "layer_output_norm",
        _ => return Err(unknown()),
    };
    Ok(Some(format!("blk.{layer}.{part}")))
}

/// All tensors under their names here, and the labels of the classifier, where there is one.
pub fn tensors(
    config: &Config,
    body: Body,
    weights: Weights,
) -> Result<(Vec<NamedTensor>, Option<Vec<String>>)> {
    let is_classifier = |name: &String| name.starts_with("classifier.");
    let classifier = weights.keys().any(is_classifier);
    let architecture = config.architectures.first().map_or("", String::as_str);
    ensure!(
        !classifier || architecture.ends_with("ForSequenceClassification"),
        "config.json: the architecture is {architecture:?}; of classifiers those of whole texts (...ForSequenceClassification) are supported"
    );
    let prefix = match body {
        Body::Bert => "bert.",
        Body::Roberta => "roberta.",
    };
    let mut tensors: Vec<NamedTensor> = Vec::with_capacity(weights.len());
    for (full, (mut shape, mut values)) in weights {
        let name = full.strip_prefix(prefix).unwrap_or(&full);
        // Older files call a norm's weight gamma and its bias beta.
        let (name, part) = match name.rsplit_once('.') {
            Some((name, "weight" | "gamma")) => (name, "weight"),
            Some((name, "bias" | "beta")) => (name, "bias"),
            _ => (name, ""),
        };
        let Some(name) = gguf_name(name, body, classifier)? else {
            continue;
        };
        if name == "position_embd" {
            let skipped = config.position_offset(body) as usize;
            if let [rows, width] = &mut shape[..]
                && *rows > skipped
            {
                *rows -= skipped;
                values.drain(..skipped * *width);
            }
        }
        ensure!(
            (1..=2).contains(&shape.len()) && !values.is_empty(),
            "the tensor {full} has shape {shape:?}; vectors and matrices are expected"
        );
        let rows = config.vocab_size;
        ensure!(
            name != "token_embd" || shape.first() == Some(&rows),
            "config.json: vocab_size is {rows}, but {full} has shape {shape:?}"
        );
        let dims = shape.iter().rev().map(|&dim| dim as u64).collect();
        tensors.push((format!("{name}.{part}"), dims, values));
    }
    let labels = tensors
        .iter()
        .find(|(name, ..)| name == "cls.output.bias")
        .map(|(_, dims, _)| labels(config, dims[0] as usize))
        .transpose()?;
    ensure!(
        classifier == labels.is_some(),
        "the classifier has no output layer with a bias"
    );
    Ok((tensors, labels))
}

/// `id2label`, one for each of `count` outputs.
fn labels(config: &Config, count: usize) -> Result<Vec<String>> {
    if config.id2label.is_empty() {
        return Ok((0..count).map(|i| format!("LABEL_{i}")).collect());
    }
    let labels: Vec<String> = config.id2label.values().cloned().collect();
    let in_order = config.id2label.keys().copied().eq(0..count as u32);
    ensure!(
        in_order,
        "config.json: id2label names {} labels, the classifier has {count} outputs",
        labels.len()
    );
    Ok(labels)
}
