//! The training loops: pre-training of a whole model, and low-rank adapters over a frozen one.

pub mod checkpoint;
pub mod optimiser;
pub mod pretrain;
pub mod progress;
pub mod schedule;
