//! One small text encoder that reads several things at once: feelings, the domain, and danger.
//!
//! ```text
//! config      heads, data files and the recipe
//! examples    data files -> texts and what each head should say of them
//! vocabulary  an imported encoder -> its most used tokens and first blocks
//! course      the loop of a training: steps, log, checkpoints
//! draws       what a step draws by lot
//! masked      a body from plain texts alone: words left out are guessed
//! train       body and heads together, AdamW
//! metrics     F1, thresholds, temperatures, calibration error
//! report      a finished file on held-out texts, through the engine that users run
//! replies     whether a chat model answers better when it is told a feeling
//! ```

pub mod config;
pub mod course;
pub mod draws;
pub mod examples;
pub mod masked;
pub mod metrics;
pub mod replies;
pub mod report;
pub mod train;
pub mod vocabulary;
