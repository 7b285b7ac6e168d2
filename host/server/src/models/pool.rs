//! What a model has in memory: its images, and the conversations that are kept.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::conversation::{Conversation, Kept};
use super::images::Images;
use super::running::Running;
use super::scheduler::Turn;
use super::{Mix, lock};

/// The memory of one model.
pub(super) struct Pool(Mutex<Inner>);

struct Inner {
    images: State,
    kept: Kept,
    used: Instant,
}

enum State {
    /// The model is on disk only.
    Absent,
    /// A request is loading it; these wait for that.
    Loading(Vec<Box<dyn Turn>>),
    Loaded(Arc<Images>),
}

/// What a request is to do for its model.
pub(super) enum Claim {
    /// Nothing: it is in memory.
    Loaded(Box<Running>, Arc<Images>),
    /// Load it, and then call [`Pool::loaded`].
    Load(Box<Running>),
    /// Wait: it will be handed back by [`Pool::loaded`].
    Waits,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Inner {
            images: State::Absent,
            kept: Kept::default(),
            used: Instant::now(),
        }))
    }

    /// Asks for the model in the name of `running`.
    pub(super) fn claim(&self, running: Box<Running>) -> Claim {
        let mut inner = lock(&self.0);
        inner.used = Instant::now();
        match &mut inner.images {
            State::Loaded(images) => Claim::Loaded(running, Arc::clone(images)),
            State::Loading(waiting) => {
                waiting.push(running);
                Claim::Waits
            }
            State::Absent => {
                inner.images = State::Loading(Vec::new());
                Claim::Load(running)
            }
        }
    }

    /// Ends the loading, without images if it failed. The requests that waited claim again.
    pub(super) fn loaded(&self, images: Option<Arc<Images>>) -> Vec<Box<dyn Turn>> {
        let state = images.map_or(State::Absent, State::Loaded);
        match std::mem::replace(&mut lock(&self.0).images, state) {
            State::Loading(waiting) => waiting,
            _ => Vec::new(),
        }
    }

    /// The kept conversation that knows most of `prompt`.
    pub(super) fn take(&self, mix: &Mix, prompt: &str) -> Option<Conversation> {
        lock(&self.0).kept.take(mix, prompt)
    }

    /// Keeps a conversation, all together within `bytes_max`.
    pub(super) fn put(&self, conversation: Conversation, bytes_max: usize) {
        let mut inner = lock(&self.0);
        inner.used = Instant::now();
        inner.kept.put(conversation, bytes_max);
    }

    /// Drops the kept conversations whose adapters are `gone`.
    pub(super) fn forget(&self, gone: impl Fn(&Mix) -> bool) {
        lock(&self.0).kept.forget(gone);
    }

    /// Bytes of the model and of the conversations that are kept, and the most tokens of one.
    pub(super) fn memory(&self) -> Option<(usize, u32)> {
        let inner = lock(&self.0);
        match &inner.images {
            State::Loaded(images) => {
                let bytes = images.bytes() + inner.kept.bytes();
                Some((bytes, images.context_max))
            }
            _ => None,
        }
    }

    /// Forgets all if nothing was asked for so long; whether there was anything.
    pub(super) fn release(&self, idle: Duration) -> bool {
        let mut inner = lock(&self.0);
        if !matches!(inner.images, State::Loaded(_)) || inner.used.elapsed() < idle {
            return false;
        }
        inner.images = State::Absent;
        inner.kept = Kept::default();
        true
    }
}
