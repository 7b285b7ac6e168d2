//! Prompt-lookup decoding: guesses of the next tokens, taken from the context
//! itself (Saxena, "Prompt Lookup Decoding", 2023; the verification is that of
//! Leviathan, Kalman and Matias, "Fast inference from transformers via
//! speculative decoding", 2023, for a draft without probabilities).
//!
//! ```text
//! context   … the cat sat on the mat …  … the cat sat ?
//!                 └── key ──┘ └ guess ┘       └ key ┘
//! ```
//!
//! The guess is evaluated together with the token before it, in one pass. Each
//! column's logits are those that it would have alone, bit for bit, and the
//! sampler is asked once for every token that is given out, in order: so a
//! reply is the same with guesses as without, also at a temperature. A guess
//! that was wrong costs time and nothing else.
//!
//! How much is guessed follows what held: all of it, and the next guess is twice
//! as long; a part, and it is as long as that; nothing, and none is made for a
//! while, twice as long after each such miss. So text that repeats itself is
//! soon guessed 15 tokens at a time, and in other text a few guesses are all
//! that is lost. `examples/guesses.rs` measures both.

use super::{EXTRAS, GenerateParams};
use crate::error::Result;
use crate::nn::memory;

/// The most tokens that are guessed at once.
pub const DRAFT_MAX: u32 = 15;
/// The longest key.
pub const LOOKUP_NGRAM_MAX: u32 = 8;

/// How many tokens the first guess has.
const FIRST: usize = 3;
/// After so many misses in a row the pause grows no more: 64 tokens.
const MISSES_MAX: u32 = 6;

/// The guesses of one reply.
#[derive(Debug)]
pub(super) struct Drafts {
    ngram: usize,
    max: usize,
    /// How many are guessed next: doubled while guesses hold, cut to what held when one did not.
    limit: usize,
    /// Guesses in a row of which nothing held.
    misses: u32,
    /// Passes until the next guess.
    pause: u32,
    /// The token to be evaluated, then the guess.
    pub(super) batch: Vec<u32>,
    /// Logits after each token of `batch`: (max + 1, n_vocab), or empty while guesses are off.
    pub(super) rows: Vec<f32>,
    /// Position of the first of `rows`.
    pub(super) first: usize,
}

impl Drafts {
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub(super) fn new(params: &GenerateParams, n_vocab: usize) -> Result<Self> {
        let max = if EXTRAS { params.draft_max as usize } else { 0 };
        let rows = if max == 0 { 0 } else { max + 1 };
        Ok(Self {
            ngram: params.lookup_ngram as usize,
            max,
            limit: max.min(FIRST),
            misses: 0,
            pause: 0,
            batch: Vec::with_capacity(max + 1),
            rows: memory::zeroed(memory::product(&[rows, n_vocab], "logits")?, "logits")?,
            first: 0,
        })
    }

    /// Fills `batch` with the last of `tokens` and a guess of what follows, at most `room` tokens.
    pub(super) fn guess(&mut self, tokens: &[u32], room: usize) {
        let len = self.limit.min(room);
        self.batch.clear();
        self.batch.extend(tokens.last());
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        let Some(key_start) = tokens.len().checked_sub(self.ngram).filter(|_| len > 0) else {
            return;
        };
        let (earlier, key) = (&tokens[..tokens.len() - 1], &tokens[key_start..]);
        if let Some(found) = earlier.windows(self.ngram).rposition(|w| w == key) {
            for from in (found + self.ngram..).take(len) {
                // A guess that reaches the end of the text goes on with itself: a loop is guessed as one.
                let token = match tokens.get(from) {
                    Some(&token) => token,
                    None => self.batch[from - tokens.len() + 1],
                };
                self.batch.push(token);
            }
        }
    }

    /// Learns that `held` of the tokens last guessed were right.
    pub(super) fn judge(&mut self, held: usize) {
        match self.batch.len().saturating_sub(1) {
            0 => {}
            _ if held == 0 => {
                self.misses = (self.misses + 1).min(MISSES_MAX);
                self.pause = 1 << self.misses;
                self.limit = self.max.min(FIRST);
            }
            guessed => {
                self.misses = 0;
                self.limit = if held == guessed {
                    (2 * self.limit).min(self.max)
                } else {
                    held
                };
            }
        }
        self.batch.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafts(ngram: u32, draft_max: u32) -> Drafts {
        let params = GenerateParams {
            lookup_ngram: ngram,
            draft_max,
            ..GenerateParams::default()
        };
        Drafts::new(&params, 1).unwrap()
    }

    #[test]
    fn the_latest_earlier_occurrence_is_continued() {
        let mut drafts = drafts(2, 3);
        drafts.guess(&[1, 2, 9, 9, 9, 1, 2, 3, 4, 5, 6, 1, 2], 10);
        assert_eq!(drafts.batch, [2, 3, 4, 5]);
        drafts.guess(&[1, 2, 3, 1, 2], 2);
        assert_eq!(drafts.batch, [2, 3, 1]);
        drafts.guess(&[1, 2, 3, 4], 3);
        assert_eq!(drafts.batch, [4], "nothing alike came before");
        drafts.guess(&[1], 3);
        assert_eq!(drafts.batch, [1]);
    }

    #[test]
    fn a_loop_is_guessed_as_one() {
        let mut drafts = drafts(2, 5);
        drafts.guess(&[7, 8, 7, 8, 7], 9);
        assert_eq!(drafts.batch, [7, 8, 7, 8]);
        drafts.judge(3);
        drafts.guess(&[4, 4, 4], 9);
        assert_eq!(drafts.batch, [4; 6]);
    }

    #[test]
    fn guesses_grow_while_they_hold_and_cease_while_they_do_not() {
        let mut drafts = drafts(1, 10);
        let mut lengths = Vec::new();
        let mut guess = |held: &[usize]| {
            for &held in held {
                drafts.guess(&[1, 1], 20);
                lengths.push(drafts.batch.len() - 1);
                drafts.judge(held);
            }
        };
        guess(&[3, 6, 4, 2, 0]); // the last misses
        guess(&[0; 2]); // a pause
        guess(&[0]); // and misses again
        guess(&[0; 4]); // a longer pause
        guess(&[3, 1]);
        assert_eq!(lengths, [3, 6, 10, 4, 2, 0, 0, 3, 0, 0, 0, 0, 3, 6]);
    }
}
