//! Typed choice: how likely the model finds each of a few given answers.
//!
//! ```text
//! s(label) = sum of ln p(token | prompt, tokens of the label before it)
//! probability = softmax of s over the labels
//! ```
//!
//! The prompt is evaluated once, then each label after it. Sums favour short
//! labels, and a label that begins another is never less likely than that
//! other: give labels of like length and form ("yes", "no").

use serde::Serialize;

use super::logprobs::log_sum_exp;
use super::prompt;
use super::session::Session;
use crate::error::{Error, Result};
use crate::kernels::math::exp;
use crate::nn::COLUMNS_MAX;
use crate::template::Message;
use crate::tokenizer::Special;

/// The most labels of one choice.
pub const LABELS_MAX: usize = 256;

/// One label and how likely it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// The label, as given.
    pub label: String,
    /// Its share among the labels; all add up to 1.
    pub probability: f32,
    /// Sum of the natural logarithms of its tokens' probabilities.
    pub logprob: f32,
}

impl Session {
    /// How likely each of `labels` is as the reply to `messages`, in the order
    /// of `labels`. Labels are plain text: markers in them are not read as such.
    /// A reply in the making is dropped; the prompt stays in the cache.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) for no labels, more than
    /// [`LABELS_MAX`], an empty or a repeated one, and the errors of [`Session::start_chat`].
    pub fn choose_chat(&mut self, messages: &[Message], labels: &[String]) -> Result<Vec<Choice>> {
        let prompt = prompt::chat_tokens(self.model(), messages)?;
        self.choose(&prompt, labels)
    }

    /// How likely each of `labels` is as the continuation of `text`, as [`Self::choose_chat`].
    ///
    /// # Errors
    /// Those of [`Self::choose_chat`], the template's excepted.
    pub fn choose_text(&mut self, text: &str, labels: &[String]) -> Result<Vec<Choice>> {
        let prompt = prompt::text_tokens(self.model().tokenizer(), text)?;
        self.choose(&prompt, labels)
    }

    fn choose(&mut self, prompt: &[u32], labels: &[String]) -> Result<Vec<Choice>> {
        if labels.is_empty() || labels.len() > LABELS_MAX {
            return Err(Error::invalid_request(format!(
                "labels has {} entries, it must have 1 to {LABELS_MAX}",
                labels.len()
            )));
        }
        let mut encoded = Vec::with_capacity(labels.len());
        for (index, label) in labels.iter().enumerate() {
            let tokens = self.model().tokenizer().encode(label, Special::Text)?;
            if tokens.is_empty() || labels[..index].contains(label) {
                return Err(Error::invalid_request(format!(
                    "labels[{index}] is empty or was given before"
                )));
            }
            encoded.push(tokens);
        }
        let longest = encoded.iter().map(Vec::len).max().unwrap_or(0);
        self.check_room(prompt, longest - 1)?;
        self.reuse(prompt);
        self.prompt_logits(&prompt[self.tokens.len()..])?;

        let first = log_sum_exp(&self.logits);
        let mut sums: Vec<f32> = encoded
            .iter()
            .map(|tokens| self.logits[tokens[0] as usize] - first)
            .collect();
        for (tokens, sum) in encoded.iter().zip(&mut sums) {
            let mut following = tokens[1..].iter();
            for tokens in tokens[..tokens.len() - 1].chunks(COLUMNS_MAX) {
                self.forward(tokens, tokens.len())?;
                for (column, &next) in (0..tokens.len()).zip(&mut following) {
                    self.column_logits(column);
                    *sum += self.logits[next as usize] - log_sum_exp(&self.logits);
                }
            }
            self.tokens.truncate(prompt.len());
        }

        if sums.iter().any(|sum| sum.is_nan()) {
            return Err(Error::internal(
                "the probability of a label is not a number: the weights hold values that are not finite, or overflow",
            ));
        }
        let max = sums.iter().copied().fold(f32::MIN, f32::max);
        let weights: Vec<f32> = sums.iter().map(|sum| exp(sum - max)).collect();
        let total: f32 = weights.iter().sum();
        let choice = |((label, logprob), weight): ((&String, f32), f32)| Choice {
            label: label.clone(),
            probability: weight / total,
            logprob,
        };
        Ok(labels.iter().zip(sums).zip(weights).map(choice).collect())
    }
}
