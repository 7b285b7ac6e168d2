//! The engine as a sandboxed module for wasmtime, behind a small C ABI.
