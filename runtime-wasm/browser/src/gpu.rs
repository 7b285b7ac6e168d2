//! Models and sessions that use the browser's GPU, in the build with the feature `gpu`.
//!
//! ```text
//! ModelBuffer.into_model_on_gpu   weights to the GPU as they lie in the file, then as `into_model`
//! Model.session_on_gpu            a session on both, and the self-test with the first of them
//! Session.step_on_gpu             as `step`; at the first failure of the GPU the CPU goes on
//! ```
//!
//! None of them fails for the GPU's sake: what they give works on the CPU, and `gpu_reason` says why
//! it has to. While a promise is pending its object is in use: no other method of it may be called,
//! `free` neither.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use meetara_engine::generate;
use meetara_gpu::{Accept, Gpu, GpuModel, GpuSession, Reason, Report, Weights, self_test};
use serde::Serialize;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::buffer::ModelBuffer;
use crate::error::{JsResult, to_js, to_value};
use crate::model::Model;
use crate::session::Session;

#[wasm_bindgen]
extern "C" {
    /// Milliseconds on a clock that never goes back.
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn now_ms() -> f64;
}

/// What a model has on the GPU.
pub(crate) struct Half {
    /// Its weights and kernels, or why there are none.
    model: RefCell<Result<Arc<GpuModel>, Reason>>,
    /// What the first session's self-test found.
    report: Cell<Option<Report>>,
}

impl Default for Half {
    fn default() -> Self {
        Self {
            model: RefCell::new(Err(Reason::NoAdapter)),
            report: Cell::new(None),
        }
    }
}

impl Half {
    /// A session on the GPU beside `cpu`, after the self-test if there was none yet.
    async fn open(
        &self,
        cpu: &mut generate::Session,
        must_be_faster: bool,
    ) -> Result<GpuSession, Reason> {
        let model = self.model.borrow().clone()?;
        let mut gpu = GpuSession::new(model, cpu.context_max()).await?;
        if self.report.get().is_none() {
            let tested = self_test(&mut gpu, cpu, now_ms).await;
            self.report.set(tested.as_ref().ok().copied());
            let verdict = tested.and_then(|report| match must_be_faster {
                true => report.verdict(),
                false => report.correct(),
            });
            if let Err(reason) = verdict {
                // Gives the GPU's memory back; no session will use it.
                *self.model.borrow_mut() = Err(reason.clone());
                return Err(reason);
            }
        }
        Ok(gpu)
    }
}

/// [`Reason`] as JavaScript sees it.
#[derive(Serialize)]
struct ReasonObject {
    code: &'static str,
    message: String,
}

/// [`Report`] as JavaScript sees it.
#[derive(Serialize)]
struct ReportObject {
    cosine: f64,
    gpu_ms: f64,
    cpu_ms: f64,
}

#[wasm_bindgen]
impl ModelBuffer {
    /// Copies the weights to the GPU, then does as `into_model`. The bytes here are kept, so that the
    /// CPU can go on at any time. With `software` an adapter that is a program will do as well.
    ///
    /// # Errors
    /// As `into_model`.
    pub async fn into_model_on_gpu(self, software: bool) -> JsResult<Model> {
        let accept = match software {
            true => Accept::Software,
            false => Accept::Hardware,
        };
        // The engine lays the bytes out anew, so the GPU comes first.
        let uploaded = match Gpu::request(accept).await {
            Ok(gpu) => Weights::upload(&gpu, &self.bytes).map(|weights| (gpu, weights)),
            Err(reason) => Err(reason),
        };
        let model = self.into_model()?;
        let half = match uploaded {
            Ok((gpu, weights)) => GpuModel::new(gpu, weights, &model.inner).await,
            Err(reason) => Err(reason),
        };
        *model.gpu.model.borrow_mut() = half;
        Ok(model)
    }
}

#[wasm_bindgen]
impl Model {
    /// Opens a conversation as `session` does, on the GPU as well. The first one tests whether the GPU
    /// computes what the CPU computes, and, with `must_be_faster`, sooner.
    ///
    /// # Errors
    /// As `session`.
    pub async fn session_on_gpu(
        &self,
        context_max: Option<u32>,
        must_be_faster: bool,
    ) -> JsResult<Session> {
        let mut session = self.session(context_max)?;
        session.gpu = self.gpu.open(&mut session.inner, must_be_faster).await;
        Ok(session)
    }

    /// What the self-test found: `{cosine, gpu_ms, cpu_ms}`, times for a token; `undefined` before.
    ///
    /// # Errors
    /// None in practice.
    pub fn gpu_report(&self) -> JsResult<JsValue> {
        self.gpu
            .report
            .get()
            .map_or(Ok(JsValue::UNDEFINED), |report| {
                to_value(&ReportObject {
                    cosine: report.cosine,
                    gpu_ms: report.gpu_ms,
                    cpu_ms: report.cpu_ms,
                })
            })
    }
}

#[wasm_bindgen]
impl Session {
    /// As `step`, with logits from the GPU for as long as it is sound.
    ///
    /// # Errors
    /// As `step`; none for a failure of the GPU.
    pub async fn step_on_gpu(&mut self) -> JsResult<JsValue> {
        let step = meetara_gpu::step(&mut self.inner, &mut self.gpu).await;
        self.object(step.map_err(to_js)?)
    }

    /// Why the session runs on the CPU: `{code, message}`; `undefined` while it runs on the GPU.
    ///
    /// # Errors
    /// None in practice.
    pub fn gpu_reason(&self) -> JsResult<JsValue> {
        self.gpu
            .as_ref()
            .err()
            .map_or(Ok(JsValue::UNDEFINED), |reason| {
                to_value(&ReasonObject {
                    code: reason.code(),
                    message: reason.to_string(),
                })
            })
    }

    /// GPU memory of the model's weights and of the session's own buffers, in bytes.
    #[must_use]
    pub fn gpu_bytes(&self) -> f64 {
        self.gpu
            .as_ref()
            .map_or(0.0, |gpu| gpu.memory_bytes() as f64)
    }
}
