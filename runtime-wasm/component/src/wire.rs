//! The JSON that crosses the ABI.
//!
//! The host has its own copy of these shapes (it does not link this crate), so
//! a change here is a change of [`crate::ABI_VERSION`].

use meetara_engine::encoder::{Activation, Encoder, Reading};
use meetara_engine::generate::{Choice, Finish, GenerateParams, Logprobs, Pooling, Step, Usage};
use meetara_engine::reader::{
    DomainReading, Extent, Feelings, Reading as TextReading, SafetyReading, TextEmotion,
};
use meetara_engine::safety::Help;
use meetara_engine::template::Message;
use serde::{Deserialize, Serialize};

/// What the header of a GGUF file says.
#[derive(Debug, Serialize)]
pub struct Inspected<'a> {
    /// `general.name`.
    pub name: Option<&'a str>,
    /// `general.architecture`.
    pub architecture: Option<&'a str>,
    /// `general.type`: `model`, `adapter` ...; `model` when the file does not say.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// `<architecture>.context_length`.
    pub context_len: Option<u32>,
    /// `meetara.heads`: the classifiers of an encoder, by name.
    pub heads: Vec<&'a str>,
    /// Number of tensors.
    pub n_tensors: usize,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
}

/// The header is longer than the head that was handed in.
#[derive(Debug, Serialize)]
pub struct NeedMore {
    /// At least so many bytes of the file are needed.
    pub bytes: u64,
}

/// What was loaded.
#[derive(Debug, Serialize)]
pub struct Loaded<'a> {
    /// The model's name.
    pub name: &'a str,
    /// The longest context in tokens.
    pub context_len: u64,
    /// Number of tokens in the vocabulary.
    pub n_vocab: u64,
    /// Whether the file carries a chat template.
    pub chat: bool,
}

/// The encoder that was loaded.
#[derive(Debug, Serialize)]
pub struct EncoderLoaded<'a> {
    /// Its name.
    pub name: &'a str,
    /// Length of an embedding.
    pub width: u64,
    /// The most tokens of a text that are read.
    pub tokens_max: u64,
    /// Its classifiers.
    pub heads: Vec<HeadLoaded<'a>>,
}

/// A classifier of an encoder.
#[derive(Debug, Serialize)]
pub struct HeadLoaded<'a> {
    /// Its name.
    pub name: &'a str,
    /// One for each probability.
    pub labels: &'a [String],
    /// Whether each label is right or not for itself; else one of them is.
    pub several: bool,
    /// From which probability on a label counts, where the file says so.
    pub thresholds: Option<&'a [f32]>,
}

impl<'a> EncoderLoaded<'a> {
    pub(crate) fn new(encoder: &'a Encoder) -> Self {
        let config = encoder.config();
        let heads = encoder.heads().iter().map(|head| HeadLoaded {
            name: &head.name,
            labels: &head.labels,
            several: head.activation == Activation::Sigmoid,
            thresholds: head.thresholds.as_deref(),
        });
        Self {
            name: &config.name,
            width: config.n_embd as u64,
            tokens_max: encoder.tokens_max() as u64,
            heads: heads.collect(),
        }
    }
}

/// A text for the encoder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encode {
    /// The text.
    pub text: String,
}

/// What the encoder makes of it.
#[derive(Debug, Serialize)]
pub struct Encoded {
    /// Of length 1.
    pub embedding: Vec<f32>,
    /// Of each head, in the order of [`EncoderLoaded::heads`], one for each label.
    pub probabilities: Vec<Vec<f32>>,
    /// Tokens that were read.
    pub tokens: u64,
    /// Tokens at the end that were not, because the text is too long.
    pub tokens_cut: u64,
}

impl Encoded {
    pub(crate) fn new(reading: Reading<'_>) -> Self {
        let heads = reading.heads.into_iter();
        Self {
            embedding: reading.embedding,
            probabilities: heads.map(|head| head.probabilities).collect(),
            tokens: reading.tokens as u64,
            tokens_cut: reading.tokens_cut as u64,
        }
    }
}

/// What somebody wrote, to be read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// Their turns alone, oldest first. The last one is read; what it is about and whether somebody needs help may
    /// need those before.
    pub turns: Vec<String>,
    /// Where they are: a country code, for the help text.
    #[serde(default)]
    pub region: Option<String>,
    /// Whether their feelings over the turns are asked for.
    #[serde(default)]
    pub feelings: bool,
}

/// What it says. Without a reader only `safety` and `help` are there.
#[derive(Debug, Serialize)]
pub struct TurnsRead {
    /// The feeling in the last turn.
    pub text: Option<TextEmotion>,
    /// What it is about.
    pub domain: Option<DomainReading>,
    /// Whether somebody may need help at once.
    pub safety: SafetyReading,
    /// How much of the last turn was read.
    pub read: Option<Extent>,
    /// The feelings over the turns, if asked for.
    pub feelings: Option<Feelings>,
    /// What to say where `safety` is flagged.
    pub help: Option<Help>,
}

impl TurnsRead {
    pub(crate) fn new(reading: TextReading, feelings: Option<Feelings>) -> Self {
        Self {
            text: Some(reading.text),
            domain: Some(reading.domain),
            safety: reading.safety,
            read: Some(reading.read),
            feelings,
            help: None,
        }
    }

    pub(crate) fn by_rules(safety: SafetyReading) -> Self {
        Self {
            text: None,
            domain: None,
            safety,
            read: None,
            feelings: None,
            help: None,
        }
    }
}

/// An adapter that was loaded.
#[derive(Debug, Serialize)]
pub struct AdapterLoaded {
    /// The largest rank of its pairs.
    pub rank: u64,
    /// Bytes that its weights take.
    pub memory_bytes: u64,
}

/// An adapter in use.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterUse {
    /// The name it was loaded under.
    pub name: String,
    /// What its part is multiplied by.
    pub scale: f32,
}

/// What an open session holds and takes.
#[derive(Debug, Serialize)]
pub struct Opened {
    /// The most tokens, prompt and reply together.
    pub context_max: u32,
    /// Bytes of its buffers so far; the KV cache grows as the context fills.
    pub memory_bytes: u64,
}

/// A request: exactly one of `messages` and `text`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// A conversation, rendered by the model's chat template.
    #[serde(default)]
    pub messages: Option<Vec<Message>>,
    /// Plain text to continue.
    #[serde(default)]
    pub text: Option<String>,
    /// How the reply is drawn.
    #[serde(default)]
    pub params: GenerateParams,
    /// Added to the model for this request, all loaded before; none is the model alone.
    #[serde(default)]
    pub adapters: Vec<AdapterUse>,
}

/// A choice among labels after a prompt: exactly one of `messages` and `text`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choose {
    /// A conversation, rendered by the model's chat template.
    #[serde(default)]
    pub messages: Option<Vec<Message>>,
    /// Plain text to continue.
    #[serde(default)]
    pub text: Option<String>,
    /// What may follow.
    pub labels: Vec<String>,
    /// Added to the model for this request, all loaded before; none is the model alone.
    #[serde(default)]
    pub adapters: Vec<AdapterUse>,
}

/// How likely the labels are.
#[derive(Debug, Serialize)]
pub struct Chosen {
    /// In the order in which the labels were given.
    pub choices: Vec<Choice>,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
}

/// A text to embed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embed {
    /// The text.
    pub text: String,
    /// Which hidden states become the vector.
    #[serde(default)]
    pub pooling: Pooling,
    /// Added to the model for this request, all loaded before; none is the model alone.
    #[serde(default)]
    pub adapters: Vec<AdapterUse>,
}

/// What one step did.
#[derive(Debug, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Stepped {
    /// A slice of the prompt was evaluated.
    Prefill {
        /// Tokens of the prompt evaluated so far.
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
        /// If asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        logprobs: Option<Logprobs>,
    },
    /// The reply is complete.
    Done {
        /// Why it ended.
        finish: Finish,
        /// Text that was held back until now, maybe empty.
        text: String,
        /// What it cost.
        usage: Usage,
        /// If asked for, of the token that completed a stop string.
        #[serde(skip_serializing_if = "Option::is_none")]
        logprobs: Option<Logprobs>,
    },
}

impl Stepped {
    /// A step and what is known of the token it chose.
    pub(crate) fn new(step: Step, logprobs: Option<Logprobs>) -> Self {
        match step {
            Step::Prefill { done, total } => Self::Prefill { done, total },
            Step::Token { id, text } => Self::Token { id, text, logprobs },
            Step::Done {
                finish,
                text,
                usage,
            } => Self::Done {
                finish,
                text,
                usage,
                logprobs,
            },
        }
    }
}

/// Why a call failed.
#[derive(Debug, Serialize)]
pub struct Failure<'a> {
    /// A stable word, see `meetara_engine::ErrorKind`.
    pub code: &'a str,
    /// What was wrong, where, and what to do. Never what a user typed.
    pub message: &'a str,
}
