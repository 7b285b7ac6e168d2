//! The requests that wait for one model.
//!
//! Bounded; a request whose client has gone away makes room at once, so that clients which give
//! up and try again cannot lock the others out.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::{Event, Job, lock};

/// A job and where its events go.
pub(super) type Queued = (Job, UnboundedSender<Event>);

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits, and somebody attends to the queue.
    Waits,
    /// It waits, and the caller must start a worker.
    NeedsWorker,
    /// It was refused: too many wait already.
    Full,
}

/// The queue of one model.
pub(super) struct Queue {
    inner: Mutex<Inner>,
    pushed: Condvar,
    len_max: usize,
}

#[derive(Default)]
struct Inner {
    jobs: VecDeque<Queued>,
    has_worker: bool,
}

impl Queue {
    /// An empty queue for at most `len_max` requests.
    pub(super) fn new(len_max: usize) -> Self {
        Self {
            inner: Mutex::default(),
            pushed: Condvar::new(),
            len_max,
        }
    }

    pub(super) fn push(&self, queued: Queued) -> Pushed {
        let mut inner = lock(&self.inner);
        inner.jobs.retain(|(_, events)| !events.is_closed());
        if inner.jobs.len() >= self.len_max {
            return Pushed::Full;
        }
        inner.jobs.push_back(queued);
        self.pushed.notify_one();
        if std::mem::replace(&mut inner.has_worker, true) {
            Pushed::Waits
        } else {
            Pushed::NeedsWorker
        }
    }

    /// The next request; `None` when there was none for as long as `idle`.
    pub(super) fn take(&self, idle: Option<Duration>) -> Option<Queued> {
        let inner = lock(&self.inner);
        let is_empty = |inner: &mut Inner| inner.jobs.is_empty();
        let mut inner = match idle {
            Some(idle) => {
                let waited = self.pushed.wait_timeout_while(inner, idle, is_empty);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = self.pushed.wait_while(inner, is_empty);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        };
        inner.jobs.pop_front()
    }

    /// Says that nobody attends any more. Whoever waits learns it by the loss of the sender,
    /// and the next request gets a new worker.
    pub(super) fn abandon(&self) {
        *lock(&self.inner) = Inner::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Task;
    use tokio::sync::mpsc::unbounded_channel;

    fn job() -> Job {
        Job {
            task: Task::Embed(Vec::new()),
            adapters: Vec::new(),
        }
    }

    #[test]
    fn a_client_that_is_gone_makes_room() {
        let queue = Queue::new(2);
        let (first, first_events) = unbounded_channel();
        let (second, _second_events) = unbounded_channel();
        let (third, _third_events) = unbounded_channel();
        assert_eq!(queue.push((job(), first)), Pushed::NeedsWorker);
        assert_eq!(queue.push((job(), second)), Pushed::Waits);
        assert_eq!(queue.push((job(), third.clone())), Pushed::Full);
        drop(first_events);
        assert_eq!(queue.push((job(), third)), Pushed::Waits);
        let moment = Some(Duration::from_millis(1));
        assert!(queue.take(moment).is_some() && queue.take(moment).is_some());
        assert!(queue.take(moment).is_none());
    }

    #[tokio::test]
    async fn those_who_wait_learn_that_the_worker_is_gone() {
        let queue = Queue::new(2);
        let (sender, mut events) = unbounded_channel();
        assert_eq!(queue.push((job(), sender)), Pushed::NeedsWorker);
        queue.abandon();
        assert!(events.recv().await.is_none());
        let (sender, _events) = unbounded_channel();
        assert_eq!(queue.push((job(), sender)), Pushed::NeedsWorker);
    }
}
