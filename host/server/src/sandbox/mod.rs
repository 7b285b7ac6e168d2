//! The engine inside wasmtime: compiled once; a model is loaded once, and every conversation has an
//! instance of its own that springs from the image of the loaded one.
//!
//! Invariants: the module imports nothing, so a model file can reach neither
//! files nor network whatever it makes the engine do; each instance has a limit
//! on its memory, each call a limit on its time; no instance sees what another wrote.

mod compile;
mod error;
mod guest;
mod image;
mod instance;
mod memory;
mod split;
pub mod wire;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Config, Engine, Module, OptLevel};

use compile::Opened;
pub use compile::find;
pub(crate) use compile::hex;
pub use error::SandboxError;
pub use guest::Abandoned;
pub use image::Image;
pub use instance::Instance;
use memory::Memories;

/// Length of an epoch: how exactly the limit on a call's time is kept.
const EPOCH: Duration = Duration::from_millis(20);

/// Stack of the guest in bytes. The template engine and the parser recurse, within limits of
/// their own that stay far below this.
const STACK_BYTES: usize = 1 << 20;

/// What one instance may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Linear memory in bytes.
    pub memory_bytes_max: usize,
    /// What a conversation may add to the memory of the model that it is held with, in bytes.
    pub conversation_bytes_max: usize,
    /// Time of one call.
    pub call_max: Duration,
}

/// The compiled engine and the limits of its instances.
pub struct Sandbox {
    engine: Engine,
    module: Module,
    /// The memory of an instance with no model in it.
    blank: Arc<Image>,
    limits: Limits,
    fingerprint: String,
}

impl Sandbox {
    /// Compiles the component at `path`, or takes the compiled form from the cache beside it.
    ///
    /// # Errors
    /// When the file cannot be read, is no WebAssembly, imports anything, or is not the engine
    /// that this host knows.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, SandboxError> {
        let engine = engine()?;
        let Opened {
            module,
            memory,
            fingerprint,
        } = compile::open(&engine, path)?;
        if let Some(import) = module.imports().next() {
            return Err(SandboxError::Component(format!(
                "{} imports {}.{}, but the sandboxed engine imports nothing; build it with `cargo xtask wasm`",
                path.display(),
                import.module(),
                import.name(),
            )));
        }
        tick(&engine)?;
        let blank = Image::new(&memory).map_err(SandboxError::Image)?;
        let sandbox = Self {
            engine,
            module,
            blank: Arc::new(blank),
            limits,
            fingerprint,
        };
        // Costs microseconds, and a component of another version is better noticed now.
        Instance::new(&sandbox)?;
        Ok(sandbox)
    }

    /// Hexadecimal digits that differ whenever the component does.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn engine() -> Result<Engine, SandboxError> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .with_host_memory(Arc::new(Memories))
        .max_wasm_stack(STACK_BYTES)
        .cranelift_opt_level(OptLevel::Speed);
    Engine::new(&config)
        .map_err(|e| SandboxError::Component(format!("wasmtime does not run here: {e:#}")))
}

/// Starts the thread that counts epochs for as long as the engine lives.
fn tick(engine: &Engine) -> Result<(), SandboxError> {
    let engine = engine.weak();
    let count = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(EPOCH);
        }
    };
    std::thread::Builder::new()
        .name("epochs".to_owned())
        .spawn(count)
        .map(drop)
        .map_err(|e| SandboxError::Component(format!("the epoch thread could not start: {e}")))
}
