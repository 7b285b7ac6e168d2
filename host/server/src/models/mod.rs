//! The models that are served: found once at the start, loaded when first asked for.
//!
//! Every model has an id, the images that its conversations spring from, and a queue; the threads of
//! the scheduler serve all. An id is `meetara:` and
//! the file's name in small letters without `meetara-`, quantisation and `.gguf`, everything but
//! letters, digits, `.`, `_` and `-` replaced by `-`: `meetara-pocket-q4_k_m.gguf` is
//! `meetara:pocket`. If a second file gives the same id, its whole name is taken, then its folders
//! too. So ids depend on names in the folder alone, and stay the same from start to start.

mod adapters;
mod conversation;
mod images;
mod pool;
mod queue;
mod reader;
mod route;
mod running;
mod scan;
mod scheduler;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use meetara_api::{
    AdapterUse, ApiError, FinishReason, LabelProbability, LoadAdapter, LoraAdapter, Prompt,
    Sampling, TokenLogprob, TurnsRead, Usage,
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

use crate::sandbox::wire::{Domain, KvType};
use crate::sandbox::{Sandbox, hex};
use adapters::Adapters;
use pool::Pool;
use queue::{Pushed, Queue};
use reader::Reader;
use running::{Running, Shared};
use scheduler::Scheduler;

pub use adapters::{Adapter, Mix};
pub use reader::{ReaderHealth, ToRead};
pub use route::Target;
pub use scan::{Found, Scanned, scan};

/// What every id begins with.
pub const ID_PREFIX: &str = "meetara:";

/// How requests are served.
#[derive(Clone, Copy, Debug)]
pub struct WorkerConfig {
    /// Threads that run the engine, for all models.
    pub threads: usize,
    /// Requests of one model that are served side by side.
    pub active_max: usize,
    /// Requests that may wait beyond these.
    pub queue_max: usize,
    /// Bytes that the conversations of one model may take while nobody talks in them.
    pub kept_bytes_max: usize,
    /// The most tokens of a conversation; 0 lets the engine choose.
    pub context_max: u32,
    /// How keys and values are kept.
    pub kv: KvType,
    /// The most bytes that the adapters over one model take together.
    pub adapter_bytes_max: u32,
    /// After so long without a request the memory is given back; `None` keeps it.
    pub idle: Option<Duration>,
}

/// What a request asks of a model.
pub struct Job {
    /// What is to be done.
    pub task: Task,
    /// What is added to the model while it is done.
    pub adapters: Mix,
}

/// What can be asked.
pub enum Task {
    /// Replies: one answer for each sampling, one after the other.
    Reply {
        /// What is replied to.
        prompt: Prompt,
        /// How each answer is drawn.
        samplings: Vec<Sampling>,
    },
    /// A vector for each text.
    Embed(Vec<String>),
    /// How likely each label is.
    Choose {
        /// What the labels answer.
        prompt: Prompt,
        /// The labels.
        labels: Vec<String>,
    },
    /// Nothing more than to load the model and the job's adapters.
    Load,
}

/// What a worker reports. For each answer in this order: `Started`, `Piece`s, `Finished`; for
/// another task one event.
#[derive(Debug)]
pub enum Event {
    /// The request was accepted: errors of the request itself come before this.
    Started,
    /// A piece of the answer.
    Piece {
        /// Complete UTF-8; empty only with `logprobs`.
        text: String,
        /// Of the token, if asked for.
        logprobs: Option<TokenLogprob>,
    },
    /// The vectors of an embedding task, and the tokens of all texts.
    Embedded(Vec<Vec<f32>>, u32),
    /// The labels of a choice, and the tokens of its prompt.
    Chosen(Vec<LabelProbability>, u32),
    /// What was to be loaded is in memory.
    Loaded,
    /// The answer is complete.
    Finished(FinishReason, Usage),
    /// The request failed; nothing follows.
    Failed(ApiError),
}

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
        /// The sandboxes' memory in bytes: engine and weights, which all conversations share, and
        /// what those take that are kept.
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
    file: String,
    /// The file's length.
    bytes: u64,
    /// When the file was last changed, in Unix seconds.
    pub created: u64,
    /// Differs when the engine or the file does.
    pub fingerprint: String,
    state: Mutex<State>,
    /// Keys of the adapters in its sandbox.
    resident: Mutex<Vec<String>>,
    /// What it has in memory.
    pool: Pool,
    /// Its requests.
    queue: Queue,
}

impl Model {
    fn new(found: Found, sandbox: &Sandbox, config: &WorkerConfig) -> Self {
        let Found {
            id,
            path,
            file,
            bytes,
            modified_s,
            fault,
        } = found;
        let source = format!("{} {id} {bytes} {modified_s}", sandbox.fingerprint());
        let fingerprint = hex(&Sha256::digest(source)[..6]);
        Self {
            id,
            path,
            file,
            bytes,
            created: modified_s,
            fingerprint: format!("fp_{fingerprint}"),
            state: Mutex::new(fault.map_or(State::Idle, |reason| State::Failed { reason })),
            resident: Mutex::default(),
            pool: Pool::new(),
            queue: Queue::new(config.active_max, config.queue_max),
        }
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }

    fn set_state(&self, state: State) {
        *lock(&self.state) = state;
    }

    /// Brings the state in line with what is in memory, if anything is.
    fn update(&self) {
        if let Some((memory_bytes, context_max)) = self.pool.memory() {
            self.set_state(State::Ready {
                memory_bytes,
                context_max,
            });
        }
    }

    /// Gives the memory back if nothing was asked for so long.
    fn release(&self, idle: Duration) {
        if self.queue.is_idle() && self.pool.release(idle) {
            tracing::info!(model = self.id, "unused; its memory is given back");
            lock(&self.resident).clear();
            self.set_state(State::Idle);
        }
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

/// All models and what their requests share.
pub struct Registry {
    models: Vec<Arc<Model>>,
    adapters: Adapters,
    /// The rows of `domains.toml`.
    domains: Vec<Domain>,
    reader: Arc<Reader>,
    shared: Arc<Shared>,
}

impl Registry {
    /// Wraps what [`scan`] found, and starts the threads.
    ///
    /// # Errors
    /// When the system has no thread left, or the component is not the one for this host.
    pub fn new(
        folder: &Path,
        found: Scanned,
        sandbox: Arc<Sandbox>,
        config: WorkerConfig,
    ) -> io::Result<Self> {
        let model = |found| Arc::new(Model::new(found, &sandbox, &config));
        let models: Vec<_> = found.models.into_iter().map(model).collect();
        if let Some(idle) = config.idle {
            release_unused(&models, idle)?;
        }
        let waiting_max = config.active_max + config.queue_max;
        let reader = Reader::new(Arc::clone(&sandbox), found.reader, waiting_max);
        Ok(Self {
            adapters: Adapters::new(folder, found.adapters, &models),
            models,
            domains: reader::domains(&sandbox).map_err(io::Error::other)?,
            reader: Arc::new(reader),
            shared: Arc::new(Shared {
                sandbox,
                config,
                stop: watch::Sender::new(false),
                scheduler: Scheduler::start(config.threads)?,
            }),
        })
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

    /// What a request for `id` with the field `adapters` is answered by: an id of an adapter
    /// stands for its base with it.
    ///
    /// # Errors
    /// Those of [`Self::get`]; 404 or 400 for an adapter that is not listed or of another model.
    pub fn get_with(
        &self,
        id: &str,
        used: &[AdapterUse],
    ) -> Result<(&Arc<Model>, Mix, String), ApiError> {
        let (model, alone) = match self.adapters.get(id) {
            Some(adapter) => (self.get(adapter.base())?, Some(adapter)),
            None => (self.get(id)?, None),
        };
        let id = alone.as_ref().map_or(model.id.clone(), |a| a.id());
        let mut mix: Mix = alone.into_iter().map(|adapter| (adapter, 1.0)).collect();
        mix.extend(self.adapters.mix(model, used)?);
        Ok((model, mix, id))
    }

    /// The adapters, and whether each is in memory.
    pub fn adapters(&self) -> Vec<LoraAdapter> {
        self.adapters.list(&self.models)
    }

    /// Loads an adapter, to see that it fits its base, and lists it.
    ///
    /// # Errors
    /// What is wrong with the request, the file, or the base.
    pub async fn load_adapter(&self, request: LoadAdapter) -> Result<Arc<Adapter>, ApiError> {
        let adapter = Arc::new(self.adapters.find(request, &self.models)?);
        let model = self.get(adapter.base())?;
        let job = Job {
            task: Task::Load,
            adapters: vec![(Arc::clone(&adapter), 1.0)],
        };
        match self.submit(model, job)?.recv().await {
            Some(Event::Loaded) => {}
            Some(Event::Failed(error)) => return Err(error),
            _ => return Err(ApiError::internal("The model's worker stopped. Try again.")),
        }
        self.adapters.add(Arc::clone(&adapter));
        Ok(adapter)
    }

    /// Forgets an adapter. Replies in the making go on with it.
    ///
    /// # Errors
    /// 404 when it is not listed.
    pub fn unload_adapter(&self, name: &str) -> Result<(), ApiError> {
        self.adapters.remove(name)
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

    /// Reads somebody's turns, before a model is asked.
    ///
    /// # Errors
    /// 503 when too many wait; what the sandbox fails with.
    pub async fn read(&self, to_read: ToRead) -> Result<TurnsRead, ApiError> {
        self.reader.read(&self.shared.scheduler, to_read).await
    }

    /// Whether there is a text model that reads feelings and domains.
    ///
    /// # Errors
    /// 503 with what to do, or what is wrong with its file.
    pub fn reader_usable(&self) -> Result<(), ApiError> {
        self.reader.usable()
    }

    /// What `/health` says of the reader.
    pub fn reader_health(&self) -> ReaderHealth<'_> {
        self.reader.health()
    }

    /// Has `job` served. Dropping the receiver cancels it within one step.
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
        match model.queue.push((job, events)) {
            Pushed::Waits => Ok(receiver),
            Pushed::Starts((job, events)) => {
                let running = Running::new(&self.shared, model, job, events);
                self.shared.scheduler.push(running);
                Ok(receiver)
            }
            Pushed::Full => Err(ApiError::overloaded(
                "Too many requests are waiting for this model. Try again later.",
            )),
        }
    }

    /// Ends every reply in progress, and every one that waits, with an error.
    pub fn stop(&self) {
        self.shared.stop.send_replace(true);
    }
}

/// Starts the thread that has unused models give their memory back.
fn release_unused(models: &[Arc<Model>], idle: Duration) -> io::Result<()> {
    let models: Vec<_> = models.iter().map(Arc::downgrade).collect();
    let pause = (idle / 4).clamp(Duration::from_millis(100), Duration::from_secs(10));
    let release = move || {
        loop {
            std::thread::sleep(pause);
            let mut alive = models.iter().filter_map(Weak::upgrade).peekable();
            if alive.peek().is_none() {
                return;
            }
            alive.for_each(|model| model.release(idle));
        }
    };
    let thread = std::thread::Builder::new().name("unused models".to_owned());
    thread.spawn(release).map(drop)
}

/// A poisoned lock guards whole values only, which stay valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
