//! The JSON that crosses the component's ABI, version 4, as the host reads and writes it.
//!
//! The component defines these shapes in its own module `wire`. The host never links the
//! component, so what it needs of them is stated here again; the host's tests, which run the
//! real component, fail when the two part.

use meetara_api::{
    AdapterUse, FinishReason, LabelProbability, Message, Prompt, Sampling, TokenLogprob, TopLogprob,
};
use serde::{Deserialize, Serialize};

/// The ABI that this host speaks.
pub const ABI_VERSION: i32 = 4;

/// How a conversation's keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[repr(u32)]
pub enum KvType {
    /// As halves, two bytes each
    #[default]
    F16 = 0,
    /// As single bytes: little more than half of the memory, and a little less exact
    Q8 = 1,
}

/// What the header of a GGUF file says.
#[derive(Clone, Debug, Deserialize)]
pub struct Inspected {
    /// `general.name`.
    pub name: Option<String>,
    /// `general.architecture`.
    pub architecture: Option<String>,
    /// `general.type`; `model` when the file does not say.
    #[serde(rename = "type")]
    pub kind: String,
    /// The classifiers of an encoder.
    pub heads: Vec<String>,
}

/// Somebody's turns, to be read; the answer is a [`meetara_api::TurnsRead`].
#[derive(Debug, Serialize)]
pub struct Read<'a> {
    /// Oldest first.
    pub turns: &'a [String],
    /// Where they are.
    pub region: Option<&'a str>,
    /// Whether their feelings are asked for.
    pub feelings: bool,
}

/// A row of `domains.toml`.
#[derive(Clone, Debug, Deserialize)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// What must be shown with replies; empty where nothing must.
    pub disclaimer: String,
    /// Whether feelings may be read without an operator's own setting.
    pub emotion_default: bool,
}

/// The header is longer than the head that was handed in.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct NeedMore {
    /// At least so many bytes of the file are needed.
    pub bytes: u64,
}

/// What was loaded.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Loaded {
    /// The longest context in tokens.
    pub context_len: u64,
    /// Whether the file carries a chat template.
    pub chat: bool,
}

/// What an open session holds.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Opened {
    /// The most tokens, prompt and reply together.
    pub context_max: u32,
}

/// What the model is given: one key, `messages` or `text`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Given<'a> {
    /// A conversation.
    Messages(&'a [Message]),
    /// Plain text.
    Text(&'a str),
}

impl<'a> From<&'a Prompt> for Given<'a> {
    fn from(prompt: &'a Prompt) -> Self {
        match prompt {
            Prompt::Chat(messages) => Self::Messages(messages),
            Prompt::Text(text) => Self::Text(text),
        }
    }
}

/// A request for a reply.
#[derive(Debug, Serialize)]
pub struct Start<'a> {
    /// What is replied to.
    #[serde(flatten)]
    pub prompt: Given<'a>,
    /// How the reply is drawn.
    pub params: &'a Sampling,
    /// What is added to the model; all are loaded.
    pub adapters: &'a [AdapterUse],
}

/// A choice among labels.
#[derive(Debug, Serialize)]
pub struct Choose<'a> {
    /// What they answer.
    #[serde(flatten)]
    pub prompt: Given<'a>,
    /// The labels.
    pub labels: &'a [String],
    /// What is added to the model; all are loaded.
    pub adapters: &'a [AdapterUse],
}

/// How likely the labels are.
#[derive(Debug, Deserialize)]
pub struct Chosen {
    /// In the order in which the labels were given.
    pub choices: Vec<LabelProbability>,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
}

/// A text to embed.
#[derive(Debug, Serialize)]
pub struct Embed<'a> {
    /// The text.
    pub text: &'a str,
    /// What is added to the model; all are loaded.
    pub adapters: &'a [AdapterUse],
}

/// A text as a vector.
#[derive(Debug, Deserialize)]
pub struct Embedded {
    /// Of length 1: (n_embd)
    pub embedding: Vec<f32>,
    /// Tokens of the text.
    pub tokens: u32,
}

/// A token and how likely it was.
#[derive(Debug, Deserialize)]
pub struct Logprob {
    logprob: f32,
    bytes: Vec<u8>,
}

impl From<Logprob> for TopLogprob {
    fn from(found: Logprob) -> Self {
        Self::new(found.bytes, found.logprob)
    }
}

/// The token that a step chose, beside the likeliest ones.
#[derive(Debug, Deserialize)]
pub struct Logprobs {
    token: Logprob,
    top: Vec<Logprob>,
}

impl From<Logprobs> for TokenLogprob {
    fn from(found: Logprobs) -> Self {
        Self {
            token: found.token.into(),
            top_logprobs: found.top.into_iter().map(Into::into).collect(),
        }
    }
}

/// What a started request will cost.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Started {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
}

/// What one step did.
#[derive(Debug, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Stepped {
    /// A slice of the prompt was evaluated.
    Prefill {},
    /// One token was generated.
    Token {
        /// Complete UTF-8, maybe empty.
        text: String,
        /// If asked for.
        logprobs: Option<Logprobs>,
    },
    /// The reply is complete.
    Done {
        /// Why it ended.
        finish: FinishReason,
        /// Text that was held back until now, maybe empty.
        text: String,
        /// What it cost.
        usage: Usage,
        /// If asked for, of the token that completed a stop string.
        logprobs: Option<Logprobs>,
    },
}

/// What a finished request cost.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens that were generated.
    pub completion_tokens: u32,
    /// Tokens of the prompt that were in the KV cache.
    pub cached_tokens: u32,
    /// Tokens that were guessed.
    pub drafted_tokens: u32,
    /// Tokens that were guessed rightly.
    pub accepted_tokens: u32,
    /// Messages that were dropped for lack of room.
    pub dropped_messages: u32,
}

/// Why a call failed.
#[derive(Debug, Deserialize)]
pub struct Failure {
    /// The engine's stable word.
    pub code: String,
    /// What was wrong, where, and what to do.
    pub message: String,
}
