//! Files to batches in one call, with what was read counted for each source.

use anyhow::Result;
use serde::Serialize;

use super::encode::{self, ChatFormat, Class, ExampleEncoder, Pieces, TextEncoder, Weights};
use super::mix::{self, Source};
use super::pack::Packed;

/// How data is prepared; the tokenizer comes apart.
#[derive(Clone, Debug, PartialEq)]
pub struct PrepareConfig {
    /// The files.
    pub sources: Vec<Source>,
    /// T, the inputs of a row.
    pub seq_len: usize,
    /// Share of examples kept for measuring.
    pub holdout_permille: u32,
    /// Loss weights for training; measuring counts answers and texts only.
    pub weights: Weights,
    /// Chooses examples, rows and their order.
    pub seed: u64,
    /// Threads for encoding.
    pub n_threads: usize,
}

impl PrepareConfig {
    /// T 1024, 10 permille held out, prompts at half weight, seed 0, one thread.
    pub fn new(sources: Vec<Source>) -> Self {
        Self {
            sources,
            seq_len: 1024,
            holdout_permille: 10,
            weights: Weights::default(),
            seed: 0,
            n_threads: 1,
        }
    }
}

/// What one source gives.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceStats {
    /// The file's folder and name.
    pub name: String,
    /// Different training examples.
    pub train_examples: usize,
    /// Training examples dropped because they give a held-out one away.
    pub dropped_examples: usize,
    /// Held-out examples.
    pub held_out_examples: usize,
    /// Bytes of text in the training examples, each counted once.
    pub train_bytes: u64,
    /// Tokens of the training pieces, markers included, each counted once.
    pub train_tokens: u64,
    /// Tokens in one epoch of the mix.
    pub epoch_tokens: u64,
    /// Of these, tokens learnt with weight 1.
    pub epoch_full_tokens: u64,
}

/// Batches to train on and to measure with.
pub struct Prepared {
    /// Training rows.
    pub train: Packed,
    /// Held-out rows; `None` when nothing was held out.
    pub held_out: Option<Packed>,
    /// One entry for each source, in the mix's order.
    pub stats: Vec<SourceStats>,
}

/// Reads, splits, encodes and packs; `format.start`'s last id is the padding.
pub fn prepare<E: TextEncoder>(
    config: &PrepareConfig,
    encoder: E,
    format: ChatFormat,
) -> Result<Prepared> {
    let loaded = mix::load(&config.sources, config.holdout_permille, config.seed)?;
    let pad = format.start.last().copied().unwrap_or_default();
    let encoder = ExampleEncoder::new(encoder, format, config.seq_len)?;
    let mut train = Pieces::default();
    let mut held_out = Pieces::default();
    let mut stats = Vec::with_capacity(loaded.len());
    for (source, loaded) in config.sources.iter().zip(loaded) {
        let pieces = encode::encode_all(&encoder, &loaded.train, &loaded.uses, config.n_threads)?;
        stats.push(SourceStats {
            name: source.name(),
            train_examples: loaded.train.len(),
            dropped_examples: loaded.dropped,
            held_out_examples: loaded.held_out.len(),
            train_bytes: loaded.train.iter().map(|e| e.text_bytes() as u64).sum(),
            train_tokens: pieces.ids.len() as u64,
            epoch_tokens: pieces.tokens_per_epoch(),
            epoch_full_tokens: full_tokens(&pieces),
        });
        train.append(pieces);
        let once = vec![1; loaded.held_out.len()];
        let pieces = encode::encode_all(&encoder, &loaded.held_out, &once, config.n_threads)?;
        held_out.append(pieces);
    }
    let held_out = if held_out.is_empty() {
        None
    } else {
        let weights = Weights::ANSWERS;
        Some(Packed::new(
            held_out,
            config.seq_len,
            pad,
            weights,
            config.seed,
        )?)
    };
    Ok(Prepared {
        train: Packed::new(train, config.seq_len, pad, config.weights, config.seed)?,
        held_out,
        stats,
    })
}

fn full_tokens(pieces: &Pieces) -> u64 {
    let full = |i| {
        let classes = &pieces.classes[pieces.range(i)];
        let n = classes
            .iter()
            .filter(|&&class| class == Class::Full)
            .count();
        n as u64 * u64::from(pieces.uses[i])
    };
    (0..pieces.len()).map(full).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{self, Encoder};

    #[test]
    fn files_become_batches() {
        let folder = std::env::temp_dir().join(format!("meetara-prep-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("chat.jsonl");
        let row = |i| {
            format!(
                "{{\"prompt\":\"what is {i} and {i}\",\"completion\":\"it is {}\"}}\n",
                i * 2
            )
        };
        std::fs::write(&path, (0..400).map(row).collect::<String>()).unwrap();
        let mut config = PrepareConfig::new(vec![Source {
            repeat: 2.0,
            ..Source::new(&path)
        }]);
        config.seq_len = 64;
        config.holdout_permille = 100;

        let loaded = mix::load(&config.sources, 100, 0).unwrap();
        let specials = tokenizer::special_tokens();
        let vocab = tokenizer::train(mix::tokenizer_texts(&loaded), 280, &specials).unwrap();
        let encoder = Encoder::new(&vocab).unwrap();
        let prepare = |config: &PrepareConfig| {
            prepare(config, encoder.clone(), ChatFormat::pocket()).unwrap()
        };
        let prepared = prepare(&config);
        config.n_threads = 3;
        let again = prepare(&config);
        std::fs::remove_dir_all(&folder).unwrap();

        let stats = &prepared.stats[0];
        assert!(stats.name.ends_with("/chat"), "{}", stats.name);
        assert_eq!(
            stats.train_examples + stats.held_out_examples + stats.dropped_examples,
            400
        );
        assert_eq!(stats.epoch_tokens, 2 * stats.train_tokens);
        assert!(stats.held_out_examples > 20);
        assert_eq!(prepared.train.batch(9, 4), again.train.batch(9, 4));

        // Measuring weighs answers with their end, and nothing else.
        let held_out = prepared.held_out.unwrap();
        let rows = held_out.rows(0, held_out.n_rows());
        let weighted = rows.weights.iter().filter(|&&w| w > 0.0).count() as u64;
        assert_eq!(weighted, full_tokens(held_out.pieces()));
        let ends = rows.targets.iter().zip(&rows.weights);
        let ends = ends
            .filter(|&(&id, &w)| id == tokenizer::END && w == 1.0)
            .count();
        assert_eq!(ends, stats.held_out_examples);
    }
}
