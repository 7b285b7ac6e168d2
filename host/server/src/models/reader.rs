//! What is read of a conversation before a model is asked: feeling, domain, danger.
//!
//! The first `*.gguf` below the folder of models that is an encoder with the heads of a reader is loaded into an image
//! of its own when it is first needed; every reading is done in an instance that springs from it and is thrown away, so
//! nothing of it stays. Without such a file, or with a damaged one, the engine's rules still look for danger: they are
//! part of the component.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use meetara_api::{ApiError, TurnsRead};
use serde::Serialize;
use tokio::sync::{Semaphore, oneshot};

use super::lock;
use super::scan::FoundReader;
use super::scheduler::{Scheduler, Turn};
use crate::sandbox::wire::{Domain, Read};
use crate::sandbox::{Image, Instance, Sandbox, SandboxError};

/// Is read once before the image is taken, so that the rules are built in it, and the likeliest compiled.
const WARM_UP: &str = "I want to talk to you about my life, my family and my health, because I am not sure that I can go on with it. Help me.";

/// The reader's file, the instances' image, and who waits.
pub(super) struct Reader {
    sandbox: Arc<Sandbox>,
    found: Option<FoundReader>,
    loaded: Mutex<Loaded>,
    waiting: Arc<Semaphore>,
}

#[derive(Default)]
struct Loaded {
    image: Option<Arc<Image>>,
    /// Why the file is of no use, if it is not.
    fault: Option<String>,
}

/// What `/health` says of it.
#[derive(Serialize)]
pub struct ReaderHealth<'a> {
    /// The file below the folder of models; `None`: there is none, and only rules look for danger.
    file: Option<&'a str>,
    /// `none`, `idle`, `ready` or `failed`.
    state: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What is to be read.
#[derive(Debug)]
pub struct ToRead {
    /// Somebody's turns, oldest first.
    pub turns: Vec<String>,
    /// Where they are.
    pub region: Option<String>,
    /// Whether their feelings are asked for.
    pub feelings: bool,
}

impl Reader {
    /// At most `waiting_max` readings may wait for their turn.
    pub(super) fn new(
        sandbox: Arc<Sandbox>,
        found: Option<FoundReader>,
        waiting_max: usize,
    ) -> Self {
        Self {
            sandbox,
            found,
            loaded: Mutex::default(),
            waiting: Arc::new(Semaphore::new(waiting_max)),
        }
    }

    /// Whether there is a text model, as far as is known.
    ///
    /// # Errors
    /// 503 with what to do, or what is wrong with the file.
    pub(super) fn usable(&self) -> Result<(), ApiError> {
        if self.found.is_none() {
            return Err(ApiError::model_unavailable(
                "There is no text model here that reads feelings and domains; put text-emotion.gguf into the folder of models and start the host again.",
            ));
        }
        match &lock(&self.loaded).fault {
            Some(fault) => Err(ApiError::model_unavailable(fault.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn health(&self) -> ReaderHealth<'_> {
        let loaded = lock(&self.loaded);
        let state = match (&self.found, &loaded.fault, &loaded.image) {
            (None, ..) => "none",
            (_, Some(_), _) => "failed",
            (_, _, Some(_)) => "ready",
            _ => "idle",
        };
        ReaderHealth {
            file: self.found.as_ref().map(|found| found.file.as_str()),
            state,
            reason: loaded.fault.clone(),
        }
    }

    /// Reads on one of the engine's threads, when its turn comes.
    ///
    /// # Errors
    /// 503 when too many wait already; what the sandbox fails with.
    pub(super) async fn read(
        self: &Arc<Self>,
        scheduler: &Scheduler,
        to_read: ToRead,
    ) -> Result<TurnsRead, ApiError> {
        let permit = Arc::clone(&self.waiting).try_acquire_owned();
        let _permit = permit.map_err(|_| {
            ApiError::overloaded("Too many requests are waiting to be read. Try again later.")
        })?;
        let (answer, read) = oneshot::channel();
        scheduler.push(Box::new(Reading {
            reader: Arc::clone(self),
            to_read,
            answer,
        }));
        match read.await {
            Ok(read) => read.map_err(|error| {
                if error.spoils_instance() {
                    tracing::error!("a text could not be read: {error}");
                }
                error.to_api()
            }),
            Err(_) => Err(ApiError::internal("The reader stopped. Try again.")),
        }
    }

    fn read_now(&self, to_read: &ToRead) -> Result<TurnsRead, SandboxError> {
        let image = self.image()?;
        Instance::spring(&self.sandbox, &image)?.read(&Read {
            turns: &to_read.turns,
            region: to_read.region.as_deref(),
            feelings: to_read.feelings,
        })
    }

    /// The image, made now if it is not there yet; who comes meanwhile waits.
    fn image(&self) -> Result<Arc<Image>, SandboxError> {
        let mut loaded = lock(&self.loaded);
        if let Some(image) = &loaded.image {
            return Ok(Arc::clone(image));
        }
        let began = Instant::now();
        let (mut instance, fault) = self.load()?;
        instance.read(&Read {
            turns: &[WARM_UP.to_owned()],
            region: None,
            feelings: false,
        })?;
        let image = instance.image(None)?;
        loaded.fault = fault;
        loaded.image = Some(Arc::clone(&image));
        let (load_ms, memory_bytes) = (began.elapsed().as_millis(), image.bytes());
        tracing::info!(load_ms, memory_bytes, "the reader is loaded");
        Ok(image)
    }

    /// An instance with the reader's file in it; without it, and why, if the file is of no use.
    fn load(&self) -> Result<(Instance, Option<String>), SandboxError> {
        let mut instance = Instance::new(&self.sandbox)?;
        let Some(found) = &self.found else {
            return Ok((instance, None));
        };
        match instance.load_reader(&found.path) {
            Ok(()) => Ok((instance, None)),
            Err(error) if error.may_pass() => Err(error),
            Err(error) => {
                tracing::error!(
                    "the reader {} cannot be loaded, so only rules look for danger: {error}",
                    found.file
                );
                Ok((Instance::new(&self.sandbox)?, Some(error.to_string())))
            }
        }
    }
}

/// The domains that the component knows.
///
/// # Errors
/// When it is not the engine that this host knows.
pub(super) fn domains(sandbox: &Sandbox) -> Result<Vec<Domain>, SandboxError> {
    Instance::new(sandbox)?.domains()
}

/// One reading that waits for its turn.
struct Reading {
    reader: Arc<Reader>,
    to_read: ToRead,
    answer: oneshot::Sender<Result<TurnsRead, SandboxError>>,
}

impl Turn for Reading {
    fn turn(self: Box<Self>) -> Option<Box<dyn Turn>> {
        // A client that is gone needs no answer.
        if !self.answer.is_closed() {
            let read = self.reader.read_now(&self.to_read);
            let _ = self.answer.send(read);
        }
        None
    }
}
