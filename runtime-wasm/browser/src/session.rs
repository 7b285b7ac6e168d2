//! One conversation, advanced a token at a time.

use js_sys::{Object, Reflect};
use meetara_engine::Error;
#[cfg(feature = "extras")]
use meetara_engine::generate::{Choice, Pooling};
use meetara_engine::generate::{
    Finish, GenerateParams, Logprobs, Session as EngineSession, Step, Usage,
};
use meetara_engine::nn::memory;
use meetara_engine::template::Message;
use serde::Serialize;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::{JsResult, bad_argument, to_js, to_value};
use crate::model::Model;

#[wasm_bindgen]
extern "C" {
    /// Milliseconds since the worker started.
    #[wasm_bindgen(js_namespace = performance)]
    pub(crate) fn now() -> f64;
}

/// A conversation with its KV cache.
#[wasm_bindgen]
pub struct Session {
    pub(crate) inner: EngineSession,
    /// What its names of adapters mean.
    #[cfg(feature = "adapters")]
    pub(crate) adapters: crate::adapters::Shared,
    #[cfg(feature = "gpu")]
    pub(crate) gpu: Result<meetara_gpu::GpuSession, meetara_gpu::Reason>,
    #[cfg(feature = "threads")]
    choices: crate::threads::Choices,
}

/// [`Step`] as JavaScript sees it: an object whose `type` says which.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum StepObject {
    Prefill {
        done: u32,
        total: u32,
    },
    Token {
        id: u32,
        text: String,
        #[cfg_attr(feature = "extras", serde(skip_serializing_if = "Option::is_none"))]
        #[cfg_attr(not(feature = "extras"), serde(skip))]
        logprobs: Option<Logprobs>,
    },
    Done {
        finish: Finish,
        text: String,
        usage: Usage,
        #[cfg_attr(feature = "extras", serde(skip_serializing_if = "Option::is_none"))]
        #[cfg_attr(not(feature = "extras"), serde(skip))]
        logprobs: Option<Logprobs>,
    },
}

impl StepObject {
    fn new(step: Step, logprobs: Option<Logprobs>) -> Self {
        match step {
            Step::Prefill { done, total } => Self::Prefill { done, total },
            Step::Token { id, text } => Self::Token { id, text, logprobs },
            Step::Done {
                finish,
                text,
                usage,
            } => Self::Done {
                finish,
                text,
                usage,
                logprobs,
            },
        }
    }
}

impl Session {
    #[cfg_attr(
        not(feature = "adapters"),
        allow(unused_variables, reason = "only adapters are shared with the model")
    )]
    pub(crate) fn new(model: &Model, inner: EngineSession) -> Session {
        #[cfg(feature = "threads")]
        let inner = crate::threads::with_workers(inner);
        Session {
            inner,
            #[cfg(feature = "adapters")]
            adapters: model.adapters.clone(),
            #[cfg(feature = "threads")]
            choices: crate::threads::Choices::new(),
            #[cfg(feature = "gpu")]
            gpu: Err(meetara_gpu::Reason::NoAdapter),
        }
    }

    /// What [`Self::step`] gives for `step`.
    pub(crate) fn object(&mut self, step: Step) -> JsResult<JsValue> {
        let logprobs = self.inner.take_logprobs();
        to_value(&StepObject::new(step, logprobs))
    }
}

/// `serde-wasm-bindgen` looks up the fields that a struct has and never sees
/// others, so a misspelt one is looked for here.
fn params_from(params: JsValue) -> JsResult<GenerateParams> {
    if params.is_undefined() {
        return Ok(GenerateParams::default());
    }
    if let Some(object) = Object::try_from(&params) {
        let known = to_value(&GenerateParams::default())?;
        for key in Object::keys(object) {
            if !Reflect::has(&known, &key)? {
                return Err(to_js(Error::invalid_request(format!(
                    "params has no field {}",
                    key.as_string().unwrap_or_default()
                ))));
            }
        }
    }
    serde_wasm_bindgen::from_value(params).map_err(|e| bad_argument("params", e))
}

/// Has memory free for the texts in `value`, before they are copied from JavaScript's memory.
fn assure_texts(value: &JsValue) -> JsResult<()> {
    // What cannot be written as JSON has no messages in it either.
    let units = js_sys::JSON::stringify(value).map_or(0, |json| json.length() as usize);
    // A unit of UTF-16 takes at most three bytes, and a buffer may be doubled while it grows.
    memory::assure(6 * units, "the messages").map_err(to_js)
}

#[wasm_bindgen]
impl Session {
    /// Tokens that the context holds.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn context_len(&self) -> usize {
        self.inner.context_max() as usize
    }

    /// Starts a reply to a chat, `[{role, content}]`; gives `{prompt_tokens, cached_tokens}`.
    ///
    /// # Errors
    /// `invalid_request`, `template` or `context_overflow`.
    pub fn start_chat(&mut self, messages: JsValue, params: JsValue) -> JsResult<JsValue> {
        assure_texts(&messages)?;
        let messages: Vec<Message> =
            serde_wasm_bindgen::from_value(messages).map_err(|e| bad_argument("messages", e))?;
        let started = self
            .inner
            .start_chat(&messages, &params_from(params)?)
            .map_err(to_js)?;
        to_value(&started)
    }

    /// Starts the continuation of a text; gives `{prompt_tokens, cached_tokens}`.
    ///
    /// # Errors
    /// `invalid_request` or `context_overflow`.
    pub fn start_text(&mut self, text: &str, params: JsValue) -> JsResult<JsValue> {
        let started = self
            .inner
            .start_text(text, &params_from(params)?)
            .map_err(to_js)?;
        to_value(&started)
    }

    /// Does one bounded piece of work and says what it was:
    /// `{type: "prefill", done, total}`, `{type: "token", id, text}` or
    /// `{type: "done", finish, text, usage}`. The last two have `logprobs` if
    /// they were asked for and a token was chosen.
    ///
    /// # Errors
    /// `invalid_request` if no reply was started or it is done.
    pub fn step(&mut self) -> JsResult<JsValue> {
        #[cfg(feature = "threads")]
        let tokens = self.inner.wanted().map_or(0, |wanted| wanted.next.len());
        #[cfg(feature = "threads")]
        self.choices.begin(tokens);
        let step = self.inner.step().map_err(to_js)?;
        #[cfg(feature = "threads")]
        self.choices.end(tokens);
        self.object(step)
    }

    /// Starts afresh, evaluates `tokens` and gives the logits of the last, `(n_vocab)`.
    ///
    /// # Errors
    /// `invalid_request` for an unknown token or none, `context_overflow`.
    pub fn eval_tokens(&mut self, tokens: &[u32]) -> JsResult<Vec<f32>> {
        Ok(self.inner.eval_tokens(tokens).map_err(to_js)?.to_vec())
    }

    /// Logits of the last evaluated token, `(n_vocab)`.
    #[must_use]
    pub fn logits(&self) -> Vec<f32> {
        self.inner.logits().to_vec()
    }

    /// Measures from now on what the time goes into.
    pub fn start_profile(&mut self) {
        self.inner.start_profile(now);
    }

    /// What has been measured since [`Self::start_profile`]: `[{phase, weights, ms, calls}]`.
    ///
    /// # Errors
    /// None in practice.
    pub fn profile(&mut self) -> JsResult<JsValue> {
        to_value(&self.inner.profile())
    }

    /// Memory of the KV cache and the working buffers, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.inner.memory_bytes()
    }
}

/// What only the build with `extras` has.
#[cfg(feature = "extras")]
#[wasm_bindgen]
impl Session {
    /// How likely each label is as the reply to a chat: its probability and its log-probability, in
    /// turn, `(labels, 2)`.
    ///
    /// # Errors
    /// `invalid_request` for no labels, an empty or a repeated one; those of `start_chat`.
    pub fn choose_chat(&mut self, messages: JsValue, labels: Vec<String>) -> JsResult<Vec<f32>> {
        let messages: Vec<Message> =
            serde_wasm_bindgen::from_value(messages).map_err(|e| bad_argument("messages", e))?;
        let choices = self.inner.choose_chat(&messages, &labels).map_err(to_js)?;
        let pair = |choice: &Choice| [choice.probability, choice.logprob];
        Ok(choices.iter().flat_map(pair).collect())
    }

    /// Bars all tokens but those whose bit is set in `mask` from being chosen next; only next.
    ///
    /// # Errors
    /// `invalid_request` if no reply was started.
    pub fn allow(&mut self, mask: &[u32]) -> JsResult<()> {
        self.inner.allow(mask).map_err(to_js)
    }

    /// The vector of a text, of length 1, `(n_embd)`: the mean over its tokens, or, with `last`, the
    /// last token's. Forgets the conversation.
    ///
    /// # Errors
    /// `invalid_request` for an empty text, `context_overflow`.
    pub fn embed(&mut self, text: &str, last: bool) -> JsResult<Vec<f32>> {
        let pooling = if last { Pooling::Last } else { Pooling::Mean };
        Ok(self.inner.embed(text, pooling).map_err(to_js)?.embedding)
    }
}
