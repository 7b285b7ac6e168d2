//! Bytes in; tokens, scores and samples out: the runtime without any I/O.
//!
//! A [`model::Model`] owns the bytes of one GGUF file and a
//! [`generate::Session`] is one conversation with it. Nothing here opens a
//! file, reads a clock, starts a thread or draws a random number that was not
//! handed in. An `encoder::Encoder` reads one text at a time. Work is pulled: one call of [`generate::Session::step`] is one
//! bounded piece of work, so whoever calls decides when to stop.
//!
//! The logits of one file and one list of tokens are bitwise the same on every
//! CPU back end; the module `kernels` says how, and `conformance` holds the
//! one number that tells two builds apart.

pub mod conformance;
#[cfg(feature = "encoder")]
pub mod emotion;
#[cfg(feature = "encoder")]
pub mod encoder;
pub mod error;
pub mod eval;
pub mod generate;
mod heap;
pub use meetara_kernels as kernels;
pub mod model;
pub mod nn;
pub mod profile;
#[cfg(feature = "encoder")]
pub mod reader;
#[cfg(feature = "encoder")]
pub mod safety;
pub mod template;
pub mod tokenizer;

pub use error::{Error, ErrorKind, Result};
