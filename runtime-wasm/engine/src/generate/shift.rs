//! Context shift: which turns are dropped when a conversation outgrows the context.
//!
//! ```text
//! system  user 1  assistant 1  user 2  assistant 2  user 3  reply so far | full
//! system                                            user 3  reply so far   ...
//! ```
//!
//! What stays is evaluated again, at its new place. The other way, to rotate
//! the cached keys to their new positions, is quicker, but it is not the same:
//! the keys are rounded to halves, and, worse, what a cached key or value says
//! was computed with the dropped turns in view. Evaluated again, a reply goes
//! on exactly as if the dropped turns had never been sent. The system prompt,
//! which comes first, is found in the cache.
//!
//! To shift seldom, turns are dropped until a quarter of the context is free.

use super::prompt;
use crate::error::Result;
use crate::model::Model;
use crate::template::Message;

/// The conversation that a reply answers, kept for shortening.
#[derive(Debug, Default)]
pub(super) struct Turns {
    messages: Vec<Message>,
    /// Messages dropped so far.
    pub(super) dropped: u32,
}

impl Turns {
    pub(super) fn new(messages: &[Message]) -> Self {
        Self {
            messages: messages.to_vec(),
            dropped: 0,
        }
    }

    /// Drops the oldest turns until the prompt and `reply_len` tokens fill at most three quarters of
    /// `context_max`, or only the last turn is left. Gives the tokens of the shorter prompt; `None`
    /// when nothing could be dropped.
    ///
    /// # Errors
    /// Those of the template.
    pub(super) fn shorten(
        &mut self,
        model: &Model,
        reply_len: usize,
        context_max: usize,
    ) -> Result<Option<Vec<u32>>> {
        let mut prompt = None;
        while prompt
            .as_ref()
            .is_none_or(|p: &Vec<u32>| p.len() + reply_len > context_max - context_max / 4)
            && self.drop_turn()
        {
            prompt = Some(prompt::chat_tokens(model, &self.messages)?);
        }
        Ok(prompt)
    }

    /// Drops the oldest user's message after the system prompt with all that was said until the
    /// next one, since many templates want the roles in turn.
    fn drop_turn(&mut self) -> bool {
        let of_system = |m: &Message| m.role == "system" || m.role == "developer";
        let kept = self.messages.iter().take_while(|m| of_system(m)).count();
        let mut later = self.messages.iter().enumerate().skip(kept + 1);
        let Some((next, _)) = later.find(|(_, m)| m.role == "user") else {
            return false;
        };
        self.messages.drain(kept..next);
        self.dropped += (next - kept) as u32;
        true
    }
}
