//! How somebody feels, from what an encoder's head says of each turn of theirs.
//!
//! [`EmotionState`] follows one person through one conversation. Whoever holds it decides whether to
//! feed it at all: without a call nothing is read, and [`EmotionState::clear`] forgets everything.

mod reply;
mod state;

pub use reply::{Empathy, system_line};
pub use state::{Emotion, EmotionState, Feeling, Trajectory};
