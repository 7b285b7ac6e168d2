//! Why a conversation runs on the CPU.

/// Why the GPU is not used, or no longer: something to match on, and a sentence for a person.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The system offers none.
    #[error("there is no GPU that this program can reach; the CPU is used")]
    NoAdapter,
    /// A program that plays a GPU: slower than the CPU's own kernels.
    #[error("the only adapter, {name}, is software; the CPU is used")]
    SoftwareAdapter {
        /// What the adapter calls itself.
        name: String,
    },
    /// The model or the device lacks what the kernels need.
    #[error("the GPU cannot run this model: {what}; the CPU is used")]
    Unsupported {
        /// What is lacking, with names and sizes.
        what: String,
    },
    /// The logits are not the model's.
    #[error(
        "the GPU computed wrong logits (cosine {cosine:.4} to the CPU's); the CPU is used from here on"
    )]
    WrongResult {
        /// The cosine to the CPU's logits; NaN when they are no numbers.
        cosine: f64,
    },
    /// It would not help.
    #[error(
        "a token takes {gpu_ms:.2} ms on the GPU and {cpu_ms:.2} ms on the CPU; the CPU is used"
    )]
    Slower {
        /// Time for one token on the GPU.
        gpu_ms: f64,
        /// Time for one token on the CPU.
        cpu_ms: f64,
    },
    /// Unplugged, reset, or taken away by the browser.
    #[error("the GPU was lost; the CPU goes on from the same token")]
    DeviceLost,
    /// The driver or the shader compiler refused something.
    #[error("the GPU failed: {what}; the CPU goes on from the same token")]
    Failed {
        /// The driver's message.
        what: String,
    },
}

impl Reason {
    /// The reason as a stable word in snake case, for JSON and for logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoAdapter => "no_adapter",
            Self::SoftwareAdapter { .. } => "software_adapter",
            Self::Unsupported { .. } => "unsupported",
            Self::WrongResult { .. } => "wrong_result",
            Self::Slower { .. } => "slower",
            Self::DeviceLost => "device_lost",
            Self::Failed { .. } => "failed",
        }
    }

    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into() }
    }
}
