//! Serves the sandboxed engine over HTTP.
//!
//! Two servers share one process: the page (port 2025) and OpenAI's REST dialect (port 8766).
//! Models run inside wasmtime and never in this program, which does not link the engine; see
//! `sandbox` for the limits of an instance, `models` for its worker, `http` for who may call.
//!
//! Standard output has one line for each server, `web http://ADDRESS` and `rest http://ADDRESS`,
//! written when it accepts connections. Logs go to standard error and hold counts, times, ids of
//! models and codes of errors, never a word of a conversation.
//!
//! A library only so that measurements (`examples`) run what the program runs.

#![deny(unsafe_code)]

pub mod config;
pub mod http;
pub mod models;
pub mod sandbox;
