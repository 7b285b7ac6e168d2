//! LoRA adapters, in builds with the feature `adapters`.
//!
//! ```text
//! Model.load_adapter(name, buffer)     kept under its name while all fit `adapters_max`
//! Model.missing_adapters(names)        which of them must be loaded (again) before they can be used
//! Session.set_adapters(names, scales)  from now on the session adds these to the model
//! ```
//!
//! The page keeps the files, or knows where they are, and loads one again when it is asked for after
//! it had to make room. A session shares the weights that it uses, so they stay until it takes others.

use std::cell::RefCell;
use std::rc::Rc;

use meetara_engine::Error;
use meetara_engine::model::{Adapter, AdapterPool};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::buffer::ModelBuffer;
use crate::error::{JsResult, to_js};
use crate::model::Model;
use crate::session::Session;

/// Bytes that adapters may take together unless the page says otherwise; no memory is taken for it.
const BYTES_MAX: usize = 64 << 20;

/// The adapters in memory, shared by a model and its sessions.
#[derive(Clone)]
pub(crate) struct Shared(Rc<RefCell<AdapterPool>>);

impl Default for Shared {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(AdapterPool::new(BYTES_MAX))))
    }
}

#[wasm_bindgen]
impl Model {
    /// Sets how many bytes adapters may take together, and drops those that are in memory.
    pub fn adapters_max(&self, bytes: usize) {
        self.adapters.0.replace(AdapterPool::new(bytes));
    }

    /// Reads the adapter file in `file` and keeps it under `name`, in the place of one of that name;
    /// the least recently used make room. Gives the largest rank of its pairs, and the bytes that its
    /// weights take.
    ///
    /// # Errors
    /// `invalid_model`, `unsupported_model` for one of another base, `out_of_memory` when it alone is
    /// more than `adapters_max`. What was in memory is there as before.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the buffer's memory goes back when the call ends"
    )]
    pub fn load_adapter(&self, name: String, file: ModelBuffer) -> JsResult<Vec<u32>> {
        let adapter = Adapter::load(&self.inner, &file.bytes).map_err(to_js)?;
        // Both fit 32 bits, as all sizes do on wasm32.
        let sizes = vec![adapter.rank() as u32, adapter.memory_bytes() as u32];
        let mut pool = self.adapters.0.borrow_mut();
        pool.insert(name, adapter).map_err(to_js)?;
        Ok(sizes)
    }

    /// Drops an adapter; false when none of that name was in memory.
    #[must_use]
    pub fn unload_adapter(&self, name: &str) -> bool {
        self.adapters.0.borrow_mut().remove(name)
    }

    /// Names of the adapters in memory, the least recently used first.
    #[must_use]
    pub fn adapters(&self) -> Vec<String> {
        self.adapters
            .0
            .borrow()
            .names()
            .map(str::to_owned)
            .collect()
    }

    /// Those of `names` that are not in memory. The others become the most recently used, so that
    /// loading these does not drop them.
    #[must_use]
    pub fn missing_adapters(&self, names: Vec<String>) -> Vec<String> {
        let mut pool = self.adapters.0.borrow_mut();
        let missing = names.into_iter().filter(|name| pool.get(name).is_err());
        missing.collect()
    }
}

#[wasm_bindgen]
impl Session {
    /// Adds adapters to the model from now on, each times its scale; none takes all of them off.
    /// Unless they are the ones in use the session forgets its conversation.
    ///
    /// # Errors
    /// `invalid_request` for a name that is not in memory, another number of scales, or a scale that
    /// is no number. Nothing has changed then.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "wasm-bindgen hands lists over by value"
    )]
    pub fn set_adapters(&mut self, names: Vec<String>, scales: Vec<f32>) -> JsResult<()> {
        if names.len() != scales.len() {
            return Err(to_js(Error::invalid_request(
                "each adapter needs one scale",
            )));
        }
        let mut pool = self.adapters.0.borrow_mut();
        let used = names.iter().zip(scales);
        let adapters = used
            .map(|(name, scale)| Ok((pool.get(name)?, scale)))
            .collect::<Result<Vec<_>, Error>>()
            .map_err(to_js)?;
        self.inner.set_adapters(&adapters).map_err(to_js)
    }
}
