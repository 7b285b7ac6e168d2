//! Where training runs.

use std::str::FromStr;

use anyhow::Result;
use burn::module::AutodiffModule;

use crate::emotion::masked::Guesser;
use crate::model::cpu::Cpu;
use crate::model::{Encoder, Heads, Llama, Lora, TrainBackend};

/// A choice of back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The kernels of this crate.
    Cpu,
    /// Vulkan, Metal or DirectX through wgpu.
    Wgpu,
    /// NVIDIA's CUDA.
    Cuda,
    /// CUDA where this build and this machine have it, else the CPU.
    Auto,
}

impl FromStr for Device {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "wgpu" => Ok(Self::Wgpu),
            "cuda" => Ok(Self::Cuda),
            "auto" => Ok(Self::Auto),
            _ => Err(String::from("choose cpu, wgpu, cuda or auto")),
        }
    }
}

/// Work that is the same on every back end.
pub trait OnDevice {
    /// Runs it on one.
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()>
    where
        Llama<B>: AutodiffModule<B>,
        Lora<B>: AutodiffModule<B>,
        Encoder<B>: AutodiffModule<B>,
        Heads<B>: AutodiffModule<B>,
        Guesser<B>: AutodiffModule<B>;
}

impl Device {
    /// Runs `work` on the chosen back end.
    pub fn with(self, work: impl OnDevice) -> Result<()> {
        match self {
            Self::Auto if cfg!(feature = "cuda") && has_nvidia_driver() => Self::Cuda.with(work),
            Self::Cpu | Self::Auto => work.run::<Cpu>(Default::default()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => work.run::<crate::model::gpu::Wgpu>(Default::default()),
            #[cfg(not(feature = "wgpu"))]
            Self::Wgpu => missing("wgpu"),
            #[cfg(feature = "cuda")]
            Self::Cuda => work.run::<crate::model::gpu::Cuda>(Default::default()),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda => missing("cuda"),
        }
    }
}

/// Whether NVIDIA's kernel driver answers on this machine.
fn has_nvidia_driver() -> bool {
    ["/dev/nvidiactl", "/dev/dxg"]
        .iter()
        .any(|path| std::path::Path::new(path).exists())
}

#[cfg(not(all(feature = "wgpu", feature = "cuda")))]
fn missing(feature: &str) -> Result<()> {
    anyhow::bail!(
        "this build has no {feature}; build with `cargo build --release -p meetara-train --features {feature}`"
    )
}
