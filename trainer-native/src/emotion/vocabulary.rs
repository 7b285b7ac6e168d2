//! Which tokens of a base's WordPiece vocabulary are worth keeping.
//!
//! Half of a small encoder is its embeddings, and most of those rows belong to words that its texts
//! never hold. A word whose token is gone is spelt with shorter ones, so every single character that
//! the texts use stays.

use std::cmp::Reverse;

/// Ids of the `size` tokens to keep, in ascending order; all of them when `size` is 0.
///
/// `counts` `[V]` says how often the training texts use each token. Special tokens (`[UNK]` and its
/// kind, but not the unused ones) and printable ASCII characters, at a word's start (`▁a`) and inside,
/// always stay.
pub fn keep(tokens: &[String], counts: &[u64], size: usize) -> Vec<u32> {
    if size == 0 || size >= tokens.len() {
        return (0..tokens.len() as u32).collect();
    }
    let always = |token: &str| {
        let special = token.starts_with('[') && token.ends_with(']') && token.len() > 2;
        let inner = token.strip_prefix('\u{2581}').unwrap_or(token);
        (special && !token.starts_with("[unused")) || (inner.len() == 1 && inner.is_ascii())
    };
    let mut order: Vec<u32> = (0..tokens.len() as u32).collect();
    order.sort_by_key(|&id| {
        let at = id as usize;
        (!always(&tokens[at]), Reverse(counts[at]), id)
    });
    order.truncate(size);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    #[test]
    fn special_tokens_and_letters_stay_and_the_rest_is_chosen_by_use() {
        let tokens: Vec<String> = [
            "[PAD]",
            "[unused0]",
            "[UNK]",
            "▁a",
            "a",
            "▁rare",
            "▁often",
            "ly",
        ]
        .map(String::from)
        .to_vec();
        let counts = [0, 0, 0, 0, 0, 1, 9, 4];
        assert_eq!(super::keep(&tokens, &counts, 6), [0, 2, 3, 4, 6, 7]);
        assert_eq!(super::keep(&tokens, &counts, 0).len(), 8);
    }
}
