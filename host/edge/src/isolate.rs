//! What all requests of an isolate share. There is one thread, so a `RefCell` suffices; no borrow
//! is held over an `await`.

use crate::adapters::Adapters;
use crate::config::Config;
use crate::pool::Pool;
use meetara_engine::model::Model;
use meetara_engine::reader::Reader;
use meetara_engine::safety::Gate;
use serde::Serialize;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// The model and who uses it.
#[derive(Default)]
pub struct Isolate {
    /// The model.
    pub model: Once<Loaded>,
    /// The text model.
    pub reader: Once<Rc<Reader>>,
    /// When the text model could not be had, in milliseconds of the Worker's clock.
    pub reader_failed_ms: Option<u64>,
    /// The rules, for when there is no text model.
    pub gate: Option<Rc<Gate>>,
    /// Sessions over the model.
    pub pool: Pool,
    /// Adapters over the model; there once a request has asked for any.
    pub adapters: Option<Adapters>,
    /// Tokens generated since the isolate began.
    pub tokens_generated: u64,
}

/// What the first request that needs it fetches.
pub struct Once<T> {
    /// There once it has.
    pub there: Option<T>,
    /// When the request that fetches it began, in milliseconds of the Worker's clock.
    pub loading_since_ms: Option<u64>,
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self {
            there: None,
            loading_since_ms: None,
        }
    }
}

/// A model in memory.
#[derive(Clone)]
pub struct Loaded {
    /// The weights and all that comes with them.
    pub model: Arc<Model>,
    /// `fp_` and a hash of the file.
    pub fingerprint: String,
}

thread_local! {
    static ISOLATE: RefCell<Isolate> = RefCell::default();
}

/// Looks at or changes the shared state.
pub fn with<T>(use_it: impl FnOnce(&mut Isolate) -> T) -> T {
    ISOLATE.with_borrow_mut(use_it)
}

/// Looks at or changes the adapters.
pub fn with_adapters<T>(config: &Config, use_it: impl FnOnce(&mut Adapters) -> T) -> T {
    with(|isolate| {
        let adapters = &mut isolate.adapters;
        use_it(adapters.get_or_insert_with(|| Adapters::new(config)))
    })
}

/// What `GET /health` says.
#[derive(Serialize)]
pub struct Health {
    status: &'static str,
    model_loaded: bool,
    reader_loaded: bool,
    replies_active: usize,
    tokens_generated: u64,
}

/// The state of this isolate; another one may answer the next request.
pub fn health() -> Health {
    with(|isolate| Health {
        status: "ok",
        model_loaded: isolate.model.there.is_some(),
        reader_loaded: isolate.reader.there.is_some(),
        replies_active: isolate.pool.active(now_ms()),
        tokens_generated: isolate.tokens_generated,
    })
}

/// The Worker's clock. It stands still while code runs and moves on with every await.
pub fn now_ms() -> u64 {
    worker::Date::now().as_millis()
}
