//! Trains, quantises, exports and measures small GGUF chat models.

fn main() {}
