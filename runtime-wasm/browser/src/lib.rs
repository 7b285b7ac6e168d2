//! The engine's face for browsers, through wasm-bindgen.
//!
//! Three classes reach JavaScript, and each hands over to the next:
//!
//! ```text
//! ModelBuffer(len) --fill the bytes at ptr--> into_model() --> Model --session()--> Session
//! ```
//!
//! The bytes of a model are written by JavaScript straight to the place where
//! they stay: there is no second copy. A `Session` does one bounded step a
//! call, so the caller decides after every token whether to go on. Nothing
//! here fetches, stores, waits or keeps time; that is done in `pkg/`.
//!
//! With the feature `encoder`, in a build of its own without `chat`, a file becomes an `Encoder` instead, by
//! `into_encoder`, or a `TextReader`, by `into_reader`; they read a text a call.
//!
//! With the feature `gpu` each step of the way has a twin that uses the browser's
//! GPU as well: `into_model_on_gpu`, `session_on_gpu`, `step_on_gpu`.
//!
//! With the feature `adapters` LoRA adapters are loaded into a model by name and put on its sessions.
//!
//! Every error is a JavaScript `Error` with the engine's word for its kind in
//! `code`, such as `invalid_model`.

#[cfg(feature = "adapters")]
mod adapters;
mod buffer;
#[cfg(feature = "encoder")]
mod encoder;
mod error;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "chat")]
mod model;
#[cfg(feature = "encoder")]
mod reader;
#[cfg(feature = "chat")]
mod session;
#[cfg(feature = "threads")]
mod threads;

pub use buffer::ModelBuffer;
#[cfg(feature = "encoder")]
pub use encoder::{Encoder, Reading};
#[cfg(feature = "chat")]
pub use model::Model;
#[cfg(feature = "encoder")]
pub use reader::TextReader;
#[cfg(feature = "chat")]
pub use session::Session;
