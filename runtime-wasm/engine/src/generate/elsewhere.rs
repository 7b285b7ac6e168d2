//! Logits that are computed elsewhere, on a GPU say: the session keeps tokenizing, sampling and
//! stopping.
//!
//! ```text
//! wanted  -> None       call step: it evaluates nothing
//!         -> Some       evaluate these tokens, then provide the logits after the last,
//!                       or call step, which evaluates them here
//! ```
//!
//! Either may follow the other at any time. Keys and values of tokens that were evaluated elsewhere
//! are not in the session's own cache; the next `step` that needs them makes them first.

use super::Step;
use super::session::Session;
use crate::error::{Error, Result};
use crate::nn::COLUMNS_MAX;

/// What the next step evaluates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// All tokens before, by position.
    pub context: &'a [u32],
    /// The tokens to evaluate: at least one, at most [`COLUMNS_MAX`].
    pub next: &'a [u32],
    /// Whether the logits after the last of them are needed: not while more of the prompt follows.
    pub logits: bool,
}

impl Session {
    /// The tokens that the next [`Self::step`] would evaluate; `None` when it would evaluate none,
    /// or must do it itself.
    #[must_use]
    pub fn wanted(&self) -> Option<Wanted<'_>> {
        let reply = self.reply.as_ref()?;
        // Guesses need the logits of several columns, and adapters other weights: both stay here.
        if self.adapted || !reply.drafts.rows.is_empty() {
            return None;
        }
        let context = self.tokens.as_slice();
        let left = reply.prompt.get(context.len()..).unwrap_or(&[]);
        let next = match &reply.pending {
            _ if !left.is_empty() => &left[..left.len().min(COLUMNS_MAX)],
            Some(_) if reply.usage.completion_tokens >= reply.tokens_max => return None,
            Some(_) if context.len() >= self.context_max() as usize => return None,
            Some(id) => std::slice::from_ref(id),
            None => return None,
        };
        Some(Wanted {
            context,
            next,
            logits: left.len() <= COLUMNS_MAX,
        })
    }

    /// Goes on as [`Self::step`] does, with `logits` (n_vocab) after the last of the tokens that
    /// [`Self::wanted`] gave; with none at all where it said that they are not needed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) when nothing was wanted, or for
    /// another number of logits; else those of [`Self::step`].
    pub fn provide(&mut self, logits: &[f32]) -> Result<Step> {
        let Some(wanted) = self.wanted() else {
            return Err(Error::invalid_request(
                "no logits are wanted now; ask `wanted` before each call",
            ));
        };
        let needed = wanted.logits || !logits.is_empty();
        if needed && logits.len() != self.logits.len() {
            return Err(Error::invalid_request(format!(
                "{} logits were provided, the vocabulary has {}",
                logits.len(),
                self.logits.len()
            )));
        }
        let next = wanted.next.to_vec();
        if needed {
            self.logits.copy_from_slice(logits);
        }
        self.own = self.own.min(self.tokens.len());
        self.tokens.extend(next);
        let done = self.tokens.len();
        match &mut self.reply {
            Some(reply) if reply.pending.is_none() => Ok(Step::Prefill {
                done: done as u32,
                total: reply.prompt.len() as u32,
            }),
            Some(reply) => {
                reply.pending = None;
                reply.at += 1;
                self.step()
            }
            None => self.step(),
        }
    }

    /// Makes keys and values of up to [`COLUMNS_MAX`] tokens that were evaluated elsewhere; `false`
    /// when there are none to make.
    pub(super) fn catch_up(&mut self) -> Result<bool> {
        self.own = self.own.min(self.tokens.len());
        let end = self.tokens.len().min(self.own + COLUMNS_MAX);
        if self.own == end {
            return Ok(false);
        }
        self.evaluate(self.own, end, 0)?;
        Ok(true)
    }
}
