//! What a step draws by lot: its texts, and what dropout keeps. Each draw comes from the run's seed and the
//! step's number alone, so that a run which is gone on with draws the same.

use std::sync::Arc;

use rand::seq::SliceRandom;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::kernels::encoder_block::Dropout;

/// The texts of step `step`: the epochs, each shuffled by its own seed, cut into batches of `size`.
pub fn batch<T>(train: &[T], size: usize, seed: u64, step: u64) -> Vec<&T> {
    let n = train.len() as u64;
    let first = step * size as u64;
    let mut batch = Vec::with_capacity(size);
    let mut order: (u64, Vec<u32>) = (u64::MAX, Vec::new());
    for at in first..first + size as u64 {
        let epoch = at / n;
        if order.0 != epoch {
            let mut ids: Vec<u32> = (0..n as u32).collect();
            ids.shuffle(&mut ChaCha8Rng::seed_from_u64(seed.wrapping_add(epoch)));
            order = (epoch, ids);
        }
        batch.push(&train[order.1[(at % n) as usize] as usize]);
    }
    batch
}

/// A seed for what is random in step `step`.
pub fn seed_of(seed: u64, step: u64) -> u64 {
    seed ^ (step + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What dropout keeps after the embeddings and in each block, `len` elements twice each; nothing is dropped
/// where `share` is 0.
pub fn dropouts(blocks: usize, len: usize, share: f32, seed: u64) -> Option<Vec<Arc<Dropout>>> {
    if share <= 0.0 {
        return None;
    }
    // Eight random bits an element: shares are multiples of 1 / 256.
    let limit = (share * 256.0).round() as u8;
    let factor = 256.0 / (256.0 - f32::from(limit));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut bytes = vec![0u8; len];
    let mut one = || -> Vec<f32> {
        rng.fill_bytes(&mut bytes);
        bytes
            .iter()
            .map(|byte| if *byte < limit { 0.0 } else { factor })
            .collect()
    };
    Some((0..=blocks).map(|_| Arc::new([one(), one()])).collect())
}
