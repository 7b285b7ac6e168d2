//! The nearest valid end of a reply that was cut off.
//!
//! ```text
//! {"name": "An        ->  "}
//! {"name": "An", "ag  ->  e": 0}
//! ```
//!
//! A walk over bytes: of those that the rule allows next, the one that most likely leads to an end, by
//! what bytes mean in JSON. In a grammar that is no JSON such a walk may go round for ever, so it is
//! tried again in other orders, the later ones drawn.

use llguidance::Matcher;

use crate::error::{Error, Result};

/// The longest end.
pub const END_BYTES_MAX: usize = 4096;
/// Bytes that are tried in all walks together.
const TRIALS_MAX: usize = 400_000;
/// Walks that are begun.
const WALKS_MAX: u64 = 24;

/// Outside of a string: closing brackets, then what begins the shortest values.
const STRUCTURE: &[u8] = br#"}]"0nftrueals[{,: 123456789.-"#;
/// Inside of a string: its end, then what strings are made of.
const STRING: &[u8] = br#""aA0 -."#;

/// Bytes after which `matcher` accepts; it stays where it is. `alphabet`: bytes and their tokens.
pub(crate) fn end(matcher: &Matcher, alphabet: &[(u8, u32)]) -> Result<Vec<u8>> {
    let mut trials = TRIALS_MAX;
    for walk in 0..WALKS_MAX {
        if let Some(end) = try_end(matcher.clone(), alphabet, walk, &mut trials) {
            return Ok(end);
        }
    }
    Err(Error::Limit(
        "the reply was cut off, and no valid end of it was found nearby; allow more tokens",
    ))
}

/// One walk; `walk` chooses the order of the bytes.
fn try_end(
    mut matcher: Matcher,
    alphabet: &[(u8, u32)],
    walk: u64,
    trials: &mut usize,
) -> Option<Vec<u8>> {
    let mut end = Vec::new();
    let mut random = walk;
    loop {
        if matcher.is_stopped() {
            return matcher.stop_reason().is_ok().then_some(end);
        }
        if matcher.is_accepting().ok()? {
            return Some(end);
        }
        if end.len() == END_BYTES_MAX {
            return None;
        }
        let mut allows = |byte: u8| {
            *trials = trials.checked_sub(1)?;
            let (_, token) = *alphabet.iter().find(|&&(other, _)| other == byte)?;
            let valid = matcher.validate_tokens(&[token]).ok()? == 1;
            valid.then_some((byte, token))
        };
        let any = 0..=u8::MAX;
        let next = if walk == 0 {
            // JSON allows a bracket and a letter in the same place only inside of a string.
            let inside = allows(b'}').is_some() && allows(b'a').is_some();
            let likely = if inside { STRING } else { STRUCTURE };
            let likely = likely.iter().copied();
            likely.chain(any).find_map(allows)
        } else {
            random = random
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(walk);
            let from = (random >> 56) as u8;
            any.map(|byte| byte.wrapping_add(from)).find_map(allows)
        };
        let (byte, token) = next?;
        matcher.consume_token(token).ok()?;
        end.push(byte);
    }
}
