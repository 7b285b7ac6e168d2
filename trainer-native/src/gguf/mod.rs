//! Between the trainer's tensors and GGUF files.

pub mod adapter;
pub mod encoder;
pub mod load;
pub mod quantise;
pub mod save;

/// Weights of one tensor on the way to a file: name, dims (contiguous one first), values.
pub type NamedTensor = (String, Vec<u64>, Vec<f32>);
