//! A request that is being served, step by step.
//!
//! ```text
//! model loaded? ── no ──> load it; others that need it wait until that is over
//!   │
//! take the conversation that knows the prompt, or spring a fresh one
//!   │
//! start, then a step each turn until done; before each step: is the client still there?
//!   │
//! keep the conversation for what follows; after an error that may have left anything behind,
//! throw it away: the image it sprang from is as it was
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use meetara_api::{AdapterUse, ApiError, Prompt, Sampling, Usage};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::conversation::{Conversation, add_reply, text_of};
use super::images::Images;
use super::pool::Claim;
use super::scheduler::{Scheduler, Turn};
use super::{Event, Job, Model, State, Task, WorkerConfig};
use crate::sandbox::wire::{self, Choose, Embed, Start, Stepped};
use crate::sandbox::{Sandbox, SandboxError};

/// What all requests share.
pub(super) struct Shared {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) config: WorkerConfig,
    pub(super) stop: watch::Sender<bool>,
    pub(super) scheduler: Scheduler,
}

/// Why a request ended before it was complete.
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

/// How far a request is.
enum Stage {
    /// Its next answer, vector or other result must be begun.
    Next,
    /// A reply is in the making.
    Replying,
    /// All is done.
    Over,
}

/// One request.
pub(super) struct Running {
    shared: Arc<Shared>,
    model: Arc<Model>,
    job: Job,
    events: UnboundedSender<Event>,
    began: Instant,
    total: Usage,
    images: Option<Arc<Images>>,
    conversation: Option<Conversation>,
    stage: Stage,
    /// Answers or vectors that are complete.
    count: usize,
    /// The text of the answer in the making.
    reply: String,
    vectors: Vec<Vec<f32>>,
    /// The last event, sent when the conversation is back: who hears it may ask on at once.
    last: Option<Event>,
}

impl Running {
    pub(super) fn new(
        shared: &Arc<Shared>,
        model: &Arc<Model>,
        job: Job,
        events: UnboundedSender<Event>,
    ) -> Box<Self> {
        Box::new(Self {
            shared: Arc::clone(shared),
            model: Arc::clone(model),
            job,
            events,
            began: Instant::now(),
            total: Usage::default(),
            images: None,
            conversation: None,
            stage: Stage::Next,
            count: 0,
            reply: String::new(),
            vectors: Vec::new(),
            last: None,
        })
    }

    /// Whether anybody still waits for this.
    fn go_on(&self) -> Result<(), Abandoned> {
        match (*self.shared.stop.borrow(), self.events.is_closed()) {
            (true, _) => Err(Abandoned::Stopping),
            (_, true) => Err(Abandoned::Cancelled),
            _ => Ok(()),
        }
    }

    /// One step.
    fn step(&mut self) -> Result<(), Abandoned> {
        self.go_on()?;
        match self.stage {
            Stage::Next => self.begin(),
            Stage::Replying => self.reply_step(),
            Stage::Over => Ok(()),
        }
    }

    /// Begins the next answer, or does what takes one call.
    fn begin(&mut self) -> Result<(), Abandoned> {
        let adapters: Vec<_> = (self.job.adapters.iter())
            .map(|(adapter, scale)| AdapterUse {
                name: adapter.key.clone(),
                scale: *scale,
            })
            .collect();
        let mut conversation = self.conversation()?;
        let session = self.images()?.session;
        let instance = &mut conversation.instance;
        match &self.job.task {
            Task::Reply { prompt, samplings } => {
                let Some(params) = samplings.get(self.count) else {
                    self.stage = Stage::Over;
                    self.conversation = Some(conversation);
                    return Ok(());
                };
                let start = Start {
                    prompt: prompt.into(),
                    params,
                    adapters: &adapters,
                };
                let started = instance.start(session, &start);
                if started.is_ok() {
                    conversation.seen = text_of(prompt);
                }
                self.conversation = Some(conversation);
                self.total.prompt_tokens = started?.prompt_tokens;
                let _ = self.events.send(Event::Started);
                self.reply.clear();
                self.stage = Stage::Replying;
            }
            Task::Choose { prompt, labels } => {
                let choose = Choose {
                    prompt: prompt.into(),
                    labels,
                    adapters: &adapters,
                };
                let chosen = instance.choose(session, &choose);
                if chosen.is_ok() {
                    conversation.seen = text_of(prompt);
                }
                self.conversation = Some(conversation);
                let chosen = chosen?;
                self.total.prompt_tokens = chosen.prompt_tokens;
                self.last = Some(Event::Chosen(chosen.choices, chosen.prompt_tokens));
                self.stage = Stage::Over;
            }
            Task::Embed(texts) => {
                if let Some(text) = texts.get(self.count) {
                    let embed = Embed {
                        text,
                        adapters: &adapters,
                    };
                    let embedded = instance.embed(session, &embed)?;
                    self.total.prompt_tokens =
                        self.total.prompt_tokens.saturating_add(embedded.tokens);
                    self.vectors.push(embedded.embedding);
                    self.count += 1;
                    self.conversation = Some(conversation);
                } else {
                    let vectors = std::mem::take(&mut self.vectors);
                    self.last = Some(Event::Embedded(vectors, self.total.prompt_tokens));
                    self.stage = Stage::Over;
                }
            }
            Task::Load => {
                self.last = Some(Event::Loaded);
                self.stage = Stage::Over;
            }
        }
        Ok(())
    }

    /// A slice of the prompt, or one token.
    fn reply_step(&mut self) -> Result<(), Abandoned> {
        let session = self.images()?.session;
        let conversation = self.conversation.as_mut().ok_or_else(lost)?;
        match conversation.instance.step(session)? {
            Stepped::Prefill {} => {}
            Stepped::Token { text, logprobs } => {
                self.total.completion_tokens = self.total.completion_tokens.saturating_add(1);
                self.piece(text, logprobs);
            }
            Stepped::Done {
                finish,
                text,
                usage,
                logprobs,
            } => {
                self.piece(text, logprobs);
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
                if self.count == 0 {
                    self.total.prompt_tokens_details = usage.prompt_tokens_details;
                }
                self.count += 1;
                let finished = Event::Finished(finish, usage);
                if self.count < self.samplings().len() {
                    let _ = self.events.send(finished);
                    self.stage = Stage::Next;
                } else {
                    self.last = Some(finished);
                    self.stage = Stage::Over;
                }
            }
        }
        Ok(())
    }

    fn samplings(&self) -> &[Sampling] {
        match &self.job.task {
            Task::Reply { samplings, .. } => samplings,
            _ => &[],
        }
    }

    fn prompt(&self) -> Option<&Prompt> {
        match &self.job.task {
            Task::Reply { prompt, .. } | Task::Choose { prompt, .. } => Some(prompt),
            _ => None,
        }
    }

    fn piece(&mut self, text: String, logprobs: Option<wire::Logprobs>) {
        if !text.is_empty() || logprobs.is_some() {
            self.reply.push_str(&text);
            let logprobs = logprobs.map(Into::into);
            // A closed channel is noticed before the next step.
            let _ = self.events.send(Event::Piece { text, logprobs });
        }
    }

    fn images(&self) -> Result<&Arc<Images>, SandboxError> {
        self.images.as_ref().ok_or_else(lost)
    }

    /// The conversation of this request, found or made now if it has none yet.
    fn conversation(&mut self) -> Result<Conversation, SandboxError> {
        if let Some(conversation) = self.conversation.take() {
            return Ok(conversation);
        }
        let (sandbox, mix) = (&self.shared.sandbox, &self.job.adapters);
        let kept = self.prompt().and_then(|prompt| {
            let prompt = text_of(prompt);
            self.model.pool.take(mix, &prompt)
        });
        let mut conversation = match kept {
            Some(conversation) => conversation,
            None => {
                let image = self.images()?.with(sandbox, mix, &self.model)?;
                Conversation::new(sandbox, &image, mix)?
            }
        };
        // A call that takes long ends when nobody waits for it any more.
        let (events, stop) = (self.events.clone(), self.shared.stop.subscribe());
        let abandoned = move || events.is_closed() || *stop.borrow();
        conversation.instance.watch(Some(Arc::new(abandoned)));
        Ok(conversation)
    }

    /// A line in the log that says what the request cost and never what it said; an event if it
    /// failed; and the conversation goes back.
    fn end(&mut self, outcome: Result<(), Abandoned>) {
        let outcome = match outcome {
            // A call was stopped because of one of these.
            Err(Abandoned::Failed(SandboxError::Abandoned)) => {
                self.conversation = None;
                Err(self.go_on().err().unwrap_or(Abandoned::Cancelled))
            }
            other => other,
        };
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
                    self.conversation = None;
                }
                ("failed", Some(error.to_api()))
            }
        };
        tracing::info!(
            model = self.model.id,
            outcome,
            code = error.as_ref().and_then(|e| e.error.code.as_deref()),
            prompt_tokens = self.total.prompt_tokens,
            cached_tokens = self.total.prompt_tokens_details.cached_tokens,
            completion_tokens = self.total.completion_tokens,
            ms = self.began.elapsed().as_millis(),
            "chat"
        );
        if let (Some(mut conversation), Some(prompt)) = (self.conversation.take(), self.prompt()) {
            conversation.instance.watch(None);
            if !self.reply.is_empty() {
                add_reply(&mut conversation.seen, prompt, &self.reply);
            }
            let held = self.images.as_ref();
            let held = held.is_some_and(|images| images.holds(&self.job.adapters));
            if held && !conversation.seen.is_empty() {
                let kept_max = self.shared.config.kept_bytes_max;
                self.model.pool.put(conversation, kept_max);
            }
        }
        self.model.update();
        if let Some(event) = error.map(Event::Failed).or(self.last.take()) {
            // If the client is gone, there is nobody to tell.
            let _ = self.events.send(event);
        }
    }

    /// Loads the model for all who wait for it.
    fn load(&self) -> Result<Arc<Images>, SandboxError> {
        let began = Instant::now();
        let model = &self.model;
        model.set_state(State::Loading);
        let load = || Images::load(&self.shared.sandbox, model, &self.shared.config);
        // Whatever happens, those who wait must be told.
        let loaded = catch_unwind(AssertUnwindSafe(load));
        let loaded = loaded.unwrap_or_else(|_| Err(SandboxError::Trap("a panic".to_owned())));
        let loaded = loaded.map(Arc::new);
        if let Err(error) = &loaded {
            let reason = error.to_string();
            tracing::error!(model = model.id, "cannot be loaded: {reason}");
            model.set_state(if error.may_pass() {
                State::Idle
            } else {
                State::Failed { reason }
            });
        }
        for turn in model.pool.loaded(loaded.as_ref().ok().cloned()) {
            self.shared.scheduler.push(turn);
        }
        if let Ok(images) = &loaded {
            let load_ms = began.elapsed().as_millis();
            let memory_bytes = images.bytes();
            tracing::info!(model = model.id, load_ms, memory_bytes, "loaded");
            model.update();
        }
        loaded
    }

    /// Sees to it that the model is there; `None` when this request waits for it, or has failed.
    fn with_images(mut self: Box<Self>) -> Option<Box<Self>> {
        if self.images.is_some() {
            return Some(self);
        }
        // The client may have given up while the request waited.
        let ready = self.go_on().and_then(|()| match self.model.state() {
            State::Failed { reason } => Err(Abandoned::Failed(SandboxError::Engine {
                code: "invalid_model".to_owned(),
                message: reason,
            })),
            _ => Ok(()),
        });
        if ready.is_err() {
            self.end(ready);
            return None;
        }
        let model = Arc::clone(&self.model);
        let (mut running, images) = match model.pool.claim(self) {
            Claim::Waits => return None,
            Claim::Loaded(running, images) => (running, Ok(images)),
            Claim::Load(running) => {
                let images = running.load();
                (running, images)
            }
        };
        match images {
            Ok(images) => {
                running.images = Some(images);
                Some(running)
            }
            Err(error) => {
                running.end(Err(error.into()));
                None
            }
        }
    }
}

impl Turn for Running {
    fn turn(self: Box<Self>) -> Option<Box<dyn Turn>> {
        let mut running = self.with_images()?;
        match running.step() {
            Ok(()) if !matches!(running.stage, Stage::Over) => Some(running),
            outcome => {
                running.end(outcome);
                None
            }
        }
    }
}

impl Drop for Running {
    /// Hands the place on to the next request, however this one ended.
    fn drop(&mut self) {
        if let Some((job, events)) = self.model.queue.next() {
            let next = Self::new(&self.shared, &self.model, job, events);
            self.shared.scheduler.push(next);
        }
    }
}

fn lost() -> SandboxError {
    SandboxError::Component("a request lost its conversation".to_owned())
}
