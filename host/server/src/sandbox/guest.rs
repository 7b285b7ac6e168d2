//! What an instance may take: memory, and the time of a call.
//!
//! Compiled code looks at the engine's epoch at every loop and function. When it has moved on (every
//! [`EPOCH`](super::EPOCH)), [`Guest::tick`] is asked whether the call may go on. So a call that
//! runs away, and one whose client has gone, end wherever they are.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::{ResourceLimiter, Store, StoreLimits, StoreLimitsBuilder, UpdateDeadline};

use super::image::Image;
use super::{Limits, Sandbox};

/// Says whether nobody wants a call's result any more. Asked on the thread of the call.
pub type Abandoned = Arc<dyn Fn() -> bool + Send + Sync>;

/// Why a call was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stopped {
    /// It took longer than it may.
    #[error("the call took too long")]
    Time,
    /// Nobody wants its result any more.
    #[error("the call was abandoned")]
    Abandoned,
}

/// The limits of one instance, and how it stands to them.
pub(super) struct Guest {
    limits: StoreLimits,
    /// The most memory in bytes.
    pub(super) memory_bytes_max: usize,
    /// Whether the call asked for more memory than there may be.
    pub(super) memory_refused: bool,
    /// When the call must be over.
    pub(super) deadline: Instant,
    /// Whether the call is still wanted.
    pub(super) abandoned: Option<Abandoned>,
}

/// A store for an instance that springs from `image`: of a conversation when a model is loaded in it.
pub(super) fn store(sandbox: &Sandbox, image: &Image) -> Store<Guest> {
    let Limits {
        memory_bytes_max,
        conversation_bytes_max,
        call_max,
    } = sandbox.limits;
    let memory_bytes_max = if image.bytes() == sandbox.blank.bytes() {
        memory_bytes_max
    } else {
        memory_bytes_max.min(image.bytes().saturating_add(conversation_bytes_max))
    };
    let limits = StoreLimitsBuilder::new()
        .memory_size(memory_bytes_max)
        .table_elements(100_000)
        .instances(1)
        .tables(2)
        .memories(1)
        .build();
    let guest = Guest {
        limits,
        memory_bytes_max,
        memory_refused: false,
        deadline: Instant::now() + call_max,
        abandoned: None,
    };
    let mut store = Store::new(&sandbox.engine, guest);
    store.limiter(|guest| guest);
    store.epoch_deadline_callback(|store| store.data().tick());
    store.set_epoch_deadline(1);
    store
}

impl Guest {
    fn tick(&self) -> wasmtime::Result<UpdateDeadline> {
        if self.abandoned.as_ref().is_some_and(|abandoned| abandoned()) {
            return Err(Stopped::Abandoned.into());
        }
        if Instant::now() >= self.deadline {
            return Err(Stopped::Time.into());
        }
        Ok(UpdateDeadline::Continue(1))
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let granted = self.limits.memory_growing(current, desired, maximum)?;
        self.memory_refused |= !granted;
        Ok(granted)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // The system has no more. To the engine it is the same as a limit.
        tracing::warn!("a sandbox's memory could not grow: {error:#}");
        self.memory_refused = true;
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.limits.table_growing(current, desired, maximum)
    }

    fn instances(&self) -> usize {
        self.limits.instances()
    }

    fn tables(&self) -> usize {
        self.limits.tables()
    }

    fn memories(&self) -> usize {
        self.limits.memories()
    }
}
