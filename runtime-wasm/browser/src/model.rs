//! A loaded model: what it is, how long a chat is in its tokens, new sessions.

use std::sync::Arc;

use meetara_engine::model::Model as EngineModel;
use meetara_engine::template::Message;
use meetara_engine::tokenizer::Special;
use meetara_engine::{Error, generate};
use serde::Serialize;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::buffer::ModelBuffer;
use crate::error::{JsResult, bad_argument, to_js, to_value};
use crate::session::Session;

/// A model in memory, shared by all its sessions.
#[wasm_bindgen]
pub struct Model {
    pub(crate) inner: Arc<EngineModel>,
    #[cfg(feature = "adapters")]
    pub(crate) adapters: crate::adapters::Shared,
    #[cfg(feature = "gpu")]
    pub(crate) gpu: crate::gpu::Half,
}

/// What [`Model::info`] gives.
#[derive(Serialize)]
struct Info<'a> {
    /// The model's name in its file, or its architecture.
    name: &'a str,
    architecture: &'a str,
    /// Length of the file in bytes.
    file_bytes: usize,
    /// Number of weights.
    parameters: u64,
    /// The longest context that the model was made for, in tokens.
    context_len: usize,
    /// Whether the file carries a chat template.
    chat: bool,
}

impl Model {
    pub(crate) fn load(bytes: Vec<u8>) -> JsResult<Model> {
        let inner = Arc::new(EngineModel::load(bytes).map_err(to_js)?);
        Ok(Model {
            inner,
            #[cfg(feature = "adapters")]
            adapters: crate::adapters::Shared::default(),
            #[cfg(feature = "gpu")]
            gpu: crate::gpu::Half::default(),
        })
    }
}

#[wasm_bindgen]
impl ModelBuffer {
    /// Turns the filled bytes into the model; they stay where they are.
    ///
    /// # Errors
    /// As `meetara_engine::model::Model::load`; the memory is given back.
    pub fn into_model(self) -> JsResult<Model> {
        Model::load(self.bytes)
    }
}

#[wasm_bindgen]
impl Model {
    /// What the file says of itself: an object with the fields of [`Info`].
    ///
    /// # Errors
    /// None in practice.
    pub fn info(&self) -> JsResult<JsValue> {
        let config = self.inner.config();
        let weights = |dims: &[u64; 4]| dims.iter().product::<u64>();
        to_value(&Info {
            name: &config.name,
            architecture: &config.architecture,
            file_bytes: self.inner.file_bytes(),
            parameters: self
                .inner
                .gguf()
                .tensors
                .iter()
                .map(|t| weights(&t.dims))
                .sum(),
            context_len: config.context_len,
            chat: self.inner.chat_template().is_some(),
        })
    }

    /// Opens a conversation.
    ///
    /// Its context is as long as the model was made for, but at most
    /// `context_max` tokens, or 4,096, the engine's default.
    ///
    /// # Errors
    /// `out_of_memory`, or `invalid_request` for a context of 0 tokens.
    pub fn session(&self, context_max: Option<u32>) -> JsResult<Session> {
        let context_len = u32::try_from(self.inner.config().context_len).unwrap_or(u32::MAX);
        let context_max = context_max.map(|n| n.min(context_len));
        let inner = generate::Session::new(Arc::clone(&self.inner), context_max).map_err(to_js)?;
        Ok(Session::new(self, inner))
    }

    /// Tokens of a chat, `[{role, content}]`; with `reply` also those that begin the reply.
    ///
    /// # Errors
    /// `invalid_request` if `messages` has another shape, `template` if the
    /// model has no chat template or it refuses these messages.
    pub fn count_chat(&self, messages: JsValue, reply: bool) -> JsResult<u32> {
        let messages: Vec<Message> =
            serde_wasm_bindgen::from_value(messages).map_err(|e| bad_argument("messages", e))?;
        let template = self.inner.chat_template().ok_or_else(|| {
            to_js(Error::new(
                meetara_engine::ErrorKind::Template,
                "the model has no chat template: choose a model made for chat",
            ))
        })?;
        let text = template.render(&messages, reply).map_err(to_js)?;
        let tokenizer = self.inner.tokenizer();
        let tokens = tokenizer
            .encode(&text, Special::Parse)
            .map_err(to_js)?
            .len();
        let bos = usize::from(tokenizer.add_bos());
        Ok(u32::try_from(tokens + bos).unwrap_or(u32::MAX))
    }

    /// Token ids of a text; with `special` the control tokens in it are read as such.
    ///
    /// # Errors
    /// As the tokenizer's.
    pub fn tokenize(&self, text: &str, special: bool) -> JsResult<Vec<u32>> {
        let special = if special {
            Special::Parse
        } else {
            Special::Text
        };
        self.inner.tokenizer().encode(text, special).map_err(to_js)
    }

    /// All tokens, as the module for schemas (`pkg/dist/constraint`) takes them.
    #[cfg(feature = "extras")]
    #[must_use]
    pub fn vocabulary(&self) -> Vec<u8> {
        self.inner.tokenizer().vocabulary()
    }
}
