//! Memory for a model's file, filled by JavaScript in place.

use meetara_engine::Error;
use meetara_engine::nn::memory;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::{JsResult, to_js};

/// The largest file that can be asked for, in bytes: `isize::MAX` on wasm32.
const LEN_MAX: f64 = 2_147_483_647.0;

/// What must be free beside a file: less than any model takes while it is loaded.
const LOAD_ROOM: usize = 64 << 10;

/// A model's file on its way into memory: exactly `len` bytes, zero at first.
#[wasm_bindgen]
pub struct ModelBuffer {
    /// The file, `len` bytes; its capacity is its length.
    pub(crate) bytes: Vec<u8>,
}

#[wasm_bindgen]
impl ModelBuffer {
    /// Memory for a file of `len` bytes.
    ///
    /// # Errors
    /// `invalid_request` if `len` is not a whole number of bytes,
    /// `out_of_memory` if the browser gives no memory of that size.
    #[wasm_bindgen(constructor)]
    pub fn new(len: f64) -> JsResult<ModelBuffer> {
        if !(len >= 0.0 && len.fract() == 0.0) {
            return Err(to_js(Error::invalid_request(
                "the length of a model must be a whole number of bytes",
            )));
        }
        let no_memory = || {
            to_js(Error::out_of_memory(format!(
                "no memory for a model of {len} bytes: close other pages or choose a smaller model"
            )))
        };
        if len > LEN_MAX {
            return Err(no_memory());
        }
        // Exact by the two checks above.
        let len_bytes = len as usize;
        let mut bytes = Vec::<u8>::new();
        bytes
            .try_reserve_exact(len_bytes)
            .map_err(|_| no_memory())?;
        // A model whose file alone fills the memory is of no use, nor could anything be said about it.
        if memory::assure(LOAD_ROOM, "loading").is_err() {
            drop(bytes);
            return Err(no_memory());
        }
        // `resize` is a loop over bytes in a build for size, and this is the first code to run:
        // browsers have not compiled it for speed yet. Filling memory is one instruction.
        // SAFETY: `len_bytes` bytes were reserved, and all of them are written.
        unsafe {
            bytes.as_mut_ptr().write_bytes(0, len_bytes);
            bytes.set_len(len_bytes);
        }
        Ok(ModelBuffer { bytes })
    }

    /// Where the first byte stands in the module's memory.
    ///
    /// A view made over it is cut off whenever the memory grows, so make a
    /// new view for each write.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn ptr(&mut self) -> usize {
        self.bytes.as_mut_ptr() as usize
    }

    /// Length of the file in bytes.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }
}
