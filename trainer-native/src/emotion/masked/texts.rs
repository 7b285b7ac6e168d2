//! Plain texts as pieces of ids, and the tokens of them that are left out.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::config::MaskedConfig;
use crate::data::reader::Reader;
use crate::model::encoder::Texts;

/// Of the tokens to be guessed, those that become `[MASK]`, and those that become any token.
const REPLACED: (f64, f64) = (0.8, 0.1);

/// The texts of all files as ids, cut into pieces with a marker at both ends, in a seeded order. A piece
/// without a token that may be guessed is left out.
///
/// # Errors
/// When a file cannot be read, or all are without words of the vocabulary.
pub fn pieces(
    config: &MaskedConfig,
    encoder: &meetara_engine::encoder::Encoder,
    vocabulary: &Vocabulary,
) -> Result<Vec<Vec<u32>>> {
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut all = Vec::new();
    for dataset in &config.datasets {
        let mut found = Vec::new();
        for example in Reader::open(&dataset.path)? {
            for text in example?.texts() {
                let ids = encoder.tokenize(text)?;
                let [first, inner @ .., last] = ids.as_slice() else {
                    continue;
                };
                let pieces = inner.chunks(config.max_tokens - 2);
                for piece in pieces.filter(|piece| vocabulary.knows_any(piece)) {
                    found.push([&[*first], piece, &[*last]].concat());
                }
            }
        }
        found.shuffle(&mut rng);
        if dataset.limit > 0 {
            found.truncate(dataset.limit);
        }
        all.extend(found);
    }
    ensure!(
        !all.is_empty(),
        "the [[datasets]] hold no text in the base's vocabulary; there is nothing to learn from"
    );
    all.shuffle(&mut rng);
    Ok(all)
}

/// Which ids may be guessed and put in the place of others, and which stands for what is left out.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    mask: u32,
    markers: HashSet<u32>,
    len: u32,
}

impl Vocabulary {
    /// Of the tokens in order of their ids.
    ///
    /// # Errors
    /// When `[MASK]` is not among them, or nothing but markers.
    pub fn new(tokens: &[String]) -> Result<Self> {
        let ids = || (0u32..).zip(tokens);
        let mask = ids().find(|(_, token)| *token == "[MASK]");
        let (mask, _) = mask.context("the base's vocabulary has no token [MASK]")?;
        let is_marker =
            |token: &str| token.len() > 2 && token.starts_with('[') && token.ends_with(']');
        let markers: HashSet<u32> = ids()
            .filter(|(_, token)| is_marker(token))
            .map(|(id, _)| id)
            .collect();
        ensure!(
            markers.len() < tokens.len(),
            "the base's vocabulary has only markers"
        );
        Ok(Self {
            mask,
            markers,
            len: tokens.len() as u32,
        })
    }

    /// How many tokens there are.
    pub fn token_count(&self) -> usize {
        self.len as usize
    }

    fn knows_any(&self, ids: &[u32]) -> bool {
        ids.iter().any(|id| !self.markers.contains(id))
    }

    fn any(&self, rng: &mut impl Rng) -> u32 {
        loop {
            let id = rng.random_range(0..self.len);
            if !self.markers.contains(&id) {
                return id;
            }
        }
    }
}

/// Texts with tokens left out.
#[derive(Clone, Debug, Default)]
pub struct MaskedTexts {
    /// The texts as the body sees them.
    pub texts: Texts,
    /// Rows whose token is to be guessed, `[K]`.
    pub rows: Vec<i32>,
    /// What stood there, `[K]`.
    pub wanted: Vec<i32>,
}

/// Leaves `share` of the tokens out, and one at least where a text has any.
pub fn mask(batch: &[&Vec<u32>], vocabulary: &Vocabulary, share: f64, seed: u64) -> MaskedTexts {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut masked = MaskedTexts::default();
    for ids in batch {
        let first = masked.texts.ids.len();
        let open: Vec<usize> = (0..ids.len())
            .filter(|at| !vocabulary.markers.contains(&ids[*at]))
            .collect();
        let mut chosen: Vec<usize> = open
            .iter()
            .copied()
            .filter(|_| rng.random_bool(share))
            .collect();
        if chosen.is_empty() && !open.is_empty() {
            chosen.push(open[rng.random_range(0..open.len())]);
        }
        masked.texts.push(ids);
        for at in chosen {
            let (to_mask, to_any) = REPLACED;
            let drawn: f64 = rng.random();
            let seen = &mut masked.texts.ids[first + at];
            if drawn < to_mask {
                *seen = vocabulary.mask;
            } else if drawn < to_mask + to_any {
                *seen = vocabulary.any(&mut rng);
            }
            masked.rows.push((first + at) as i32);
            masked.wanted.push(ids[at] as i32);
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        let markers = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        let words = (0..95).map(|i| format!("▁w{i}"));
        let tokens: Vec<String> = markers.map(String::from).into_iter().chain(words).collect();
        Vocabulary::new(&tokens).unwrap()
    }

    #[test]
    fn fifteen_of_a_hundred_tokens_are_left_out_and_never_a_marker() {
        let vocabulary = vocabulary();
        let text: Vec<u32> = [2]
            .into_iter()
            .chain((5..100).cycle().take(62))
            .chain([3])
            .collect();
        let batch = vec![&text; 2000];
        let masked = mask(&batch, &vocabulary, 0.15, 1);
        let n = masked.rows.len() as f64;
        assert!((n / (2000.0 * 62.0) - 0.15).abs() < 0.005, "{n}");
        let (mut masks, mut kept) = (0.0, 0.0);
        for (row, wanted) in masked.rows.iter().zip(&masked.wanted) {
            let seen = masked.texts.ids[*row as usize];
            assert_eq!(*wanted as u32, text[*row as usize % 64]);
            assert!(!vocabulary.markers.contains(&(*wanted as u32)));
            assert!(seen == 4 || !vocabulary.markers.contains(&seen));
            masks += f64::from(u8::from(seen == 4));
            kept += f64::from(u8::from(seen == *wanted as u32));
        }
        assert!((masks / n - 0.8).abs() < 0.01, "{masks} of {n}");
        assert!((kept / n - 0.1).abs() < 0.01, "{kept} of {n}");
        let changed = (0..masked.texts.ids.len())
            .filter(|at| masked.texts.ids[*at] != text[at % 64])
            .count() as f64;
        assert_eq!(changed, n - kept, "only what is to be guessed is changed");
    }

    #[test]
    fn a_short_text_has_a_token_left_out_and_one_of_markers_none() {
        let vocabulary = vocabulary();
        let (short, bare) = (vec![2, 7, 3], vec![2, 1, 3]);
        let masked = mask(&[&short, &bare], &vocabulary, 0.001, 1);
        assert_eq!((masked.rows, masked.wanted), (vec![1], vec![7]));
        assert_eq!(masked.texts.lengths, [3, 3]);
        assert!(Vocabulary::new(&["a".to_owned()]).is_err());
        assert!(Vocabulary::new(&["[MASK]".to_owned()]).is_err());
    }
}
