//! The thread that serves one model: requests come one by one, in the order of arrival.
//!
//! ```text
//! wait for a request ── none for a while ──> give the memory back
//!   │
//! load, unless loaded ── fails ──> report; a fault of the file is remembered
//!   │
//! start, then step by step until done; before each step: is the client still there?
//!   │
//! an error that may have left anything behind ──> throw the instance away
//! ```
//!
//! One request at a time, since the engine uses one thread: to interleave two would finish
//! neither sooner. They share one session, so that a conversation which goes on finds its
//! beginning in the KV cache.

use std::sync::Arc;
use std::time::Instant;

use meetara_api::{AdapterUse, ApiError, Usage};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::{Event, Job, Mix, Model, State, Task, WorkerConfig, lock};
use crate::sandbox::wire::{self, Choose, Embed, Start, Stepped};
use crate::sandbox::{Instance, Sandbox, SandboxError};

/// What is loaded.
struct Loaded {
    instance: Instance,
    session: i32,
    /// For embeddings, opened by the first: they must not take a conversation's cache away.
    side_session: Option<i32>,
    context_max: u32,
}

/// Why a reply ended before it was complete.
enum Abandoned {
    /// The client went away.
    Cancelled,
    /// The host is shutting down.
    Stopping,
    /// The sandbox or the engine failed.
    Failed(SandboxError),
}

impl From<SandboxError> for Abandoned {
    fn from(error: SandboxError) -> Self {
        Self::Failed(error)
    }
}

/// The worker of one model.
pub(super) struct Worker {
    sandbox: Arc<Sandbox>,
    model: Arc<Model>,
    config: WorkerConfig,
    stop: watch::Receiver<bool>,
    loaded: Option<Loaded>,
}

impl Worker {
    pub(super) fn new(
        sandbox: Arc<Sandbox>,
        model: Arc<Model>,
        config: WorkerConfig,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            sandbox,
            model,
            config,
            stop,
            loaded: None,
        }
    }

    /// Serves for as long as the program runs.
    pub(super) fn run(mut self) {
        /// Says so when this thread ends, which only a fault in it can make it do.
        struct Attendance(Arc<Model>);
        impl Drop for Attendance {
            fn drop(&mut self) {
                self.0.queue.abandon();
                self.0.set_state(State::Idle);
            }
        }
        let _attendance = Attendance(Arc::clone(&self.model));
        loop {
            let idle = self.loaded.as_ref().and(self.config.idle);
            match self.model.queue.take(idle) {
                Some((job, events)) => self.serve(&job, &events),
                None => {
                    tracing::info!(model = self.model.id, "unused; its memory is given back");
                    self.unload();
                }
            }
        }
    }

    fn unload(&mut self) {
        self.loaded = None;
        lock(&self.model.resident).clear();
        self.model.set_state(State::Idle);
    }

    /// One request, and a line in the log that says what it cost and never what it said.
    fn serve(&mut self, job: &Job, events: &UnboundedSender<Event>) {
        let began = Instant::now();
        let mut total = Usage::default();
        let outcome = self.answer(job, events, &mut total);
        let (outcome, error) = match outcome {
            Ok(()) => ("done", None),
            Err(Abandoned::Cancelled) => ("cancelled", None),
            Err(Abandoned::Stopping) => (
                "stopped",
                Some(ApiError::overloaded("The server is shutting down.")),
            ),
            Err(Abandoned::Failed(error)) => {
                if error.spoils_instance() {
                    tracing::error!(model = self.model.id, "{error}");
                    if self.loaded.is_some() {
                        self.unload();
                    }
                }
                ("failed", Some(error.to_api()))
            }
        };
        tracing::info!(
            model = self.model.id,
            outcome,
            code = error.as_ref().and_then(|e| e.error.code.as_deref()),
            prompt_tokens = total.prompt_tokens,
            cached_tokens = total.prompt_tokens_details.cached_tokens,
            completion_tokens = total.completion_tokens,
            ms = began.elapsed().as_millis(),
            "chat"
        );
        if let Some(error) = error {
            // If the client is gone, there is nobody to tell.
            let _ = events.send(Event::Failed(error));
        }
    }

    fn answer(
        &mut self,
        job: &Job,
        events: &UnboundedSender<Event>,
        total: &mut Usage,
    ) -> Result<(), Abandoned> {
        let stop = self.stop.clone();
        let go_on = || match (*stop.borrow(), events.is_closed()) {
            (true, _) => Err(Abandoned::Stopping),
            (_, true) => Err(Abandoned::Cancelled),
            _ => Ok(()),
        };
        // The client may have given up while the request waited.
        go_on()?;
        let model = Arc::clone(&self.model);
        let loaded = self.load()?;
        let (instance, session) = (&mut loaded.instance, loaded.session);
        // Named by every task, so that none sees the adapters of the one before.
        let adapters = &*load_adapters(instance, &job.adapters, &model)?;
        match &job.task {
            Task::Reply { prompt, samplings } => {
                for (index, params) in samplings.iter().enumerate() {
                    let prompt = prompt.into();
                    let start = Start {
                        prompt,
                        params,
                        adapters,
                    };
                    let started = instance.start(session, &start)?;
                    total.prompt_tokens = started.prompt_tokens;
                    let _ = events.send(Event::Started);
                    let usage = reply(instance, session, events, &go_on, total)?;
                    if index == 0 {
                        total.prompt_tokens_details = usage.prompt_tokens_details;
                    }
                }
            }
            Task::Choose { prompt, labels } => {
                let choose = Choose {
                    prompt: prompt.into(),
                    labels,
                    adapters,
                };
                let chosen = instance.choose(session, &choose)?;
                total.prompt_tokens = chosen.prompt_tokens;
                let _ = events.send(Event::Chosen(chosen.choices, chosen.prompt_tokens));
            }
            Task::Embed(texts) => {
                let session = match loaded.side_session {
                    Some(session) => session,
                    None => instance.open_session(loaded.context_max)?.0,
                };
                loaded.side_session = Some(session);
                let mut vectors = Vec::with_capacity(texts.len());
                for text in texts {
                    go_on()?;
                    let embedded = instance.embed(session, &Embed { text, adapters })?;
                    total.prompt_tokens = total.prompt_tokens.saturating_add(embedded.tokens);
                    vectors.push(embedded.embedding);
                }
                let _ = events.send(Event::Embedded(vectors, total.prompt_tokens));
            }
            Task::Load => {
                let _ = events.send(Event::Loaded);
            }
        }
        // The KV cache may have grown.
        let memory_bytes = instance.memory_bytes();
        if let State::Ready { context_max, .. } = self.model.state() {
            self.model.set_state(State::Ready {
                memory_bytes,
                context_max,
            });
        }
        Ok(())
    }

    /// The loaded model, loaded now if it is not yet.
    fn load(&mut self) -> Result<&mut Loaded, SandboxError> {
        if let State::Failed { reason } = self.model.state() {
            return Err(SandboxError::Engine {
                code: "invalid_model".to_owned(),
                message: reason,
            });
        }
        let loaded = match self.loaded.take() {
            Some(loaded) => loaded,
            None => self.load_now()?,
        };
        Ok(self.loaded.insert(loaded))
    }

    fn load_now(&self) -> Result<Loaded, SandboxError> {
        self.model.set_state(State::Loading);
        let began = Instant::now();
        match self.try_load() {
            Ok((loaded, context_max)) => {
                let memory_bytes = loaded.instance.memory_bytes();
                self.model.set_state(State::Ready {
                    memory_bytes,
                    context_max,
                });
                let load_ms = began.elapsed().as_millis();
                tracing::info!(model = self.model.id, load_ms, memory_bytes, "loaded");
                Ok(loaded)
            }
            Err(error) => {
                let reason = error.to_string();
                tracing::error!(model = self.model.id, "cannot be loaded: {reason}");
                self.model.set_state(if error.may_pass() {
                    State::Idle
                } else {
                    State::Failed { reason }
                });
                Err(error)
            }
        }
    }

    fn try_load(&self) -> Result<(Loaded, u32), SandboxError> {
        let path = &self.model.path;
        let file_len = std::fs::metadata(path)
            .map_err(|source| SandboxError::File {
                path: path.clone(),
                source,
            })?
            .len();
        let mut instance = Instance::new(&self.sandbox)?;
        let facts = instance.load(path, file_len)?;
        if !facts.chat {
            return Err(SandboxError::Engine {
                code: "unsupported_model".to_owned(),
                message: "the file has no chat template (tokenizer.chat_template), so it cannot chat; use an instruction-tuned model"
                    .to_owned(),
            });
        }
        instance.set_adapters_max(self.config.adapter_bytes_max)?;
        // One setting for all models, so it is no error if one of them holds less.
        let context_max = u64::from(self.config.context_max).min(facts.context_len);
        let context_max = u32::try_from(context_max).unwrap_or(u32::MAX);
        let (session, opened) = instance.open_session(context_max)?;
        let context_max = opened.context_max;
        let loaded = Loaded {
            instance,
            session,
            side_session: None,
            context_max,
        };
        Ok((loaded, context_max))
    }
}

/// Reads the adapters of `mix` that the sandbox does not hold, and gives all of them as it knows them.
fn load_adapters(
    instance: &mut Instance,
    mix: &Mix,
    model: &Model,
) -> Result<Vec<AdapterUse>, SandboxError> {
    // To load one may drop another that this request needs too, if that was used long ago. The
    // last loaded goes last, so with as many rounds as adapters all are there, if all fit.
    for _ in mix {
        let held = instance.adapters()?;
        let missing: Vec<_> = mix.iter().filter(|(a, _)| !held.contains(&a.key)).collect();
        if missing.is_empty() {
            break;
        }
        for (adapter, _) in missing {
            let began = Instant::now();
            let loaded = instance.load_adapter(&adapter.key, &adapter.path);
            loaded.map_err(|error| named(error, &adapter.name))?;
            let load_us = began.elapsed().as_micros();
            tracing::info!(model = model.id, adapter = adapter.name, load_us, "loaded");
        }
        *lock(&model.resident) = instance.adapters()?;
    }
    let used = mix.iter().map(|(adapter, scale)| AdapterUse {
        name: adapter.key.clone(),
        scale: *scale,
    });
    Ok(used.collect())
}

/// The error with the name of the adapter that it is about.
fn named(error: SandboxError, name: &str) -> SandboxError {
    match error {
        // What is wrong lies in the request, which chose the file: no fault of the base.
        SandboxError::Engine { message, .. } => SandboxError::Engine {
            code: "invalid_request".to_owned(),
            message: format!("adapter '{name}': {message}"),
        },
        other => other,
    }
}

/// Steps through one answer and reports it.
fn reply(
    instance: &mut Instance,
    session: i32,
    events: &UnboundedSender<Event>,
    go_on: &impl Fn() -> Result<(), Abandoned>,
    total: &mut Usage,
) -> Result<Usage, Abandoned> {
    let piece = |text: String, logprobs: Option<wire::Logprobs>| {
        if !text.is_empty() || logprobs.is_some() {
            let logprobs = logprobs.map(Into::into);
            // A closed channel is noticed before the next step.
            let _ = events.send(Event::Piece { text, logprobs });
        }
    };
    loop {
        go_on()?;
        match instance.step(session)? {
            Stepped::Prefill {} => {}
            Stepped::Token { text, logprobs } => {
                total.completion_tokens = total.completion_tokens.saturating_add(1);
                piece(text, logprobs);
            }
            Stepped::Done {
                finish,
                text,
                usage,
                logprobs,
            } => {
                piece(text, logprobs);
                let usage = Usage::new(
                    usage.prompt_tokens,
                    usage.completion_tokens,
                    usage.cached_tokens,
                )
                .with_details(
                    usage.drafted_tokens,
                    usage.accepted_tokens,
                    usage.dropped_messages,
                );
                let _ = events.send(Event::Finished(finish, usage));
                return Ok(usage);
            }
        }
    }
}
