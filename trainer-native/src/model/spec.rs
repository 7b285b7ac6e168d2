//! The model's shape, as GGUF names it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::kernels::{attention::Heads, block, rope};

/// Shape of a llama model; the defaults are the pocket model's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSpec {
    /// Model width `C`.
    pub embedding_length: usize,
    /// Number of decoder blocks.
    pub block_count: usize,
    /// Query heads `H`.
    pub head_count: usize,
    /// Key/value heads `K`.
    pub head_count_kv: usize,
    /// Feed-forward width `F`.
    pub feed_forward_length: usize,
    /// Vocabulary `V`.
    pub vocab_size: usize,
    /// Longest context.
    pub context_length: usize,
    /// RoPE's base.
    pub rope_freq_base: f64,
    /// RMSNorm's epsilon.
    pub rms_eps: f32,
}

impl Default for ModelSpec {
    fn default() -> Self {
        Self {
            embedding_length: 256,
            block_count: 12,
            head_count: 8,
            head_count_kv: 4,
            feed_forward_length: 768,
            vocab_size: 8192,
            context_length: 1024,
            rope_freq_base: 10_000.0,
            rms_eps: 1e-5,
        }
    }
}

impl ModelSpec {
    /// Head width `D`.
    pub fn head_width(&self) -> usize {
        self.embedding_length / self.head_count
    }

    /// Says what is wrong with a shape that cannot be built.
    pub fn validate(&self) -> anyhow::Result<()> {
        let counts = [
            ("embedding_length", self.embedding_length),
            ("block_count", self.block_count),
            ("head_count", self.head_count),
            ("head_count_kv", self.head_count_kv),
            ("feed_forward_length", self.feed_forward_length),
            ("vocab_size", self.vocab_size),
            ("context_length", self.context_length),
        ];
        for (name, value) in counts {
            anyhow::ensure!(value > 0, "{name} is 0; it must be positive");
        }
        anyhow::ensure!(
            self.embedding_length.is_multiple_of(2 * self.head_count),
            "embedding_length {} must be a multiple of twice head_count {}",
            self.embedding_length,
            self.head_count
        );
        anyhow::ensure!(
            self.head_count.is_multiple_of(self.head_count_kv),
            "head_count {} must be a multiple of head_count_kv {}",
            self.head_count,
            self.head_count_kv
        );
        Ok(())
    }

    /// The block's shape with rotation angles for `positions` positions.
    pub fn block_spec(&self, positions: usize) -> Arc<block::Spec> {
        let width = self.head_width();
        Arc::new(block::Spec {
            width: self.embedding_length,
            ff: self.feed_forward_length,
            heads: Heads {
                query: self.head_count,
                kv: self.head_count_kv,
                width,
            },
            rms_eps: self.rms_eps,
            rope: Arc::new(rope::Table::new(positions, width, self.rope_freq_base)),
        })
    }

    /// Number of weights, the tied embedding counted once.
    pub fn parameter_count(&self) -> usize {
        let spec = self.block_spec(0);
        let block: usize = spec
            .linear_shapes()
            .iter()
            .map(|(o, i)| o * i)
            .sum::<usize>()
            + 2 * self.embedding_length;
        self.vocab_size * self.embedding_length + self.block_count * block + self.embedding_length
    }
}
