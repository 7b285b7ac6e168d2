//! The llama family on WebGPU: the same logits as the engine's, from wgpu.
//!
//! ```text
//! Gpu::request            an adapter and a device, or the reason why not
//! Weights::upload         the tensors of a GGUF file, as they lie in it
//! GpuModel::new           the kernels that the file's block types need
//! GpuSession::eval        tokens -> logits, one submission for up to 32 tokens
//! self_test               the same logits as the CPU's, and sooner?
//! Chat::step              the engine's session, with logits from the GPU for as long as it is sound
//! ```
//!
//! The same code runs natively on Vulkan and in a browser. It needs no subgroups, which wgpu cannot
//! ask for on the web, and no `shader-f16`: halves are widened by hand, sums are `f32`.
//!
//! `kernels` has one `.wgsl` beside its Rust dispatch for each kernel, and in the same Rust file the
//! plain function of the same name that says what is right. `blocks` has one `.wgsl` for each block
//! type; it is joined with the kernels that read weights.

mod blocks;
mod chat;
mod device;
mod kernels;
mod model;
mod readback;
mod reason;
mod self_test;
mod session;
mod weights;

pub use chat::{Chat, step};
pub use device::{Accept, Gpu};
pub use kernels::Shaders;
pub use model::GpuModel;
pub use reason::Reason;
pub use self_test::{Report, self_test};
pub use session::GpuSession;
pub use weights::Weights;
