//! The threads that serve all models, and whose turn it is.
//!
//! ```text
//!  new ──┐
//!        v
//!   | conversation | conversation | conversation | ...    one queue
//!        ^                              │ the first
//!        └───── not over ───── thread: one step of it
//! ```
//!
//! A step is a slice of a prompt or one token. So conversations advance side by side, a token each
//! in turn, and nobody waits for a long reply to end.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::lock;

/// What can be done in steps.
pub(super) trait Turn: Send {
    /// Does one step; what comes back is to go on when its turn comes again.
    fn turn(self: Box<Self>) -> Option<Box<dyn Turn>>;
}

/// The queue, and threads that see to it until it is dropped.
pub(super) struct Scheduler(Arc<Shared>);

#[derive(Default)]
struct Shared {
    ready: Mutex<Ready>,
    pushed: Condvar,
}

#[derive(Default)]
struct Ready {
    turns: VecDeque<Box<dyn Turn>>,
    closed: bool,
}

impl Scheduler {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// When the system has none left.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let scheduler = Self(Arc::default());
        for index in 0..threads {
            let shared = Arc::clone(&scheduler.0);
            std::thread::Builder::new()
                .name(format!("engine {index}"))
                .spawn(move || shared.serve())?;
        }
        Ok(scheduler)
    }

    /// Puts something at the end of the queue.
    pub(super) fn push(&self, turn: Box<dyn Turn>) {
        self.0.push(turn);
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let mut ready = lock(&self.0.ready);
        ready.closed = true;
        ready.turns.clear();
        self.0.pushed.notify_all();
    }
}

impl Shared {
    fn push(&self, turn: Box<dyn Turn>) {
        lock(&self.ready).turns.push_back(turn);
        self.pushed.notify_one();
    }

    fn serve(&self) {
        let mut last = None;
        while let Some(turn) = self.next(last.take()) {
            // A fault of the host in one conversation must not take a thread from the others. What
            // the turn held is dropped, so nothing can be seen half done.
            match catch_unwind(AssertUnwindSafe(|| turn.turn())) {
                Ok(turn) => last = turn,
                Err(_) => tracing::error!("a step panicked; its request has failed"),
            }
        }
    }

    /// The first in the queue, as soon as there is one; `None` when it was closed. `last` goes to
    /// the end, and comes back at once when it is alone: no other thread is woken for it.
    fn next(&self, last: Option<Box<dyn Turn>>) -> Option<Box<dyn Turn>> {
        let mut ready = lock(&self.ready);
        if !ready.closed {
            ready.turns.extend(last);
        }
        let waits = |ready: &mut Ready| ready.turns.is_empty() && !ready.closed;
        let ready = self.pushed.wait_while(ready, waits);
        let mut ready = ready.unwrap_or_else(PoisonError::into_inner);
        ready.turns.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    /// Says its name at each of its steps.
    struct Steps(char, u32, Sender<char>);

    impl Turn for Steps {
        fn turn(mut self: Box<Self>) -> Option<Box<dyn Turn>> {
            self.2.send(self.0).unwrap();
            self.1 -= 1;
            (self.1 > 0).then_some(self as Box<dyn Turn>)
        }
    }

    /// Holds the thread up until it is told to go on.
    struct Gate(std::sync::mpsc::Receiver<()>);

    impl Turn for Gate {
        fn turn(self: Box<Self>) -> Option<Box<dyn Turn>> {
            let _ = self.0.recv();
            None
        }
    }

    struct Panics;

    impl Turn for Panics {
        fn turn(self: Box<Self>) -> Option<Box<dyn Turn>> {
            panic!("for the test")
        }
    }

    #[test]
    fn steps_are_taken_in_turn() {
        let scheduler = Scheduler::start(1).unwrap();
        let (open, gate) = channel();
        let (said, heard) = channel();
        scheduler.push(Box::new(Gate(gate)));
        scheduler.push(Box::new(Panics));
        for (name, steps) in [('a', 4), ('b', 1), ('c', 3)] {
            scheduler.push(Box::new(Steps(name, steps, said.clone())));
        }
        drop(said);
        open.send(()).unwrap();
        assert_eq!(heard.iter().collect::<String>(), "abcacaca");
    }
}
