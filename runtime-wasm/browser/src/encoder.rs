//! An encoder: a text in; its vector and what the classifiers in the file say of it out.

use meetara_engine::encoder::{Activation, Encoder as EngineEncoder};
use serde::Serialize;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::buffer::ModelBuffer;
use crate::error::{JsResult, to_js, to_value};

/// An encoder in memory.
#[wasm_bindgen]
pub struct Encoder {
    inner: EngineEncoder,
}

/// What [`Encoder::encode`] gives.
#[wasm_bindgen(getter_with_clone)]
pub struct Reading {
    /// The vector of the text, of length 1.
    pub embedding: Vec<f32>,
    /// Of each head in turn, one for each of its labels.
    pub probabilities: Vec<f32>,
    /// Tokens that were read.
    pub tokens: usize,
    /// Tokens at the end that were not, because the text is too long.
    pub tokens_cut: usize,
}

/// What [`Encoder::info`] gives.
#[derive(Serialize)]
struct Info<'a> {
    /// The model's name in its file.
    name: &'a str,
    architecture: &'static str,
    /// Length of the file in bytes.
    file_bytes: usize,
    /// Number of weights.
    parameters: u64,
    /// The most tokens of a text that are read.
    tokens_max: usize,
    /// Length of a vector.
    width: usize,
    heads: Vec<HeadInfo<'a>>,
}

#[derive(Serialize)]
struct HeadInfo<'a> {
    name: &'a str,
    labels: &'a [String],
    /// Whether each label is right or not for itself.
    several: bool,
    /// From which probability on a label counts.
    thresholds: Option<&'a [f32]>,
}

#[wasm_bindgen]
impl ModelBuffer {
    /// Turns the filled bytes into an encoder; they stay where they are.
    ///
    /// # Errors
    /// As `meetara_engine::encoder::Encoder::load`; the memory is given back.
    pub fn into_encoder(self) -> JsResult<Encoder> {
        let inner = EngineEncoder::load(self.bytes).map_err(to_js)?;
        Ok(Encoder { inner })
    }
}

#[wasm_bindgen]
impl Encoder {
    /// What the file says of itself: an object with the fields of [`Info`].
    ///
    /// # Errors
    /// None in practice.
    pub fn info(&self) -> JsResult<JsValue> {
        info(&self.inner)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// `invalid_request` for an empty text, `out_of_memory`.
    pub fn encode(&self, text: &str) -> JsResult<Reading> {
        let reading = self.inner.encode(text).map_err(to_js)?;
        let heads = reading.heads.iter();
        Ok(Reading {
            probabilities: heads
                .flat_map(|head| &head.probabilities)
                .copied()
                .collect(),
            embedding: reading.embedding,
            tokens: reading.tokens,
            tokens_cut: reading.tokens_cut,
        })
    }
}

/// What an encoder's file says of itself.
pub(crate) fn info(encoder: &EngineEncoder) -> JsResult<JsValue> {
    let config = encoder.config();
    let heads = encoder.heads().iter().map(|head| HeadInfo {
        name: &head.name,
        labels: &head.labels,
        several: head.activation == Activation::Sigmoid,
        thresholds: head.thresholds.as_deref(),
    });
    let tensors = encoder.gguf().tensors.iter();
    to_value(&Info {
        name: &config.name,
        architecture: "bert",
        file_bytes: encoder.file_bytes(),
        parameters: tensors.map(|t| t.dims.iter().product::<u64>()).sum(),
        tokens_max: encoder.tokens_max(),
        width: config.n_embd,
        heads: heads.collect(),
    })
}
