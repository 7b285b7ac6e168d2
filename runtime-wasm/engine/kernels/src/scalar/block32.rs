//! Weights in blocks of 32 with a half-precision scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
//!
//! ```text
//! Q8_0  d          q[32]  signed bytes            w = d * q
//! Q4_0  d          n[16]                          w = d * (q - 8)
//! Q4_1  d  m       n[16]                          w = d * q + m
//! Q5_0  d     h    n[16]                          w = d * (q - 16)
//! Q5_1  d  m  h    n[16]                          w = d * q + m
//! ```
//!
//! `n[i]` holds weight `i` in its low and weight `i + 16` in its high nibble;
//! bit `i` of the 32-bit `h` is the fifth bit of weight `i`. An offset of 8 or
//! 16 is taken out with the stored sum, so the inner loop meets only
//! non-negative weights: sum (q - 8) a = sum q a - 8 sum a.

use meetara_format::block;

use super::{Activations, Block, f16_at};

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;

/// Sum of weight x activation, the weights from 16 bytes of nibbles and the
/// fifth bits in `high` (0 for 4-bit types).
fn dot_nibbles(nibbles: &[u8], high: u32, x: Activations<'_, i32>) -> i32 {
    let mut sum = 0;
    for (i, &byte) in nibbles.iter().enumerate() {
        let low_weight = u32::from(byte & 15) | (high >> i & 1) << 4;
        let high_weight = u32::from(byte >> 4) | (high >> (i + 16) & 1) << 4;
        sum += low_weight as i32 * i32::from(x.quants[i]);
        sum += high_weight as i32 * i32::from(x.quants[i + 16]);
    }
    sum
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Block<i32> for Q4_0 {
    const LEN: usize = block::q4_0::BLOCK_LEN;
    const BYTES: usize = block::q4_0::BLOCK_BYTES;

    fn contribution(w: &[u8], x: Activations<'_, i32>) -> f32 {
        let dot = dot_nibbles(&w[2..18], 0, x) - 8 * x.sums;
        (f16_at(w, 0) * x.scale) * dot as f32
    }
}

impl Block<i32> for Q4_1 {
    const LEN: usize = block::q4_1::BLOCK_LEN;
    const BYTES: usize = block::q4_1::BLOCK_BYTES;

    fn contribution(w: &[u8], x: Activations<'_, i32>) -> f32 {
        let dot = dot_nibbles(&w[4..20], 0, x);
        (f16_at(w, 0) * x.scale) * dot as f32 + (f16_at(w, 2) * x.scale) * x.sums as f32
    }
}

impl Block<i32> for Q5_0 {
    const LEN: usize = block::q5_0::BLOCK_LEN;
    const BYTES: usize = block::q5_0::BLOCK_BYTES;

    fn contribution(w: &[u8], x: Activations<'_, i32>) -> f32 {
        let dot = dot_nibbles(&w[6..22], u32_at(w, 2), x) - 16 * x.sums;
        (f16_at(w, 0) * x.scale) * dot as f32
    }
}

impl Block<i32> for Q5_1 {
    const LEN: usize = block::q5_1::BLOCK_LEN;
    const BYTES: usize = block::q5_1::BLOCK_BYTES;

    fn contribution(w: &[u8], x: Activations<'_, i32>) -> f32 {
        let dot = dot_nibbles(&w[8..24], u32_at(w, 4), x);
        (f16_at(w, 0) * x.scale) * dot as f32 + (f16_at(w, 2) * x.scale) * x.sums as f32
    }
}

impl Block<i32> for Q8_0 {
    const LEN: usize = block::q8_0::BLOCK_LEN;
    const BYTES: usize = block::q8_0::BLOCK_BYTES;

    fn contribution(w: &[u8], x: Activations<'_, i32>) -> f32 {
        let products = w[2..34].iter().zip(x.quants);
        let dot: i32 = products
            .map(|(&q, &a)| i32::from(q as i8) * i32::from(a))
            .sum();
        (f16_at(w, 0) * x.scale) * dot as f32
    }
}
