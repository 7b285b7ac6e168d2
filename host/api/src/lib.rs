//! OpenAI-shaped requests, replies and errors, without any I/O.
//!
//! Both hosts (the native server and the edge worker) speak the same REST dialect, so its
//! types live here once: a request is parsed and checked by [`ChatRequest::parse`], a reply is
//! built from a [`Head`] (whole or as server-sent events), and everything that can go wrong is an
//! [`ApiError`] with an HTTP status and the body that client libraries expect.
//!
//! Clock, randomness, sockets and the model stay with the caller: the creation time and the
//! reply's id are handed in.

pub mod adapters;
pub mod chat;
pub mod constraint;
mod content;
pub mod embeddings;
pub mod error;
mod fields;
pub mod meetara;
pub mod models;
pub mod reply;
pub mod text;

pub use adapters::{AdapterUse, LoadAdapter, LoraAdapter, LoraAdapterList, UnloadAdapter};
pub use chat::{ChatRequest, Message, Sampling};
pub use constraint::Constraint;
pub use embeddings::{ChooseRequest, EmbeddingsRequest, LabelProbability, Prompt};
pub use error::{ApiError, ErrorBody, ErrorObject};
pub use meetara::{AnalyzeRequest, Meetara, MeetaraOptions, Routed, TurnsRead, turns_of};
pub use models::{Model, ModelList};
pub use reply::{
    ChatCompletion, Choice, ChoiceLogprobs, ChoiceMessage, FinishReason, Head, SSE_DONE,
    TokenLogprob, TopLogprob, Usage,
};
pub use text::TextRequest;

/// Longest request body that the hosts accept, in bytes; beyond it they answer 413.
///
/// A context of a few thousand tokens is some tens of kilobytes of text, so this is generous.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// `Content-Type` of a streamed reply.
pub const SSE_CONTENT_TYPE: &str = "text/event-stream";
