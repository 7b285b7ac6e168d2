//! A JSON schema or a grammar, and a model that takes what comes first.
//!
//! ```text
//! s schema      l grammar
//! ```
//!
//! A hostile rule may be deep, large, ambiguous or impossible: it is refused, or masks come soon; and the
//! end of a reply, where one is found, is allowed byte by byte.

use meetara_constraint::{Constraint, Rule, Token, Vocabulary};

/// The token that ends a reply.
const END: u32 = 256;
/// Tokens that are taken.
const TOKENS: usize = 12;

/// Feeds `data`.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let rule = match text.split_at_checked(1) {
        Some(("s", schema)) => Rule::JsonSchema(schema),
        Some(("l", grammar)) => Rule::Lark(grammar),
        _ => return,
    };
    let bytes: Vec<[u8; 1]> = (0..=u8::MAX).map(|byte| [byte]).collect();
    let mut tokens: Vec<Token<'_>> = bytes.iter().map(|byte| Token::Bytes(byte)).collect();
    tokens.push(Token::End(b"<|end|>"));
    let vocabulary = Vocabulary::new(&tokens).expect("a vocabulary of bytes");
    let Ok(mut constraint) = Constraint::new(&vocabulary, rule) else {
        return;
    };
    for _ in 0..TOKENS {
        let Ok(mask) = constraint.mask() else {
            return;
        };
        let allowed = |id: &u32| mask[*id as usize / 32] >> (id % 32) & 1 == 1;
        let first = (0..=END).find(allowed).expect("something may come next");
        if first == END || constraint.accept(first).is_err() || constraint.is_finished() {
            break;
        }
    }
    let Ok(end) = constraint.close() else { return };
    for byte in end {
        let Ok(mask) = constraint.mask() else { return };
        assert!(mask[usize::from(byte) / 32] >> (byte % 32) & 1 == 1);
        if constraint.accept(byte.into()).is_err() {
            return;
        }
    }
    let Ok(mask) = constraint.mask() else { return };
    assert!(mask[8] & 1 == 1, "the reply may end where it was closed");
}
