//! Embeddings: a text as one vector of length 1.
//!
//! The hidden states are those that the output matrix would read, that is,
//! after the last layer and the output norm, which is what llama.cpp pools.
//! A decoder that was trained to chat, not to embed, gives vectors that tell
//! topics apart, less well than a model made for it.

use serde::{Deserialize, Serialize};

use super::prompt;
use super::session::Session;
use crate::error::{Error, Result};
use crate::nn::COLUMNS_MAX;

/// Which hidden states become the vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over all tokens.
    #[default]
    Mean,
    /// The last token's.
    Last,
}

/// A text as a vector.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Embedding {
    /// Of length 1: (n_embd)
    pub embedding: Vec<f32>,
    /// Tokens of the text, the first token that the model expects included.
    pub tokens: u32,
}

impl Session {
    /// The vector of `text`, in which markers are read as such. Forgets the conversation.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) for an empty text,
    /// [`ErrorKind::ContextOverflow`](crate::ErrorKind::ContextOverflow) for one longer than the context,
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory), and
    /// [`ErrorKind::Internal`](crate::ErrorKind::Internal) when the model's arithmetic gave NaN.
    pub fn embed(&mut self, text: &str, pooling: Pooling) -> Result<Embedding> {
        if text.is_empty() {
            return Err(Error::invalid_request("the text to embed is empty"));
        }
        let tokens = prompt::text_tokens(self.model().tokenizer(), text)?;
        self.check_room(&tokens, 0)?;
        self.reset();
        let n_embd = self.model().config().n_embd;
        let mut sum = vec![0.0_f64; n_embd];
        for slice in tokens.chunks(COLUMNS_MAX) {
            self.forward(slice, slice.len())?;
            for row in self.hidden(slice.len()).chunks_exact(n_embd) {
                for (sum, &x) in sum.iter_mut().zip(row) {
                    *sum = f64::from(x) + if pooling == Pooling::Mean { *sum } else { 0.0 };
                }
            }
        }
        let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        if !(length > 0.0 && length.is_finite()) {
            return Err(Error::internal(
                "the hidden states are zero or no numbers: the weights hold values that are not finite, or overflow",
            ));
        }
        Ok(Embedding {
            embedding: sum.iter().map(|x| (x / length) as f32).collect(),
            tokens: tokens.len() as u32,
        })
    }
}
