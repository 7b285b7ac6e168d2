//! What is read off the rows of a text: named classifiers on one body.
//!
//! ```text
//! meetara.heads                      ["emotion", "safety"]
//! meetara.head.NAME.labels           [string]
//! meetara.head.NAME.activation       "softmax" (one of them) or "sigmoid" (each for itself)
//! meetara.head.NAME.temperature      f32, 1 where it is not there
//! meetara.head.NAME.thresholds       [f32], where sigmoids count as yes; 0.5 where it is not there
//! head.NAME.weight  (labels, n_embd)    logits = W mean + b
//! head.NAME.bias    (labels)
//! ```
//!
//! and, as llama.cpp names them, the classifier of a Hugging Face model: `cls` (dense, tanh) and
//! `cls.output` on the first token's row, its labels in `bert.classifier.output_labels`. It is the
//! head called `classifier`, whose other keys are `meetara.head.classifier.*`.

use meetara_format::Gguf;

use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::kernels::math::exp;
use crate::model::tensors::Tensors;
use crate::nn::linear::{Input, Linear, QuantStore};

/// The name of the head that a Hugging Face classifier becomes.
const CLASSIFIER: &str = "classifier";

/// How logits become probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Of all labels one is right: they sum to 1.
    Softmax,
    /// Each label is right or not for itself.
    Sigmoid,
}

/// A classifier.
#[derive(Debug)]
pub struct Head {
    /// Its name in the file.
    pub name: String,
    /// One for each probability.
    pub labels: Vec<String>,
    /// How its logits become probabilities.
    pub activation: Activation,
    /// Logits are divided by this first, so that probabilities are frequencies.
    pub temperature: f32,
    /// From which probability on a label counts; `None` where the file does not say.
    pub thresholds: Option<Vec<f32>>,
    /// Before the output, with tanh: then the first row is read, else the mean.
    dense: Option<Linear>,
    output: Linear,
}

impl Head {
    /// All heads of a file.
    ///
    /// # Errors
    /// Names the key or the tensor that is missing or does not fit.
    pub(super) fn load_all(
        gguf: &Gguf,
        tensors: &mut Tensors<'_>,
        n_embd: usize,
    ) -> Result<Vec<Self>> {
        let mut heads: Vec<Self> = Vec::new();
        let names = gguf.get_string_array("meetara.heads")?;
        for name in names.iter().flat_map(|names| names.iter()) {
            if name == CLASSIFIER || heads.iter().any(|head| head.name == name) {
                return Err(Error::invalid_model(format!(
                    "meetara.heads names {name:?} twice, or as a Hugging Face classifier is called here; rename the head"
                )));
            }
            let labels = format!("meetara.head.{name}.labels");
            let output = format!("head.{name}");
            heads.push(Self::load(gguf, tensors, name, &labels, &output, n_embd)?);
        }
        if let Some(dense) = tensors.optional_linear("cls", n_embd, n_embd)? {
            let labels = "bert.classifier.output_labels";
            let mut head = Self::load(gguf, tensors, CLASSIFIER, labels, "cls.output", n_embd)?;
            head.dense = Some(dense);
            heads.push(head);
        }
        Ok(heads)
    }

    fn load(
        gguf: &Gguf,
        tensors: &mut Tensors<'_>,
        name: &str,
        labels_key: &str,
        output: &str,
        n_embd: usize,
    ) -> Result<Self> {
        let key = |part: &str| format!("meetara.head.{name}.{part}");
        let Some(labels) = gguf
            .get_string_array(labels_key)?
            .filter(|labels| !labels.is_empty())
        else {
            return Err(Error::invalid_model(format!(
                "{labels_key} is missing or empty: the head {name:?} has no labels"
            )));
        };
        let activation = match gguf.get_str(&key("activation"))? {
            None | Some("softmax") => Activation::Softmax,
            Some("sigmoid") => Activation::Sigmoid,
            Some(other) => {
                return Err(Error::unsupported_model(format!(
                    "{} is {other:?}; softmax and sigmoid are supported",
                    key("activation")
                )));
            }
        };
        let temperature = gguf.get_f32(&key("temperature"))?.unwrap_or(1.0);
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(Error::invalid_model(format!(
                "{} is {temperature}, it must be above 0",
                key("temperature")
            )));
        }
        let thresholds = gguf.get_f32_array(&key("thresholds"))?;
        if let Some(thresholds) = thresholds
            && (thresholds.len() != labels.len() || !thresholds.iter().all(|t| t.is_finite()))
        {
            return Err(Error::invalid_model(format!(
                "{} must hold a number for each of {} labels",
                key("thresholds"),
                labels.len()
            )));
        }
        Ok(Self {
            name: name.to_owned(),
            labels: labels.iter().map(str::to_owned).collect(),
            activation,
            temperature,
            thresholds: thresholds.map(<[f32]>::to_vec),
            dense: None,
            output: tensors.linear(output, n_embd, labels.len())?,
        })
    }

    pub(super) fn weave(&mut self, file: &mut [u8]) -> Result<()> {
        for linear in self.dense.iter_mut().chain([&mut self.output]) {
            linear.weight.weave(file)?;
        }
        Ok(())
    }

    /// The logits and the probabilities, from the mean over all rows and the first row: (n_embd)
    /// each.
    pub(super) fn read(
        &self,
        kernels: &Kernels,
        file: &[u8],
        mean: &[f32],
        first: &[f32],
    ) -> Result<[Vec<f32>; 2]> {
        let len = mean.len();
        let mut store = QuantStore::new(1, len)?;
        let mut logits = vec![0.0; self.labels.len()];
        match &self.dense {
            None => {
                let mut input = Input::new(mean, len, &mut store);
                self.output.forward(kernels, file, &mut input, &mut logits);
            }
            Some(dense) => {
                let mut hidden = vec![0.0; len];
                let mut input = Input::new(first, len, &mut store);
                dense.forward(kernels, file, &mut input, &mut hidden);
                hidden.iter_mut().for_each(|x| *x = tanh(*x));
                let mut input = Input::new(&hidden, len, &mut store);
                self.output.forward(kernels, file, &mut input, &mut logits);
            }
        }
        let mut probabilities = logits.clone();
        for x in &mut probabilities {
            *x /= self.temperature;
        }
        match self.activation {
            Activation::Softmax => (kernels.softmax)(&mut probabilities),
            Activation::Sigmoid => {
                for x in &mut probabilities {
                    *x = 1.0 / (1.0 + exp(-*x));
                }
            }
        }
        Ok([logits, probabilities])
    }
}

/// The hyperbolic tangent by the engine's own exponential: bitwise the same everywhere.
fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}
