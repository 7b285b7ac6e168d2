//! How well a model predicts text: bits per byte.
//!
//! A chat counts the assistant's words alone, each given all that was said
//! before, in the model's own template. Markers and the other turns are read,
//! not counted, and bytes are those of UTF-8, so that models with different
//! tokenizers can be compared.

use crate::error::{Error, Result};
use crate::generate::prompt::{append, first_token, hide_markers};
use crate::generate::session::Session;
use crate::template::Message;
use crate::tokenizer::Special;

/// Information in a text, and the text's length.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bits {
    /// Sum of -log2 p over the tokens counted.
    pub bits: f64,
    /// UTF-8 bytes of the text that those tokens stand for.
    pub bytes: u64,
    /// How many tokens were counted.
    pub tokens: u64,
}

impl Bits {
    /// Bits per byte; NaN without bytes.
    #[must_use]
    pub fn per_byte(&self) -> f64 {
        self.bits / self.bytes as f64
    }
}

impl std::ops::AddAssign for Bits {
    fn add_assign(&mut self, other: Self) {
        self.bits += other.bits;
        self.bytes += other.bytes;
        self.tokens += other.tokens;
    }
}

/// Bits of the assistant's turns in `messages`.
///
/// A dialogue longer than the context is read in windows: each next one
/// begins with the last half of the one before as history.
///
/// # Errors
/// [`ErrorKind::Template`](crate::ErrorKind::Template) when the model has no template, or one that does
/// not render a longer dialogue as a continuation of a shorter one, and the
/// errors of [`Session::score`].
pub fn assistant_bits(session: &mut Session, messages: &[Message]) -> Result<Bits> {
    turn_bits(session, messages, |_| true)
}

/// Bits of the last message alone, which is the assistant's, given all that was said before.
///
/// # Errors
/// Those of [`assistant_bits`].
pub fn reply_bits(session: &mut Session, messages: &[Message]) -> Result<Bits> {
    turn_bits(session, messages, |turn| turn + 1 == messages.len())
}

/// Bits of the assistant's turns that `counts`, by their index.
fn turn_bits(
    session: &mut Session,
    messages: &[Message],
    counts: impl Fn(usize) -> bool,
) -> Result<Bits> {
    let model = session.model().clone();
    let template = model.chat_template().ok_or_else(|| {
        Error::template("the model has no chat template, so a chat cannot be scored")
    })?;
    let tokenizer = model.tokenizer();
    let (rendered, hidden) = hide_markers(tokenizer, messages)?;
    let mut tokens = first_token(tokenizer);
    let mut counted = vec![false; tokens.len()];
    let mut bytes = 0;
    // The rendered text up to the end of the assistant's turn before.
    let mut done = String::new();
    for (turn, message) in messages.iter().enumerate() {
        if message.role != "assistant" {
            continue;
        }
        let changes = || {
            Error::template(format!(
                "the chat template renders message {turn} differently when more is said, so it cannot be scored"
            ))
        };
        let before = template.render(&rendered[..turn], true)?;
        let after = template.render(&rendered[..=turn], false)?;
        let between = before.strip_prefix(&done).ok_or_else(changes)?;
        let words = after.strip_prefix(&before).ok_or_else(changes)?;
        // Some templates trim what is said.
        let whole = rendered[turn].content.as_str();
        let (whole, content) = if words.starts_with(whole) {
            (whole, message.content.as_str())
        } else if words.starts_with(whole.trim()) {
            (whole.trim(), message.content.trim())
        } else {
            return Err(changes());
        };
        append(tokenizer, &mut tokens, between, &hidden)?;
        counted.resize(tokens.len(), false);
        tokens.extend(tokenizer.encode(content, Special::Text)?);
        counted.resize(tokens.len(), counts(turn));
        if counts(turn) {
            bytes += content.len() as u64;
        }
        done = before + whole;
    }
    let mut bits = score(session, &tokens, &counted)?;
    bits.bytes = bytes;
    Ok(bits)
}

/// Bits of `text` by itself, markers in it read as markers. Without a
/// beginning-of-text token, the first token is read and not counted, although
/// its bytes are.
///
/// # Errors
/// Those of [`Session::score`].
pub fn text_bits(session: &mut Session, text: &str) -> Result<Bits> {
    let model = session.model().clone();
    let mut tokens = first_token(model.tokenizer());
    let mut counted = vec![false; tokens.len()];
    append(model.tokenizer(), &mut tokens, text, &[])?;
    counted.resize(tokens.len(), true);
    let mut bits = score(session, &tokens, &counted)?;
    bits.bytes = text.len() as u64;
    Ok(bits)
}

/// Sum of -log2 p over the tokens that are `counted`; `bytes` is left at 0.
fn score(session: &mut Session, tokens: &[u32], counted: &[bool]) -> Result<Bits> {
    let softmax = session.model().kernels().softmax;
    let window = session.context_max() as usize;
    if window < 2 {
        return Err(Error::context_overflow(
            "a context of one token has no room for a token and the one before; use a longer one",
        ));
    }
    let mut bits = Bits::default();
    let mut row = Vec::new();
    // Tokens before `scored` have been counted; the window begins at `start`.
    let (mut start, mut scored) = (0, 1);
    while scored < tokens.len() {
        let end = tokens.len().min(start + window);
        let inside = scored..end;
        if counted[inside.clone()].contains(&true) {
            let wanted = |i: usize| inside.contains(&(start + i + 1)) && counted[start + i + 1];
            session.score_where(&tokens[start..end], wanted, |i, logits| {
                let target = logits[tokens[start + i + 1] as usize];
                bits.bits -= log2_probability(softmax, logits, target, &mut row);
                bits.tokens += 1;
            })?;
        }
        scored = end;
        start = end.saturating_sub(window / 2);
    }
    Ok(bits)
}

/// log2 of the probability of a token whose logit is `target`.
///
/// The likeliest token's probability, which never underflows, gives the
/// logarithm of the sum: ln sum = max - ln p(max).
fn log2_probability(
    softmax: fn(&mut [f32]),
    logits: &[f32],
    target: f32,
    row: &mut Vec<f32>,
) -> f64 {
    row.clear();
    row.extend_from_slice(logits);
    softmax(row);
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let largest = row.iter().copied().fold(0.0, f32::max);
    let ln = f64::from(target) - f64::from(max) + libm::log(f64::from(largest));
    ln * std::f64::consts::LOG2_E
}
