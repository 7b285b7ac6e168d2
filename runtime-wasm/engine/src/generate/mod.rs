//! Generation: the parameters of a request and the words of its reply.
//!
//! `session` runs the model, `sampler` chooses a token from logits and `stop`
//! watches the text for the strings that end a reply. `constraint` holds it to a
//! schema or a grammar, `lookup` guesses tokens, `shift` shortens a conversation, `choose` and `embed` ask the model without
//! a reply.

pub mod choose;
mod constraint;
pub mod elsewhere;
pub mod embed;
pub mod logprobs;
pub mod lookup;
pub mod prompt;
pub mod sampler;
pub mod session;
mod shift;
pub mod stop;

pub use choose::Choice;
pub use constraint::Constraint;
pub use elsewhere::Wanted;
pub use embed::{Embedding, Pooling};
pub use logprobs::{Logprobs, TOP_LOGPROBS_MAX, TokenLogprob};
pub use session::Session;

/// Whether log-probabilities, bias, guesses and shortened conversations are part of this build: the
/// feature `extras`. Without it their parameters are unknown fields and their code is left out.
pub(crate) const EXTRAS: bool = cfg!(feature = "extras");

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The largest number of [`GenerateParams::stop`] strings in one request.
pub const STOP_STRINGS_MAX: usize = 16;
/// The longest of [`GenerateParams::stop`], in bytes.
pub const STOP_STRING_BYTES_MAX: usize = 256;
/// The largest [`GenerateParams::temperature`].
pub const TEMPERATURE_MAX: f32 = 100.0;
/// The largest [`GenerateParams::repeat_penalty`].
pub const REPEAT_PENALTY_MAX: f32 = 100.0;
/// The largest size of the presence and frequency penalties, as in OpenAI's API.
pub const PENALTY_MAX: f32 = 2.0;
/// The largest size of a [`GenerateParams::logit_bias`], as in OpenAI's API.
pub const LOGIT_BIAS_MAX: f32 = 100.0;

/// How a reply is drawn. The default is plain sampling at temperature 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateParams {
    /// Divides the logits; 0 takes the likeliest token every time (greedy).
    pub temperature: f32,
    /// Only the `top_k` likeliest tokens remain; 0 turns this off.
    pub top_k: u32,
    /// The fewest likeliest tokens whose probabilities reach `top_p` remain; 1 turns this off.
    pub top_p: f32,
    /// Tokens less likely than `min_p` times the likeliest are dropped; 0 turns this off.
    pub min_p: f32,
    /// Divides the logits of tokens among the last `repeat_last_n` if positive,
    /// multiplies them if negative; 1 turns this off.
    pub repeat_penalty: f32,
    /// How many of the last tokens, prompt included, the three penalties look at.
    pub repeat_last_n: u32,
    /// Taken from the logit of every token that occurred.
    pub presence_penalty: f32,
    /// Taken from the logit of a token once for each time it occurred.
    pub frequency_penalty: f32,
    /// The seed of the sampler. The same seed, file and request give the same reply.
    pub seed: u64,
    /// The most tokens to generate; `None` generates until the context is full.
    pub max_tokens: Option<u32>,
    /// Strings that end the reply. They are not part of it.
    pub stop: Vec<String>,
    /// Token ids and what is added to their logits before all else, -100 to 100.
    #[cfg_attr(not(feature = "extras"), serde(skip))]
    pub logit_bias: Vec<(u32, f32)>,
    /// Asks for each token's log-probability and those of so many likeliest ones, at most
    /// [`TOP_LOGPROBS_MAX`]; see [`Session::take_logprobs`].
    #[cfg_attr(not(feature = "extras"), serde(skip))]
    pub top_logprobs: Option<u32>,
    /// Guesses up to so many tokens at once from the context, at most [`lookup::DRAFT_MAX`], which
    /// makes repetitive text faster and changes nothing else; 0 turns this off.
    #[cfg_attr(not(feature = "extras"), serde(skip))]
    pub draft_max: u32,
    /// A guess needs so many tokens in a row that occurred before, 1 to [`lookup::LOOKUP_NGRAM_MAX`].
    #[cfg_attr(not(feature = "extras"), serde(skip))]
    pub lookup_ngram: u32,
    /// Chats only: when the context is full, drop the oldest turns after the system prompt and go on.
    #[cfg_attr(not(feature = "extras"), serde(skip))]
    pub context_shift: bool,
    /// What the reply must be. Works with every other field but `stop`, and a reply that is cut off, by
    /// `max_tokens` or a full context, is still brought to a valid end, as text.
    #[cfg_attr(not(feature = "constrained"), serde(skip))]
    pub constraint: Option<Constraint>,
}

impl Default for GenerateParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
            max_tokens: None,
            stop: Vec::new(),
            logit_bias: Vec::new(),
            top_logprobs: None,
            draft_max: 0,
            lookup_ngram: 3,
            context_shift: false,
            constraint: None,
        }
    }
}

impl GenerateParams {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest), naming
    /// the first field that is out of its range and the range.
    pub fn validate(&self) -> Result<()> {
        let within = |name: &str, value: f32, low: f32, high: f32| {
            if value >= low && value <= high {
                Ok(())
            } else {
                Err(Error::invalid_request(format!(
                    "{name} is {value}, it must lie between {low} and {high}"
                )))
            }
        };
        let above_zero = |name: &str, value: f32, high: f32| {
            if value > 0.0 && value <= high {
                Ok(())
            } else {
                Err(Error::invalid_request(format!(
                    "{name} is {value}, it must be above 0 and at most {high}"
                )))
            }
        };
        within("temperature", self.temperature, 0.0, TEMPERATURE_MAX)?;
        above_zero("top_p", self.top_p, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        above_zero("repeat_penalty", self.repeat_penalty, REPEAT_PENALTY_MAX)?;
        let penalty = |name, value| within(name, value, -PENALTY_MAX, PENALTY_MAX);
        penalty("presence_penalty", self.presence_penalty)?;
        penalty("frequency_penalty", self.frequency_penalty)?;
        let whole = |name: &str, value: u32, low: u32, high: u32| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::invalid_request(format!(
                    "{name} is {value}, it must lie between {low} and {high}"
                )))
            }
        };
        if EXTRAS {
            let top_logprobs = self.top_logprobs.unwrap_or(0);
            whole("top_logprobs", top_logprobs, 0, TOP_LOGPROBS_MAX)?;
            whole("draft_max", self.draft_max, 0, lookup::DRAFT_MAX)?;
            let ngram_max = lookup::LOOKUP_NGRAM_MAX;
            whole("lookup_ngram", self.lookup_ngram, 1, ngram_max)?;
            for &(_, bias) in &self.logit_bias {
                within("logit_bias", bias, -LOGIT_BIAS_MAX, LOGIT_BIAS_MAX)?;
            }
        }
        if self.constraint.is_some() && !self.stop.is_empty() {
            return Err(Error::invalid_request(
                "stop would end a constrained reply before it is valid; leave one of the two out",
            ));
        }
        if self.max_tokens == Some(0) {
            return Err(Error::invalid_request(
                "max_tokens is 0, it must be at least 1, or be left out",
            ));
        }
        if self.stop.len() > STOP_STRINGS_MAX {
            return Err(Error::invalid_request(format!(
                "stop has {} strings, at most {STOP_STRINGS_MAX} are allowed",
                self.stop.len()
            )));
        }
        for (index, stop) in self.stop.iter().enumerate() {
            if stop.is_empty() || stop.len() > STOP_STRING_BYTES_MAX {
                return Err(Error::invalid_request(format!(
                    "stop[{index}] has {} bytes, it must have 1 to {STOP_STRING_BYTES_MAX}",
                    stop.len()
                )));
            }
        }
        Ok(())
    }
}

/// What a started request will cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Tokens of the prompt, those in the cache included.
    pub prompt_tokens: u32,
    /// Tokens of the prompt that an earlier request left in the KV cache.
    pub cached_tokens: u32,
}

/// What a finished request cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, those in the cache included.
    pub prompt_tokens: u32,
    /// Tokens that were generated, the end marker not counted.
    pub completion_tokens: u32,
    /// Tokens of the prompt that an earlier request left in the KV cache.
    pub cached_tokens: u32,
    /// Tokens that were guessed.
    #[cfg_attr(feature = "extras", serde(default))]
    #[cfg_attr(not(feature = "extras"), serde(skip))]
    pub drafted_tokens: u32,
    /// Tokens that were guessed rightly.
    #[cfg_attr(feature = "extras", serde(default))]
    #[cfg_attr(not(feature = "extras"), serde(skip))]
    pub accepted_tokens: u32,
    /// Messages that were dropped for lack of room.
    #[cfg_attr(feature = "extras", serde(default))]
    #[cfg_attr(not(feature = "extras"), serde(skip))]
    pub dropped_messages: u32,
}

/// Why a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended its turn, or a stop string appeared.
    Stop,
    /// `max_tokens` or the end of the context was reached.
    Length,
}

/// What one call of `Session::step` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A slice of the prompt was evaluated.
    Prefill {
        /// Tokens of the prompt in the KV cache so far.
        done: u32,
        /// Tokens of the prompt.
        total: u32,
    },
    /// One token was generated.
    Token {
        /// The token.
        id: u32,
        /// The text that became certain with it: complete UTF-8, maybe empty.
        text: String,
    },
    /// The reply is complete. Further calls give an error.
    Done {
        /// Why it ended.
        finish: Finish,
        /// Text that was held back until now, maybe empty.
        text: String,
        /// What it cost.
        usage: Usage,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn an_unknown_field_is_refused_and_a_missing_one_has_its_default() {
        let given: GenerateParams = serde_json::from_str(r#"{"temperature":0}"#).unwrap();
        assert_eq!(
            given,
            GenerateParams {
                temperature: 0.0,
                ..GenerateParams::default()
            }
        );
        assert!(serde_json::from_str::<GenerateParams>(r#"{"temprature":0}"#).is_err());
    }

    #[test]
    fn a_field_out_of_range_is_named() {
        type Spoil = fn(&mut GenerateParams);
        let cases: [(&str, Spoil); 15] = [
            ("temperature", |p| p.temperature = f32::NAN),
            ("temperature", |p| p.temperature = -0.1),
            ("top_p", |p| p.top_p = 0.0),
            ("min_p", |p| p.min_p = 1.5),
            ("repeat_penalty", |p| p.repeat_penalty = 0.0),
            ("presence_penalty", |p| p.presence_penalty = 2.1),
            ("frequency_penalty", |p| p.frequency_penalty = f32::INFINITY),
            ("max_tokens", |p| p.max_tokens = Some(0)),
            ("stop", |p| p.stop = vec!["x".to_owned(); 17]),
            ("stop[0]", |p| p.stop = vec![String::new()]),
            ("logit_bias", |p| p.logit_bias = vec![(1, 0.0), (2, 100.5)]),
            ("logit_bias", |p| p.logit_bias = vec![(1, f32::NAN)]),
            ("top_logprobs", |p| p.top_logprobs = Some(21)),
            ("draft_max", |p| p.draft_max = 16),
            ("lookup_ngram", |p| p.lookup_ngram = 0),
        ];
        assert_eq!(GenerateParams::default().validate(), Ok(()));
        for (name, spoil) in cases {
            let mut params = GenerateParams::default();
            spoil(&mut params);
            let error = params.validate().unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidRequest);
            assert!(error.message().starts_with(name), "{error}");
        }
    }

    #[test]
    fn finish_has_the_words_of_the_api() {
        assert_eq!(serde_json::to_string(&Finish::Stop).unwrap(), r#""stop""#);
        assert_eq!(
            serde_json::to_string(&Finish::Length).unwrap(),
            r#""length""#
        );
    }
}
