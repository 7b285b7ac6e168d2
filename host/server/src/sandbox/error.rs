//! What can go wrong in a sandbox, and what a client is told of it.

use std::path::PathBuf;

use meetara_api::ApiError;

/// A failure of the sandbox, or of the engine in it. No message holds what a user wrote.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The component cannot be found, read, compiled or trusted to be the engine.
    #[error("{0}")]
    Component(String),
    /// The engine refused; the instance remains of use.
    #[error("{message}")]
    Engine {
        /// The engine's stable word.
        code: String,
        /// What was wrong, where, and what to do.
        message: String,
    },
    /// A call took too long and was stopped.
    #[error(
        "a step took longer than {ms} ms and was stopped; raise --call-max-ms for a slower machine or a larger model"
    )]
    Time {
        /// The limit.
        ms: u128,
    },
    /// The instance asked for more memory than it may have.
    #[error(
        "the model needs more memory than its sandbox may take ({mib} MiB); raise --memory-max-mib, or lower --context-max"
    )]
    Memory {
        /// The limit.
        mib: usize,
    },
    /// A conversation asked for more memory than it may have.
    #[error(
        "the conversation needs more memory than it may take ({mib} MiB); shorten it, or raise --conversation-max-mib"
    )]
    Conversation {
        /// The limit.
        mib: usize,
    },
    /// Nobody wanted the result of a call any more, and it was stopped.
    #[error("the request was given up")]
    Abandoned,
    /// The system has no memory for an image.
    #[error("there is no memory for another sandbox: {0}")]
    Image(std::io::Error),
    /// A fault of the engine.
    #[error("the engine stopped at a fault of its own ({0}); please report it with the model file")]
    Trap(String),
    /// The model's file cannot be read.
    #[error("{path} cannot be read: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl SandboxError {
    /// Whether the instance may be in any state, and must not be called again.
    pub fn spoils_instance(&self) -> bool {
        !matches!(self, Self::Engine { .. } | Self::File { .. })
    }

    /// Whether another try may succeed: memory and time depend on what else the machine does.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Time { .. }
            | Self::Memory { .. }
            | Self::Conversation { .. }
            | Self::Abandoned
            | Self::Image(_) => true,
            Self::Engine { code, .. } => code == "out_of_memory",
            _ => false,
        }
    }

    /// What a client is told when a request fails.
    pub fn to_api(&self) -> ApiError {
        match self {
            Self::Engine { code, message } => ApiError::from_engine(code, message),
            Self::Memory { .. } | Self::Conversation { .. } | Self::Image(_) | Self::Abandoned => {
                ApiError::overloaded(self.to_string())
            }
            // A client has no use for paths of the server.
            Self::File { source, .. } => {
                ApiError::model_unavailable(format!("The model's file cannot be read: {source}."))
            }
            Self::Component(_) | Self::Time { .. } | Self::Trap(_) => {
                ApiError::internal(self.to_string())
            }
        }
    }
}
