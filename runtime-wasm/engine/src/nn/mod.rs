//! Layers that chat models, encoders, speech and face share.
//!
//! Letters in shapes: C columns (tokens evaluated together, at most
//! [`COLUMNS_MAX`]), T positions, H heads. Every activation is row-major with
//! one token's vector contiguous: (C, length).

pub mod attention;
#[cfg(feature = "encoder")]
pub mod full_attention;
pub mod kv_cache;
pub mod linear;
pub mod lora;
pub mod memory;
pub mod norm;
pub mod pool;
pub mod pool_choice;
pub mod rope;

/// The most columns that are evaluated together. A weight block is unpacked
/// once for up to 8 of them; past 32 the activations leave the nearest caches
/// and one step takes longer than a caller who wants to cancel should wait.
pub const COLUMNS_MAX: usize = 32;

/// `x += y`, element by element.
pub fn add(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len());
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}
