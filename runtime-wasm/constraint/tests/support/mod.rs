//! A vocabulary of bytes and some longer tokens, and a model that draws among what is allowed.

#![allow(dead_code, reason = "each test uses what it needs")]

use meetara_constraint::{Constraint, Rule, Token, Vocabulary};

/// Longer tokens, some of which cross the borders of JSON's lexemes.
const LONGER: [&str; 12] = [
    "{\"", "\": ", "\", \"", "\"}", "\"]", "true", "null", "name", "10", "é", "😀", "}}",
];
/// The token that ends a reply.
pub const END: u32 = 256 + LONGER.len() as u32;

pub fn vocabulary() -> Vocabulary {
    let bytes: Vec<[u8; 1]> = (0..=u8::MAX).map(|byte| [byte]).collect();
    let bytes = bytes.iter().map(|byte| Token::Bytes(byte));
    let longer = LONGER.iter().map(|text| Token::Bytes(text.as_bytes()));
    let end = std::iter::once(Token::End(b"<|end|>"));
    let tokens: Vec<Token<'_>> = bytes.chain(longer).chain(end).collect();
    Vocabulary::new(&tokens).unwrap()
}

fn bytes_of(id: u32) -> Vec<u8> {
    match id.checked_sub(256) {
        None => vec![id as u8],
        Some(longer) => LONGER[longer as usize].as_bytes().to_vec(),
    }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// Draws at most `tokens_max` tokens, all allowed ones equally likely, then closes. The reply, and
/// whether it had to be closed.
pub fn draw(
    vocabulary: &Vocabulary,
    rule: Rule<'_>,
    tokens_max: usize,
    seed: u64,
) -> (String, bool) {
    let mut constraint = Constraint::new(vocabulary, rule).unwrap();
    let mut random = Random(seed);
    let mut reply = Vec::new();
    for _ in 0..tokens_max {
        let mask = constraint.mask().unwrap();
        let allowed = |id: &u32| mask[*id as usize / 32] >> (id % 32) & 1 == 1;
        let ids: Vec<u32> = (0..=END).filter(allowed).collect();
        let id = ids[random.below(ids.len())];
        if id == END {
            return (String::from_utf8(reply).unwrap(), false);
        }
        constraint.accept(id).unwrap();
        reply.extend(bytes_of(id));
        if constraint.is_finished() {
            return (String::from_utf8(reply).unwrap(), false);
        }
    }
    let end = constraint.close().unwrap();
    reply.extend(end);
    (String::from_utf8(reply).unwrap(), true)
}
