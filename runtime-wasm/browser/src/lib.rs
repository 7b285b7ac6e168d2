//! The engine's face for browsers, through wasm-bindgen.
