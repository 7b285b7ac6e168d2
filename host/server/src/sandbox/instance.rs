//! One instance of the component, called through its C ABI, version 4.
//!
//! See the crate `meetara-component` for the ABI itself.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use meetara_api::TurnsRead;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasmtime::{Store, Trap, TypedFunc, WasmParams, WasmResults};

use super::guest::{self, Abandoned, Guest, Stopped};
use super::image::Image;
use super::wire::{
    ABI_VERSION, Choose, Chosen, Domain, Embed, Embedded, Failure, Inspected, KvType, Loaded,
    NeedMore, Opened, Read, Start, Started, Stepped,
};
use super::{Limits, Sandbox, SandboxError, memory};

/// An address or a length inside the guest.
type Address = u32;

/// A running engine: nothing loaded at first, then at most one model.
pub struct Instance {
    store: Store<Guest>,
    limits: Limits,
    memory: wasmtime::Memory,
    alloc: TypedFunc<u32, Address>,
    free: TypedFunc<Address, i32>,
    inspect: TypedFunc<(Address, u64), i32>,
    model_load: TypedFunc<Address, i32>,
    reader_load: TypedFunc<Address, i32>,
    read: TypedFunc<Address, i32>,
    domains: TypedFunc<(), i32>,
    adapters_max: TypedFunc<u32, i32>,
    adapter_load: TypedFunc<(Address, Address), i32>,
    adapters: TypedFunc<(), i32>,
    session_open: TypedFunc<(u32, u32), i32>,
    start: TypedFunc<(i32, Address), i32>,
    step: TypedFunc<i32, i32>,
    choose: TypedFunc<(i32, Address), i32>,
    embed: TypedFunc<(i32, Address), i32>,
    result_ptr: TypedFunc<(), Address>,
    result_len: TypedFunc<(), u32>,
}

impl Instance {
    /// A fresh instance.
    ///
    /// # Errors
    /// When the component is not the engine that this host knows.
    pub fn new(sandbox: &Sandbox) -> Result<Self, SandboxError> {
        Self::spring(sandbox, &sandbox.blank)
    }

    /// An instance in the state of the one that `image` was taken of.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub fn spring(sandbox: &Sandbox, image: &Arc<Image>) -> Result<Self, SandboxError> {
        let mut store = guest::store(sandbox, image);
        let instantiate = || wasmtime::Instance::new(&mut store, &sandbox.module, &[]);
        let instance = memory::from_image(image, instantiate)
            .map_err(|e| SandboxError::Component(format!("the component does not start: {e:#}")))?;

        let version = function::<(), i32>(&instance, &mut store, "meetara_abi_version")?;
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| unknown("it exports no memory"))?;
        let mut instance = Self {
            memory,
            alloc: function(&instance, &mut store, "meetara_alloc")?,
            free: function(&instance, &mut store, "meetara_free")?,
            inspect: function(&instance, &mut store, "meetara_inspect")?,
            model_load: function(&instance, &mut store, "meetara_model_load")?,
            reader_load: function(&instance, &mut store, "meetara_reader_load")?,
            read: function(&instance, &mut store, "meetara_read")?,
            domains: function(&instance, &mut store, "meetara_domains")?,
            adapters_max: function(&instance, &mut store, "meetara_adapters_max")?,
            adapter_load: function(&instance, &mut store, "meetara_adapter_load")?,
            adapters: function(&instance, &mut store, "meetara_adapters")?,
            session_open: function(&instance, &mut store, "meetara_session_open")?,
            start: function(&instance, &mut store, "meetara_start")?,
            step: function(&instance, &mut store, "meetara_step")?,
            choose: function(&instance, &mut store, "meetara_choose")?,
            embed: function(&instance, &mut store, "meetara_embed")?,
            result_ptr: function(&instance, &mut store, "meetara_result_ptr")?,
            result_len: function(&instance, &mut store, "meetara_result_len")?,
            limits: sandbox.limits,
            store,
        };
        match instance.call(&version, ())? {
            ABI_VERSION => Ok(instance),
            other => Err(unknown(&format!(
                "it speaks version {other} of the ABI, not {ABI_VERSION}"
            ))),
        }
    }

    /// The image of this instance as it is between two calls; `over` another it holds only what
    /// differs from it.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub fn image(&self, over: Option<&Image>) -> Result<Arc<Image>, SandboxError> {
        let contents = self.memory.data(&self.store);
        let image = match over {
            Some(image) => image.over(contents),
            None => Image::new(contents),
        };
        image.map(Arc::new).map_err(SandboxError::Image)
    }

    /// Has calls end, from now on, when `abandoned` says so.
    pub fn watch(&mut self, abandoned: Option<Abandoned>) {
        self.store.data_mut().abandoned = abandoned;
    }

    /// Reads the header of a file of `file_len` bytes from its first `head_len`; `Err` in `Ok`
    /// tells how many bytes are needed at least.
    ///
    /// # Errors
    /// What the engine finds wrong with the header; a file that cannot be read.
    pub fn inspect(
        &mut self,
        path: &Path,
        head_len: u64,
        file_len: u64,
    ) -> Result<Result<Inspected, NeedMore>, SandboxError> {
        let head = self.read_file(path, head_len)?;
        let inspect = self.inspect.clone();
        match self.status(&inspect, (head, file_len))? {
            0 => self.result().map(Ok),
            _ => self.result().map(Err),
        }
    }

    /// Loads the model in the file at `path`, of `file_len` bytes, into this instance.
    ///
    /// # Errors
    /// What the engine finds wrong with the model; a file that cannot be read.
    pub fn load(&mut self, path: &Path, file_len: u64) -> Result<Loaded, SandboxError> {
        let file = self.read_file(path, file_len)?;
        let model_load = self.model_load.clone();
        self.status(&model_load, file)?;
        self.result()
    }

    /// Loads the reader in the file at `path` into this instance.
    ///
    /// # Errors
    /// What the engine finds wrong with it; a file that cannot be read.
    pub fn load_reader(&mut self, path: &Path) -> Result<(), SandboxError> {
        let len = file_len(path)?;
        let file = self.read_file(path, len)?;
        let reader_load = self.reader_load.clone();
        self.status(&reader_load, file).map(drop)
    }

    /// Reads somebody's turns. Without a reader in this instance only rules look for danger.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn read(&mut self, request: &Read<'_>) -> Result<TurnsRead, SandboxError> {
        let at = self.write_json(request)?;
        let read = self.read.clone();
        self.status(&read, at)?;
        self.result()
    }

    /// The domains that the engine knows.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn domains(&mut self) -> Result<Vec<Domain>, SandboxError> {
        let domains = self.domains.clone();
        self.status(&domains, ())?;
        self.result()
    }

    /// Lets adapters take at most `bytes` together.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn set_adapters_max(&mut self, bytes: u32) -> Result<(), SandboxError> {
        let adapters_max = self.adapters_max.clone();
        self.status(&adapters_max, bytes).map(drop)
    }

    /// Loads the adapter in the file at `path` under `name`; the least recently used make room.
    ///
    /// # Errors
    /// What the engine finds wrong with it; a file that cannot be read.
    pub fn load_adapter(&mut self, name: &str, path: &Path) -> Result<(), SandboxError> {
        let file = self.read_file(path, file_len(path)?)?;
        let name = self.write(name.as_bytes())?;
        let adapter_load = self.adapter_load.clone();
        self.status(&adapter_load, (name, file)).map(drop)
    }

    /// Names of the adapters that are loaded.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn adapters(&mut self) -> Result<Vec<String>, SandboxError> {
        let adapters = self.adapters.clone();
        self.status(&adapters, ())?;
        self.result()
    }

    /// Opens a session with room for `context_max` tokens, whose keys and values are kept as `kv`; 0
    /// lets the engine choose.
    ///
    /// # Errors
    /// When its memory cannot be had, or the model's context is shorter.
    pub fn open_session(
        &mut self,
        context_max: u32,
        kv: KvType,
    ) -> Result<(i32, Opened), SandboxError> {
        let session_open = self.session_open.clone();
        let session = self.status(&session_open, (context_max, kv as u32))?;
        Ok((session, self.result()?))
    }

    /// Starts a reply.
    ///
    /// # Errors
    /// When the request is out of range or does not fit the context.
    pub fn start(&mut self, session: i32, request: &Start<'_>) -> Result<Started, SandboxError> {
        let start = self.start.clone();
        self.ask(&start, session, request)
    }

    /// Says how likely each of some labels is.
    ///
    /// # Errors
    /// When a label is of no use, or the prompt does not fit the context.
    pub fn choose(&mut self, session: i32, request: &Choose<'_>) -> Result<Chosen, SandboxError> {
        let choose = self.choose.clone();
        self.ask(&choose, session, request)
    }

    /// Makes a text a vector. The session forgets its conversation.
    ///
    /// # Errors
    /// When the text is empty or does not fit the context.
    pub fn embed(&mut self, session: i32, request: &Embed<'_>) -> Result<Embedded, SandboxError> {
        let embed = self.embed.clone();
        self.ask(&embed, session, request)
    }

    /// Hands a request over as JSON and reads the answer.
    fn ask<T: DeserializeOwned>(
        &mut self,
        function: &TypedFunc<(i32, Address), i32>,
        session: i32,
        request: &impl Serialize,
    ) -> Result<T, SandboxError> {
        let at = self.write_json(request)?;
        self.status(function, (session, at))?;
        self.result()
    }

    /// A buffer in the guest that holds a request as JSON.
    fn write_json(&mut self, request: &impl Serialize) -> Result<Address, SandboxError> {
        let json = serde_json::to_vec(request)
            .map_err(|_| unknown("a request could not be written as JSON"))?;
        self.write(&json)
    }

    /// Does one bounded piece of work.
    ///
    /// # Errors
    /// When the engine fails, or no reply is in progress.
    pub fn step(&mut self, session: i32) -> Result<Stepped, SandboxError> {
        let step = self.step.clone();
        self.status(&step, session)?;
        self.result()
    }

    /// Bytes of the guest's memory.
    pub fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    /// A buffer in the guest that holds the first `len` bytes of a file: read in place, so
    /// that there is one copy only.
    fn read_file(&mut self, path: &Path, len: u64) -> Result<Address, SandboxError> {
        let len = u32::try_from(len).map_err(|_| self.too_much_memory())?;
        let failed = |source| SandboxError::File {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        let at = self.buffer(len)?;
        if let Err(source) = file.read_exact(self.bytes(at, len)?) {
            let free = self.free.clone();
            self.status(&free, at)?;
            return Err(failed(source));
        }
        Ok(at)
    }

    /// A buffer in the guest that holds `bytes`.
    fn write(&mut self, bytes: &[u8]) -> Result<Address, SandboxError> {
        let len = u32::try_from(bytes.len()).map_err(|_| self.too_much_memory())?;
        let at = self.buffer(len)?;
        self.bytes(at, len)?.copy_from_slice(bytes);
        Ok(at)
    }

    /// A buffer of `len` bytes in the guest.
    fn buffer(&mut self, len: u32) -> Result<Address, SandboxError> {
        let alloc = self.alloc.clone();
        match self.call(&alloc, len)? {
            0 => Err(self.failure()),
            at => Ok(at),
        }
    }

    /// The guest's bytes `at..at + len`.
    fn bytes(&mut self, at: Address, len: u32) -> Result<&mut [u8], SandboxError> {
        let (at, len) = (at as usize, len as usize);
        at.checked_add(len)
            .and_then(|end| self.memory.data_mut(&mut self.store).get_mut(at..end))
            .ok_or_else(|| unknown("it returned an address outside its memory"))
    }

    /// The result of the last call, as JSON.
    fn result<T: DeserializeOwned>(&mut self) -> Result<T, SandboxError> {
        let (ptr, len) = (self.result_ptr.clone(), self.result_len.clone());
        let at = self.call(&ptr, ())?;
        let len = self.call(&len, ())?;
        let json = self.bytes(at, len)?;
        serde_json::from_slice(json).map_err(|_| unknown("its result is not the JSON expected"))
    }

    /// Why the last call failed.
    fn failure(&mut self) -> SandboxError {
        if self.store.data().memory_refused {
            return self.too_much_memory();
        }
        match self.result::<Failure>() {
            Ok(Failure { code, message }) => SandboxError::Engine { code, message },
            Err(error) => error,
        }
    }

    /// Calls a function that returns a status.
    fn status<P: WasmParams>(
        &mut self,
        function: &TypedFunc<P, i32>,
        parameters: P,
    ) -> Result<i32, SandboxError> {
        match self.call(function, parameters)? {
            status if status >= 0 => Ok(status),
            _ => Err(self.failure()),
        }
    }

    /// Calls a function within the limit on time.
    fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        function: &TypedFunc<P, R>,
        parameters: P,
    ) -> Result<R, SandboxError> {
        self.store.set_epoch_deadline(1);
        let guest = self.store.data_mut();
        guest.deadline = Instant::now() + self.limits.call_max;
        guest.memory_refused = false;
        function.call(&mut self.store, parameters).map_err(|error| {
            if self.store.data().memory_refused {
                return self.too_much_memory();
            }
            match error.downcast_ref::<Stopped>() {
                Some(Stopped::Time) => {
                    return SandboxError::Time {
                        ms: self.limits.call_max.as_millis(),
                    };
                }
                Some(Stopped::Abandoned) => return SandboxError::Abandoned,
                None => {}
            }
            match error.downcast_ref::<Trap>() {
                Some(trap) => {
                    // The backtrace holds names of functions only.
                    tracing::error!("the engine trapped: {error:?}");
                    SandboxError::Trap(trap.to_string())
                }
                None => SandboxError::Trap(format!("{error:#}")),
            }
        })
    }

    fn too_much_memory(&self) -> SandboxError {
        if self.store.data().memory_bytes_max < self.limits.memory_bytes_max {
            return SandboxError::Conversation {
                mib: self.limits.conversation_bytes_max >> 20,
            };
        }
        SandboxError::Memory {
            mib: self.limits.memory_bytes_max >> 20,
        }
    }
}

/// A file's length.
fn file_len(path: &Path) -> Result<u64, SandboxError> {
    let metadata = std::fs::metadata(path).map_err(|source| SandboxError::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(metadata.len())
}

fn function<P: WasmParams, R: WasmResults>(
    instance: &wasmtime::Instance,
    store: &mut Store<Guest>,
    name: &str,
) -> Result<TypedFunc<P, R>, SandboxError> {
    instance
        .get_typed_func(store, name)
        .map_err(|_| unknown(&format!("it has no function {name} of the right type")))
}

fn unknown(what: &str) -> SandboxError {
    SandboxError::Component(format!(
        "the component is not the one for this host: {what}; build it with `cargo xtask wasm`"
    ))
}
