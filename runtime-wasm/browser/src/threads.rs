//! The pool of the build with shared memory: workers of the page that share this module's memory.
//!
//! The page starts workers, and each calls [`pool_work`], which does not return. Work is published in
//! one number, so that a claim of a piece holds for the work that it was seen with:
//!
//! ```text
//! state   | 32 bits: which work | 16 bits: next piece | 16 bits: pieces |
//! ```
//!
//! Whoever comes takes the next piece; the caller takes pieces too, so workers that the system gives
//! no core cost nothing but their share. Waiting is a bounded spin, since the next product follows
//! within microseconds, then sleep, so that a busy machine is not made busier.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use meetara_engine::generate::Session;
use meetara_engine::nn::pool::Pool;
use meetara_engine::nn::pool_choice::PoolChoice;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::session::now;

/// Looks at a number before going to sleep: some 30 microseconds.
const SPINS: u32 = 20_000;
/// Pieces for each thread, so that one that comes late or is held up does less than the others.
const PIECES_PER_THREAD: usize = 4;

/// Work, as long as [`Pool::run`] is in it.
struct Work<'a>(&'a (dyn Fn(usize) + Sync));

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: AtomicU64,
    /// The work that `state` names.
    work: AtomicPtr<()>,
    /// Pieces of it that are done.
    done: AtomicU32,
    /// Workers that have come, beside the caller.
    workers: AtomicU32,
    /// Whether the next step uses them.
    used: AtomicBool,
    /// Whether one of them was stopped by a trap: its piece will never be done.
    failed: AtomicBool,
    /// Workers that sleep or are about to.
    asleep: Wait,
    /// Where the caller waits for the pieces of others.
    caller: Wait,
}

/// A place to sleep.
#[derive(Debug)]
struct Wait {
    sleepers: AtomicU32,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Wait {
    const fn new() -> Self {
        Self {
            sleepers: AtomicU32::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// Returns when `ready`: spins for a while, then sleeps until [`Self::wake`].
    fn until(&self, ready: impl Fn() -> bool) {
        for _ in 0..SPINS {
            if ready() {
                return;
            }
            core::hint::spin_loop();
        }
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever makes `ready` true after this line sees the sleeper, and waits for the lock.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !ready() {
            guard = self
                .wake
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes all sleepers; what they wait for is true already.
    fn wake(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }
}

/// Next piece and number of pieces.
const fn parts(state: u64) -> (u32, u32) {
    ((state >> 16) as u32 & 0xffff, state as u32 & 0xffff)
}

pub(crate) static SHARED: Shared = Shared {
    state: AtomicU64::new(0),
    work: AtomicPtr::new(core::ptr::null_mut()),
    done: AtomicU32::new(0),
    workers: AtomicU32::new(0),
    used: AtomicBool::new(false),
    failed: AtomicBool::new(false),
    asleep: Wait::new(),
    caller: Wait::new(),
};

impl Shared {
    fn has_work(&self) -> bool {
        let (next, pieces) = parts(self.state.load(Ordering::SeqCst));
        next < pieces
    }

    /// Takes pieces and does them, until there are none.
    fn help(&self) {
        let mut state = self.state.load(Ordering::SeqCst);
        loop {
            let (piece, pieces) = parts(state);
            if piece >= pieces {
                return;
            }
            let claimed = state + (1 << 16);
            match self.state.compare_exchange_weak(
                state,
                claimed,
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Err(now) => state = now,
                Ok(_) => {
                    let work = self.work.load(Ordering::SeqCst).cast::<Work<'_>>();
                    // SAFETY: the work that was claimed from is not over before `done` counts this
                    // piece, and the pointer is exchanged only afterwards, so it is that work's,
                    // and `run` still holds it.
                    let work = unsafe { &*work };
                    (work.0)(piece as usize);
                    if self.done.fetch_add(1, Ordering::SeqCst) + 1 == pieces {
                        self.caller.wake();
                    }
                    state = self.state.load(Ordering::SeqCst);
                }
            }
        }
    }
}

/// The workers as the engine's pool. There is one of them in a module, and one thread that steps.
#[derive(Debug)]
pub(crate) struct Workers;

impl Pool for Workers {
    fn pieces(&self) -> usize {
        if SHARED.used.load(Ordering::Relaxed) {
            (SHARED.workers.load(Ordering::Relaxed) as usize + 1) * PIECES_PER_THREAD
        } else {
            1
        }
    }

    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        let work = Work(work);
        let pieces = pieces as u32 & 0xffff;
        SHARED.done.store(0, Ordering::SeqCst);
        let pointer = (&raw const work).cast::<()>().cast_mut();
        SHARED.work.store(pointer, Ordering::SeqCst);
        let number = (SHARED.state.load(Ordering::SeqCst) >> 32).wrapping_add(1);
        let state = number << 32 | u64::from(pieces);
        SHARED.state.store(state, Ordering::SeqCst);
        SHARED.asleep.wake();
        SHARED.help();
        let over = || SHARED.done.load(Ordering::SeqCst) == pieces;
        let failed = || SHARED.failed.load(Ordering::SeqCst);
        SHARED.caller.until(|| over() || failed());
        // Others may still write to what the caller lent them, so it must not return: a panic is a
        // trap here, and the page says that the engine has stopped.
        assert!(over(), "a worker of the pool was stopped");
    }
}

/// A session whose products may use the workers.
pub(crate) fn with_workers(mut session: Session) -> Session {
    session.set_pool(Some(Arc::new(Workers)));
    session
}

/// Which steps use the workers.
pub(crate) struct Choices {
    prefill: PoolChoice,
    token: PoolChoice,
    began_ms: f64,
}

impl Choices {
    pub(crate) fn new() -> Self {
        Self {
            // A pass over a prompt takes as long as many tokens, and a prompt has few of them.
            prefill: PoolChoice::new(1),
            token: PoolChoice::new(4),
            began_ms: 0.0,
        }
    }

    fn of(&mut self, tokens: usize) -> &mut PoolChoice {
        if tokens > 1 {
            &mut self.prefill
        } else {
            &mut self.token
        }
    }

    /// Before a step that evaluates so many tokens.
    pub(crate) fn begin(&mut self, tokens: usize) {
        let pooled = self.of(tokens).pooled();
        SHARED.used.store(pooled, Ordering::Relaxed);
        self.began_ms = now();
    }

    /// After it.
    pub(crate) fn end(&mut self, tokens: usize) {
        if tokens > 0 {
            let ms = (now() - self.began_ms) / tokens as f64;
            self.of(tokens).took(ms);
        }
    }
}

/// What a worker of the pool runs: it waits for pieces and does them, and does not return.
#[wasm_bindgen]
pub fn pool_work() {
    SHARED.workers.fetch_add(1, Ordering::SeqCst);
    loop {
        SHARED.asleep.until(|| SHARED.has_work());
        SHARED.help();
    }
}

/// What a worker's page says once [`pool_work`] was stopped by a trap, so that nobody waits for its piece.
#[wasm_bindgen]
pub fn pool_failed() {
    SHARED.failed.store(true, Ordering::SeqCst);
    SHARED.caller.wake();
}

/// Workers that have come.
#[wasm_bindgen]
#[must_use]
pub fn pool_workers() -> u32 {
    SHARED.workers.load(Ordering::SeqCst)
}
