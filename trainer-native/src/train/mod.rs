//! The training loops: one driver, and what is learnt by it (a whole model, or an adapter).

pub mod checkpoint;
pub mod driver;
pub mod lora;
pub mod optimiser;
pub mod pretrain;
pub mod progress;
pub mod schedule;
