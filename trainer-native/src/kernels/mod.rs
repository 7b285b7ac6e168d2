//! The CPU's own forward and backward passes of a decoder block, of an encoder block and of the output
//! head.
//!
//! Plain slices in, plain slices out: no autodiff, no allocation inside a sequence. `model` wraps them
//! as custom autodiff operations; `model::plain` holds their twins written in burn tensors, and one
//! test compares losses and every gradient of the two.
//!
//! Shape letters used throughout: `T` positions of one sequence, `C` model width, `H` query heads,
//! `K` key/value heads, `D` head width, `F` feed-forward width, `V` vocabulary.

pub mod attention;
pub mod block;
pub mod buffers;
pub mod cross_entropy;
pub mod encoder_block;
pub mod gelu;
pub mod gemm;
pub mod layernorm;
pub mod linear;
pub mod math;
pub mod rmsnorm;
pub mod rope;
pub mod swiglu;
