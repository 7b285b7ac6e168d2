//! The JSON that crosses the component's ABI, version 1, as the host reads and writes it.
//!
//! The component defines these shapes in its own module `wire`. The host never links the
//! component, so what it needs of them is stated here again; the host's tests, which run the
//! real component, fail when the two part.

use meetara_api::{FinishReason, Message, Sampling};
use serde::{Deserialize, Serialize};

/// The ABI that this host speaks.
pub const ABI_VERSION: i32 = 1;

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

/// A request.
#[derive(Debug, Serialize)]
pub struct Start<'a> {
    /// The conversation.
    pub messages: &'a [Message],
    /// How the reply is drawn.
    pub params: &'a Sampling,
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
    },
    /// The reply is complete.
    Done {
        /// Why it ended.
        finish: FinishReason,
        /// Text that was held back until now, maybe empty.
        text: String,
        /// What it cost.
        usage: Usage,
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
}

/// Why a call failed.
#[derive(Debug, Deserialize)]
pub struct Failure {
    /// The engine's stable word.
    pub code: String,
    /// What was wrong, where, and what to do.
    pub message: String,
}
