//! The models that are served: found once at the start, loaded when first asked for.
//!
//! Every model has an id, a worker thread and an instance of its own. An id is `meetara:` and
//! the file's name without `.gguf`, in small letters, everything but letters, digits, `.`, `_`
//! and `-` replaced by `-`. If a second file gives the same id, its folders are put before its
//! name. So ids depend on names in the folder alone, and stay the same from start to start.

mod scan;
mod worker;

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meetara_api::{ApiError, FinishReason, Message, Sampling, Usage};
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::sandbox::Sandbox;

pub use scan::scan;

/// What every id begins with.
pub const ID_PREFIX: &str = "meetara:";

/// How the workers behave.
#[derive(Clone, Copy, Debug)]
pub struct WorkerConfig {
    /// Requests that may wait.
    pub queue_max: usize,
    /// The most tokens of a conversation; 0 lets the engine choose.
    pub context_max: u32,
    /// After so long without a request the memory is given back; `None` keeps it.
    pub idle: Option<Duration>,
}

/// What a request asks of a model.
pub struct Job {
    /// The conversation.
    pub messages: Vec<Message>,
    /// One answer for each, one after the other.
    pub samplings: Vec<Sampling>,
}

/// What a worker reports, in this order for each answer: `Started`, `Text`s, `Finished`.
#[derive(Debug)]
pub enum Event {
    /// The request was accepted: errors of the request itself come before this.
    Started,
    /// A piece of the answer: complete UTF-8, never empty.
    Text(String),
    /// The answer is complete.
    Finished(FinishReason, Usage),
    /// The request failed; nothing follows.
    Failed(ApiError),
}

/// A job and where its events go.
type Queued = (Job, UnboundedSender<Event>);

/// What `/health` says of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// On disk only; loaded by the next request.
    Idle,
    /// Being loaded.
    Loading,
    /// In memory.
    Ready {
        /// The sandbox's memory in bytes: engine, weights and KV cache.
        memory_bytes: usize,
        /// The most tokens of a conversation, prompt and reply together.
        context_max: u32,
    },
    /// Cannot be loaded, for a reason that lies in the file.
    Failed {
        /// What is wrong and what to do.
        reason: String,
    },
}

/// One model.
pub struct Model {
    /// What clients call it.
    pub id: String,
    /// Its file.
    path: PathBuf,
    /// The file below the folder of models, for people.
    pub file: String,
    /// The file's length.
    bytes: u64,
    /// When the file was last changed, in Unix seconds.
    pub created: u64,
    /// Differs when the engine or the file does.
    pub fingerprint: String,
    state: Mutex<State>,
    /// The way to the worker, once there is one.
    queue: Mutex<Option<SyncSender<Queued>>>,
}

impl Model {
    /// What it is doing.
    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }

    fn set_state(&self, state: State) {
        *lock(&self.state) = state;
    }
}

/// A line of `/health`.
#[derive(Serialize)]
pub struct ModelHealth<'a> {
    id: &'a str,
    file: &'a str,
    bytes: u64,
    #[serde(flatten)]
    state: State,
}

/// All models and what their workers share.
pub struct Registry {
    models: Vec<Arc<Model>>,
    sandbox: Arc<Sandbox>,
    config: WorkerConfig,
    stop: watch::Sender<bool>,
}

impl Registry {
    /// Wraps what [`scan`] found.
    pub fn new(models: Vec<Model>, sandbox: Arc<Sandbox>, config: WorkerConfig) -> Self {
        Self {
            models: models.into_iter().map(Arc::new).collect(),
            sandbox,
            config,
            stop: watch::Sender::new(false),
        }
    }

    /// The models that can be asked, in the order of their ids.
    pub fn usable(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models
            .iter()
            .filter(|model| !matches!(model.state(), State::Failed { .. }))
    }

    /// The model of that id, `meetara:` may be left out.
    ///
    /// # Errors
    /// 404 when there is none; 503 with the reason when its file is of no use.
    pub fn get(&self, id: &str) -> Result<&Arc<Model>, ApiError> {
        let model = self
            .models
            .iter()
            .find(|model| model.id == id || model.id.strip_prefix(ID_PREFIX) == Some(id))
            .ok_or_else(|| ApiError::model_not_found(id))?;
        match model.state() {
            State::Failed { reason } => Err(ApiError::model_unavailable(reason)),
            _ => Ok(model),
        }
    }

    /// Every model, of use or not.
    pub fn health(&self) -> Vec<ModelHealth<'_>> {
        self.models
            .iter()
            .map(|model| ModelHealth {
                id: &model.id,
                file: &model.file,
                bytes: model.bytes,
                state: model.state(),
            })
            .collect()
    }

    /// Hands `job` to the model's worker. Dropping the receiver cancels it within one step.
    ///
    /// # Errors
    /// 503 when too many requests wait already.
    pub fn submit(
        &self,
        model: &Arc<Model>,
        job: Job,
    ) -> Result<UnboundedReceiver<Event>, ApiError> {
        // Unbounded, so that a slow reader holds nobody else up; the context bounds what it holds.
        let (events, receiver) = unbounded_channel();
        let mut queue = lock(&model.queue);
        let sender = match queue.as_ref() {
            Some(sender) => sender,
            None => queue.insert(self.spawn(model)?),
        };
        match sender.try_send((job, events)) {
            Ok(()) => Ok(receiver),
            Err(TrySendError::Full(_)) => Err(ApiError::overloaded(format!(
                "{} requests are waiting for this model already. Try again later.",
                self.config.queue_max
            ))),
            Err(TrySendError::Disconnected(_)) => {
                // The worker is gone, which only a fault in it can do; the next request gets another.
                *queue = None;
                Err(ApiError::internal("The model's worker stopped. Try again."))
            }
        }
    }

    fn spawn(&self, model: &Arc<Model>) -> Result<SyncSender<Queued>, ApiError> {
        let (sender, jobs) = sync_channel(self.config.queue_max);
        let worker = worker::Worker::new(
            Arc::clone(&self.sandbox),
            Arc::clone(model),
            self.config,
            self.stop.subscribe(),
        );
        std::thread::Builder::new()
            .name(model.id.clone())
            .spawn(move || worker.run(&jobs))
            .map_err(|e| {
                tracing::error!("no thread for {}: {e}", model.id);
                ApiError::overloaded("The server has no thread left for this model.")
            })?;
        Ok(sender)
    }

    /// Ends every reply in progress, and every one that waits, with an error.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// A poisoned lock guards whole values only, which stay valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
