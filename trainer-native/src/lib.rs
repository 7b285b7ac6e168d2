//! From a person's data to a small model that runs anywhere: the parts behind `meetara-train`.
//!
//! ```text
//! data -> tokenizer -> model + kernels -> train -> gguf -> measure
//! ```

pub mod commands;
pub mod config;
pub mod data;
pub mod emotion;
pub mod gguf;
pub mod import;
pub mod kernels;
pub mod measure;
pub mod model;
pub mod tokenizer;
pub mod train;
