//! Log-probabilities of tokens: the model's own, at temperature 1.
//!
//! `ln softmax(logits)`, before bias, penalties, filters and temperature, so
//! that they say what the model thinks and not how a reply was drawn. The sum
//! runs in f64 in order of ids, with the engine's own `exp`.

use serde::Serialize;

use crate::kernels::math::exp;
use crate::tokenizer::Tokenizer;

/// The largest [`GenerateParams::top_logprobs`](super::GenerateParams::top_logprobs), as in OpenAI's API.
pub const TOP_LOGPROBS_MAX: u32 = 20;

/// A token and how likely it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability; minus infinity is given as -9999, which JSON can hold.
    pub logprob: f32,
    /// What it stands for; may be a part of a character, and nothing for a control token.
    pub bytes: Vec<u8>,
}

/// A token that was chosen, beside the likeliest ones at its place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Logprobs {
    /// The token that was chosen.
    pub token: TokenLogprob,
    /// The likeliest, in falling order, of equal ones the lower id first.
    pub top: Vec<TokenLogprob>,
}

/// `ln` of the sum of `exp(logits)`: what a logit lies above its log-probability.
pub(super) fn log_sum_exp(logits: &[f32]) -> f32 {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(exp(x - max))).sum();
    max + libm::logf(sum as f32)
}

/// The log-probabilities of `id` and of the `top` likeliest, from `logits` (n_vocab).
pub(super) fn of(tokenizer: &Tokenizer, logits: &[f32], id: u32, top: u32) -> Logprobs {
    let sum = log_sum_exp(logits);
    let token = |id: u32| {
        let mut bytes = Vec::new();
        tokenizer.append_bytes(id, &mut bytes);
        let logit = logits.get(id as usize).copied();
        TokenLogprob {
            id,
            logprob: (logit.unwrap_or(f32::NEG_INFINITY) - sum).max(-9999.0),
            bytes,
        }
    };
    // Falling logits. `top` is 20 at most, so that few ids get past the first look.
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(top as usize + 1);
    for (id, &logit) in (0..).zip(logits) {
        if best.len() == top as usize && best.last().is_none_or(|&(least, _)| logit <= least) {
            continue;
        }
        let at = best.partition_point(|&(other, _)| other >= logit);
        best.insert(at, (logit, id));
        best.truncate(top as usize);
    }
    Logprobs {
        token: token(id),
        top: best.into_iter().map(|(_, id)| token(id)).collect(),
    }
}
