//! GGUF reading and writing, and the bytes of every block type.
//!
//! This crate is the only definition of what a model file's bytes mean: the trainer
//! writes through it, the runtime reads through it. It knows `core` and `alloc`, no files
//! and no kernels, and it trusts no file: each count, length, offset and dimension is
//! checked before memory is taken for it.
//!
//! | want | see |
//! |---|---|
//! | read a header, find a tensor | [`Gguf`] |
//! | write a file | [`Writer`] |
//! | one block type's layout and arithmetic | [`block`] |
//! | weights to blocks and back, checked | [`quantize`], [`dequantize`] |
//! | which tensor gets which type in a file of a given kind | [`mix`] |

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod block;
mod convert;
mod cursor;
mod error;
mod ggml_type;
mod gguf;
pub mod mix;

mod read;
mod rules;
mod strings;
mod value;
mod write;

pub use convert::{dequantize, quantize};
pub use error::{Error, ErrorKind};
pub use ggml_type::GgmlType;
pub use gguf::{Gguf, TensorInfo};
pub use rules::limits;
pub use strings::Strings;
pub use value::{Array, Value, ValueType};
pub use write::Writer;
