//! A few sessions over one model, leased to requests one at a time.
//!
//! A lease ends when its [`Lease`] is dropped. When the client goes away that never happens (see the
//! crate's doc), so it also ends with the request's abort signal, and, should that fail to come, when
//! it was not renewed for [`LEASE_MS`]. An old lease that wakes up after all learns it from
//! [`Lease::renew`].

use crate::isolate;
use meetara_api::ApiError;
use meetara_engine::generate::Session;
use meetara_engine::model::{Adapter, Model};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use worker::wasm_bindgen::JsCast;
use worker::wasm_bindgen::prelude::Closure;
use worker::worker_sys::web_sys::AbortSignal;

/// A reply that did nothing for so long is taken for dead. One step takes far less.
const LEASE_MS: u64 = 20_000;

/// All sessions of the isolate.
#[derive(Default)]
pub struct Pool {
    slots: Vec<Slot>,
    /// Number of the last lease.
    last: u64,
}

struct Slot {
    session: Rc<RefCell<Session>>,
    /// Number of the lease that holds it; 0 = free.
    holder: u64,
    renewed_ms: u64,
}

impl Slot {
    fn is_held(&self, now_ms: u64) -> bool {
        self.holder != 0 && now_ms.saturating_sub(self.renewed_ms) < LEASE_MS
    }
}

impl Pool {
    /// Replies in progress.
    pub fn active(&self, now_ms: u64) -> usize {
        self.slots
            .iter()
            .filter(|slot| slot.is_held(now_ms))
            .count()
    }

    /// A free session, or a new one while there are fewer than `replies_max`, with the adapters of
    /// `mix` on and no others.
    ///
    /// # Errors
    /// 503 when all are in use, and what the engine says when a session cannot be made.
    pub fn lease(
        &mut self,
        model: &Arc<Model>,
        mix: &[(Adapter, f32)],
        context_max: Option<u32>,
        replies_max: usize,
        now_ms: u64,
    ) -> Result<Lease, ApiError> {
        let free = self.slots.iter().position(|slot| !slot.is_held(now_ms));
        let index = match free {
            Some(index) => index,
            None if self.slots.len() < replies_max.max(1) => {
                let session =
                    Session::new(Arc::clone(model), context_max).map_err(|e| engine_error(&e))?;
                self.slots.push(Slot {
                    session: Rc::new(RefCell::new(session)),
                    holder: 0,
                    renewed_ms: 0,
                });
                self.slots.len() - 1
            }
            None => {
                return Err(ApiError::overloaded(
                    "All sessions are in use. Try again in a few seconds.",
                ));
            }
        };
        self.last += 1;
        let number = self.last;
        let Some(slot) = self.slots.get_mut(index) else {
            return Err(ApiError::internal("The session pool lost count."));
        };
        {
            let mut session = slot.session.borrow_mut();
            // Nothing of an earlier conversation may show: not in a reply, nor in how long it takes.
            session.reset();
            session.set_adapters(mix).map_err(|e| engine_error(&e))?;
        }
        slot.holder = number;
        slot.renewed_ms = now_ms;
        Ok(Lease {
            session: Rc::clone(&slot.session),
            index,
            number,
        })
    }

    /// The slot, if the lease still holds it.
    fn slot_of(&mut self, index: usize, number: u64) -> Option<&mut Slot> {
        self.slots
            .get_mut(index)
            .filter(|slot| slot.holder == number)
    }

    fn end(&mut self, index: usize, number: u64) {
        if let Some(slot) = self.slot_of(index, number) {
            slot.holder = 0;
            // The session holds the weights of its adapters: they go, or are the pool's again.
            if let Ok(mut session) = slot.session.try_borrow_mut() {
                let _ = session.set_adapters(&[]);
            }
        }
    }
}

/// The right to use a session.
pub struct Lease {
    session: Rc<RefCell<Session>>,
    index: usize,
    number: u64,
}

impl Lease {
    /// Tells the pool that the request is alive, and hands out the session.
    ///
    /// # Errors
    /// 503 when the session was given to another request meanwhile.
    pub fn renew(&self) -> Result<&RefCell<Session>, ApiError> {
        let now_ms = isolate::now_ms();
        isolate::with(
            |isolate| match isolate.pool.slot_of(self.index, self.number) {
                Some(slot) => {
                    slot.renewed_ms = now_ms;
                    Ok(())
                }
                None => Err(ApiError::overloaded(
                    "The reply was interrupted for too long. Try again.",
                )),
            },
        )?;
        Ok(&self.session)
    }
}

impl Lease {
    /// Ends the lease when `signal` fires.
    pub fn end_on(&self, signal: &AbortSignal) {
        let (index, number) = (self.index, self.number);
        let end =
            Closure::once_into_js(move || isolate::with(|isolate| isolate.pool.end(index, number)));
        // A listener, since workerd fires nothing for a signal of which only `onabort` is set. Should
        // adding it fail, LEASE_MS ends the lease.
        let _ = signal.add_event_listener_with_callback("abort", end.unchecked_ref());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        isolate::with(|isolate| isolate.pool.end(self.index, self.number));
    }
}

/// An engine error, as a client is told.
pub fn engine_error(error: &meetara_engine::Error) -> ApiError {
    ApiError::from_engine(error.code(), error.message())
}
