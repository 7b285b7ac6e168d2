//! The requests of one model: those that are served, and those that wait.
//!
//! Both bounded; a request whose client has gone away makes room at once, so that clients which give
//! up and try again cannot lock the others out.

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::sync::mpsc::UnboundedSender;

use super::{Event, Job, lock};

/// A job and where its events go.
pub(super) type Queued = (Job, UnboundedSender<Event>);

/// What became of a request.
pub(super) enum Pushed {
    /// It is to be served now, beside the others.
    Starts(Queued),
    /// It waits for one of the others to end.
    Waits,
    /// It was refused: too many wait already.
    Full,
}

/// The queue of one model.
pub(super) struct Queue {
    inner: Mutex<Inner>,
    active_max: usize,
    waiting_max: usize,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Queued>,
    active: usize,
}

impl Queue {
    /// An empty queue: at most `active_max` requests side by side, and `waiting_max` more wait.
    pub(super) fn new(active_max: usize, waiting_max: usize) -> Self {
        Self {
            inner: Mutex::default(),
            active_max,
            waiting_max,
        }
    }

    pub(super) fn push(&self, queued: Queued) -> Pushed {
        let mut inner = lock(&self.inner);
        if inner.active < self.active_max {
            inner.active += 1;
            return Pushed::Starts(queued);
        }
        inner.waiting.retain(|(_, events)| !events.is_closed());
        if inner.waiting.len() >= self.waiting_max {
            return Pushed::Full;
        }
        inner.waiting.push_back(queued);
        Pushed::Waits
    }

    /// To be called when a request that was started has ended: the one that takes its place.
    pub(super) fn next(&self) -> Option<Queued> {
        let mut inner = lock(&self.inner);
        let next = inner.waiting.pop_front();
        if next.is_none() {
            inner.active = inner.active.saturating_sub(1);
        }
        next
    }

    /// Whether no request is served.
    pub(super) fn is_idle(&self) -> bool {
        lock(&self.inner).active == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Task;
    use tokio::sync::mpsc::unbounded_channel;

    fn job() -> Job {
        Job {
            task: Task::Load,
            adapters: Vec::new(),
        }
    }

    #[test]
    fn a_client_that_is_gone_makes_room() {
        let queue = Queue::new(1, 2);
        let (first, _first_events) = unbounded_channel();
        let (second, second_events) = unbounded_channel();
        let (third, _third_events) = unbounded_channel();
        assert!(matches!(queue.push((job(), first)), Pushed::Starts(_)));
        assert!(matches!(queue.push((job(), second)), Pushed::Waits));
        assert!(matches!(queue.push((job(), third.clone())), Pushed::Waits));
        assert!(matches!(queue.push((job(), third.clone())), Pushed::Full));
        drop(second_events);
        assert!(matches!(queue.push((job(), third.clone())), Pushed::Waits));
        // Two wait, and each takes the place of the one before.
        assert!(queue.next().is_some() && queue.next().is_some() && !queue.is_idle());
        assert!(queue.next().is_none() && queue.is_idle());
        assert!(matches!(queue.push((job(), third)), Pushed::Starts(_)));
    }
}
