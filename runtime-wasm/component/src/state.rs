//! What lives between calls: lent buffers, one model, its sessions, the last result.

use std::collections::BTreeMap;
use std::sync::Arc;

use meetara_engine::encoder::Encoder;
use meetara_engine::generate::Session;
use meetara_engine::model::{Adapter, AdapterPool, Model};
use meetara_engine::nn::kv_cache::KvType;
use meetara_engine::nn::memory;
use meetara_engine::reader::{DOMAINS, Reader, read_by_rules};
use meetara_engine::safety::{Gate, help};
use meetara_engine::{Error, Result};
use meetara_format::{Error as Parse, ErrorKind as ParseKind, Gguf};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::{
    AdapterLoaded, AdapterUse, Choose, Chosen, Embed, Encode, Encoded, EncoderLoaded, Failure,
    Inspected, Loaded, NeedMore, Opened, Read, Start, Stepped, TurnsRead,
};
use crate::{FAILED, KV_F16, KV_Q8};

/// Bytes that adapters may take together, unless the host says otherwise.
const ADAPTER_BYTES_MAX: usize = 64 << 20;

/// The state of one instance.
pub(crate) struct State {
    /// Buffers lent to the host, by address. The host writes into them between
    /// calls; a call that names an address takes the buffer out of this map,
    /// so no address is ever believed that is not in it.
    lent: BTreeMap<usize, Vec<u8>>,
    model: Option<Arc<Model>>,
    encoder: Option<Encoder>,
    reader: Option<Reader>,
    /// The rules, for instances without a reader.
    gate: Option<Gate>,
    adapters: AdapterPool,
    /// Session `n` of the ABI is at `n - 1`; `None` once closed.
    sessions: Vec<Option<Session>>,
    /// JSON of the last call.
    result: Vec<u8>,
}

impl State {
    pub(crate) const fn new() -> Self {
        Self {
            lent: BTreeMap::new(),
            model: None,
            encoder: None,
            reader: None,
            gate: None,
            adapters: AdapterPool::new(ADAPTER_BYTES_MAX),
            sessions: Vec::new(),
            result: Vec::new(),
        }
    }

    pub(crate) fn result(&self) -> &[u8] {
        &self.result
    }

    /// Runs an entry point and turns its error into a status and a result.
    pub(crate) fn report(&mut self, entry: impl FnOnce(&mut Self) -> Result<i32>) -> i32 {
        self.result.clear();
        entry(self).unwrap_or_else(|error| {
            self.fail(&error);
            FAILED
        })
    }

    fn fail(&mut self, error: &Error) {
        self.result.clear();
        let failure = Failure {
            code: error.code(),
            message: error.message(),
        };
        if self.put(&failure).is_err() {
            self.result.clear();
        }
    }

    /// Writes `value` as the result.
    fn put(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.result, value)
            .map_err(|_| Error::internal("the result of the call could not be written as JSON"))
    }

    pub(crate) fn alloc(&mut self, len: usize) -> usize {
        self.result.clear();
        let mut buffer = Vec::new();
        if len == 0 {
            self.fail(&Error::invalid_request(
                "a buffer must have at least 1 byte",
            ));
            return 0;
        }
        // Something must be left to say what is wrong with what the host writes.
        let room = buffer.try_reserve_exact(len).is_ok()
            && memory::assure(16 << 10, "what follows").is_ok();
        if !room {
            drop(buffer);
            self.fail(&Error::out_of_memory(format!(
                "a buffer of {len} bytes does not fit the memory of the sandbox; raise its limit"
            )));
            return 0;
        }
        buffer.resize(len, 0);
        // The host reaches the bytes through this address alone.
        let address = buffer.as_mut_ptr().expose_provenance();
        self.lent.insert(address, buffer);
        address
    }

    /// Takes the buffer at `ptr` back from the host.
    fn take(&mut self, ptr: usize) -> Result<Vec<u8>> {
        self.lent.remove(&ptr).ok_or_else(|| {
            Error::invalid_request(
                "the address is not one that meetara_alloc returned, or was given back already",
            )
        })
    }

    pub(crate) fn free(&mut self, ptr: usize) -> Result<i32> {
        self.take(ptr).map(|_| 0)
    }

    pub(crate) fn inspect(&mut self, ptr: usize, file_len: u64) -> Result<i32> {
        let head = self.take(ptr)?;
        let invalid = |e: Parse| Error::invalid_model(e.to_string());
        let gguf = match Gguf::parse(&head, file_len) {
            Err(Parse {
                kind: ParseKind::NeedMore { bytes },
                ..
            }) => {
                self.put(&NeedMore { bytes })?;
                return Ok(1);
            }
            other => other.map_err(invalid)?,
        };
        let architecture = gguf.get_str("general.architecture").map_err(invalid)?;
        let context_len = match architecture {
            Some(name) => gguf
                .get_u32(&format!("{name}.context_length"))
                .map_err(invalid)?,
            None => None,
        };
        let inspected = Inspected {
            name: gguf.get_str("general.name").map_err(invalid)?,
            architecture,
            kind: gguf
                .get_str("general.type")
                .map_err(invalid)?
                .unwrap_or("model"),
            context_len,
            heads: gguf
                .get_string_array("meetara.heads")
                .map_err(invalid)?
                .map(|names| names.iter().collect())
                .unwrap_or_default(),
            n_tensors: gguf.tensors.len(),
            tensor_bytes: gguf
                .tensors
                .iter()
                .fold(0_u64, |sum, tensor| sum.saturating_add(tensor.bytes)),
        };
        self.put(&inspected)?;
        Ok(0)
    }

    fn check_empty(&self) -> Result<()> {
        if self.model.is_some() || self.encoder.is_some() || self.reader.is_some() {
            return Err(Error::invalid_request(
                "the instance holds a model already; use one instance for each model",
            ));
        }
        Ok(())
    }

    pub(crate) fn encoder_load(&mut self, ptr: usize) -> Result<i32> {
        let bytes = self.take(ptr)?;
        self.check_empty()?;
        let encoder = Encoder::load(bytes)?;
        self.put(&EncoderLoaded::new(&encoder))?;
        self.encoder = Some(encoder);
        Ok(0)
    }

    pub(crate) fn encode(&mut self, ptr: usize) -> Result<i32> {
        let request: Encode = self.request(ptr)?;
        let encoder = self.encoder.as_ref().ok_or_else(|| {
            Error::invalid_request("no encoder is loaded; call meetara_encoder_load first")
        })?;
        let encoded = Encoded::new(encoder.encode(&request.text)?);
        self.put(&encoded)?;
        Ok(0)
    }

    pub(crate) fn reader_load(&mut self, ptr: usize) -> Result<i32> {
        let bytes = self.take(ptr)?;
        self.check_empty()?;
        let reader = Reader::new(Encoder::load(bytes)?)?;
        self.put(&EncoderLoaded::new(reader.encoder()))?;
        self.reader = Some(reader);
        Ok(0)
    }

    pub(crate) fn read(&mut self, ptr: usize) -> Result<i32> {
        let Read {
            turns,
            region,
            feelings,
        } = self.request(ptr)?;
        let read = match &self.reader {
            None => {
                let gate = self.gate.get_or_insert_with(Gate::new);
                TurnsRead::by_rules(read_by_rules(gate, &turns))
            }
            Some(reader) => {
                let reading = reader.read_turns(&turns)?;
                let followed = match feelings {
                    true => Some(reader.follow_turns(&turns)?),
                    false => None,
                };
                TurnsRead::new(reading, followed)
            }
        };
        let help = help(read.safety.category, region.as_deref());
        self.put(&TurnsRead { help, ..read })?;
        Ok(0)
    }

    pub(crate) fn domains(&mut self) -> Result<i32> {
        self.put(&DOMAINS)?;
        Ok(0)
    }

    pub(crate) fn model_load(&mut self, ptr: usize) -> Result<i32> {
        let bytes = self.take(ptr)?;
        self.check_empty()?;
        let model = Arc::new(Model::load(bytes)?);
        // Part of the image that conversations spring from. A model without it fails when it is asked.
        let _ = model.vocabulary();
        let config = model.config();
        let loaded = Loaded {
            name: &config.name,
            context_len: config.context_len as u64,
            n_vocab: config.n_vocab as u64,
            chat: model.chat_template().is_some(),
        };
        self.put(&loaded)?;
        self.model = Some(model);
        Ok(0)
    }

    pub(crate) fn adapters_max(&mut self, bytes: usize) -> Result<i32> {
        self.adapters = AdapterPool::new(bytes);
        Ok(0)
    }

    /// Takes a buffer that holds the name of an adapter.
    fn take_name(&mut self, ptr: usize) -> Result<String> {
        String::from_utf8(self.take(ptr)?)
            .map_err(|_| Error::invalid_request("the name of an adapter must be UTF-8"))
    }

    pub(crate) fn adapter_load(&mut self, name: usize, ptr: usize) -> Result<i32> {
        // Both buffers are taken, whatever is wrong with one of them.
        let (name, file) = (self.take_name(name), self.take(ptr));
        let (name, file) = (name?, file?);
        let model = self.model.as_ref().ok_or_else(|| {
            Error::invalid_request("no model is loaded; call meetara_model_load first")
        })?;
        let adapter = Adapter::load(model, &file)?;
        let loaded = AdapterLoaded {
            rank: adapter.rank() as u64,
            memory_bytes: adapter.memory_bytes() as u64,
        };
        self.adapters.insert(name, adapter)?;
        self.put(&loaded)?;
        Ok(0)
    }

    pub(crate) fn adapter_unload(&mut self, name: usize) -> Result<i32> {
        let name = self.take_name(name)?;
        Ok(i32::from(self.adapters.remove(&name)))
    }

    pub(crate) fn adapters(&mut self) -> Result<i32> {
        let names: Vec<String> = self.adapters.names().map(str::to_owned).collect();
        self.put(&names)?;
        i32::try_from(names.len()).map_err(|_| Error::internal("too many adapters are loaded"))
    }

    pub(crate) fn session_open(&mut self, context_max: u32, kv_type: u32) -> Result<i32> {
        let model = self.model.as_ref().ok_or_else(|| {
            Error::invalid_request("no model is loaded; call meetara_model_load first")
        })?;
        let context_max = (context_max != 0).then_some(context_max);
        let kv = match kv_type {
            KV_F16 => KvType::F16,
            KV_Q8 => KvType::Q8,
            _ => {
                return Err(Error::invalid_request(format!(
                    "keys and values are kept as type {KV_F16} or {KV_Q8}, not {kv_type}"
                )));
            }
        };
        let session = Session::with_kv(Arc::clone(model), context_max, kv)?;
        let opened = Opened {
            context_max: session.context_max(),
            memory_bytes: session.memory_bytes() as u64,
        };
        let slot = match self.sessions.iter().position(Option::is_none) {
            Some(slot) => slot,
            None => {
                self.sessions.push(None);
                self.sessions.len() - 1
            }
        };
        let handle = i32::try_from(slot + 1)
            .map_err(|_| Error::out_of_memory("too many sessions are open; close one"))?;
        self.put(&opened)?;
        self.sessions[slot] = Some(session);
        Ok(handle)
    }

    /// The place of the open session `handle`.
    fn slot(&mut self, handle: i32) -> Result<&mut Option<Session>> {
        usize::try_from(handle)
            .ok()
            .and_then(|handle| handle.checked_sub(1))
            .and_then(|slot| self.sessions.get_mut(slot))
            .filter(|slot| slot.is_some())
            .ok_or_else(|| {
                Error::invalid_request(format!(
                    "session {handle} is not open; call meetara_session_open first"
                ))
            })
    }

    pub(crate) fn session_close(&mut self, handle: i32) -> Result<i32> {
        *self.slot(handle)? = None;
        Ok(0)
    }

    /// The open session `handle`.
    fn session(&mut self, handle: i32) -> Result<&mut Session> {
        self.slot(handle)?
            .as_mut()
            .ok_or_else(|| Error::internal("an open session was closed inside a call"))
    }

    /// The JSON in the buffer at `ptr`, which is taken back.
    fn request<T: DeserializeOwned>(&mut self, ptr: usize) -> Result<T> {
        let request = self.take(ptr)?;
        // Its texts, and the lists they stand in while these grow.
        memory::assure(3 * request.len() + (16 << 10), "the request")?;
        // serde_json's own message would quote the value it did not expect.
        serde_json::from_slice(&request).map_err(|e| {
            Error::invalid_request(format!(
                "the request is not the JSON that this call takes (line {}, column {})",
                e.line(),
                e.column()
            ))
        })
    }

    /// The open session `handle`, with the adapters that a request names and no others.
    fn session_with(&mut self, handle: i32, used: &[AdapterUse]) -> Result<&mut Session> {
        let adapters = used
            .iter()
            .map(|used| Ok((self.adapters.get(&used.name)?, used.scale)))
            .collect::<Result<Vec<_>>>()?;
        let session = self.session(handle)?;
        session.set_adapters(&adapters)?;
        Ok(session)
    }

    pub(crate) fn start(&mut self, handle: i32, ptr: usize) -> Result<i32> {
        let request: Start = self.request(ptr)?;
        let session = self.session_with(handle, &request.adapters)?;
        let started = match (&request.messages, &request.text) {
            (Some(messages), None) => session.start_chat(messages, &request.params)?,
            (None, Some(text)) => session.start_text(text, &request.params)?,
            _ => return Err(messages_or_text()),
        };
        self.put(&started)?;
        Ok(0)
    }

    pub(crate) fn choose(&mut self, handle: i32, ptr: usize) -> Result<i32> {
        let request: Choose = self.request(ptr)?;
        let session = self.session_with(handle, &request.adapters)?;
        let choices = match (&request.messages, &request.text) {
            (Some(messages), None) => session.choose_chat(messages, &request.labels)?,
            (None, Some(text)) => session.choose_text(text, &request.labels)?,
            _ => return Err(messages_or_text()),
        };
        let prompt_tokens = session.context_used();
        self.put(&Chosen {
            choices,
            prompt_tokens,
        })?;
        Ok(0)
    }

    pub(crate) fn embed(&mut self, handle: i32, ptr: usize) -> Result<i32> {
        let request: Embed = self.request(ptr)?;
        let embedding = self
            .session_with(handle, &request.adapters)?
            .embed(&request.text, request.pooling)?;
        self.put(&embedding)?;
        Ok(0)
    }

    pub(crate) fn step(&mut self, handle: i32) -> Result<i32> {
        let session = self.session(handle)?;
        let step = session.step()?;
        let step = Stepped::new(step, session.take_logprobs());
        let done = matches!(step, Stepped::Done { .. });
        self.put(&step)?;
        Ok(i32::from(done))
    }

    pub(crate) fn logits(&mut self, handle: i32) -> Result<i32> {
        let logits = self.session(handle)?.logits();
        let bytes = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.result = bytes;
        Ok(0)
    }
}

fn messages_or_text() -> Error {
    Error::invalid_request("a request has either messages or text, and not both")
}
