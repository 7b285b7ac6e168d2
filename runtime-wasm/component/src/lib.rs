//! The engine as a sandboxed module for wasmtime, behind a small C ABI.
//!
//! This is a *core* WebAssembly module that imports nothing: it cannot open a
//! file, read a clock or reach a network, because nobody hands it the means. A
//! core call costs about 20 ns under wasmtime, a call through the component
//! model about 600 ns, and there is one call per token. So our own host uses
//! this C ABI; a WIT face is for hosts that other people write.
//!
//! # The ABI, version 4
//!
//! Every argument is an `i32`, except `file_len`, an `i64`. Every function but
//! `meetara_alloc` and the three that only read returns an `i32` status: 0 or
//! more is success, [`FAILED`] is failure. Either way the *result* (JSON in
//! UTF-8, except for logits) lies at `meetara_result_ptr()`, `meetara_result_len()` bytes long,
//! until the next call. After a failure it is `{"code": "...", "message": "..."}`;
//! codes are those of the engine's `ErrorKind`.
//!
//! | function | success |
//! |---|---|
//! | `meetara_abi_version()` | the version, 4 |
//! | `meetara_alloc(len)` | address of `len` zeroed bytes; 0 when they cannot be had |
//! | `meetara_free(ptr)` | 0; gives a buffer back |
//! | `meetara_inspect(ptr, file_len)` | 0; the buffer holds the head of a GGUF file; result: [`wire::Inspected`]. Or 1: the head is too short; result: [`wire::NeedMore`] |
//! | `meetara_model_load(ptr)` | 0; the buffer holds a whole GGUF file; result: [`wire::Loaded`] |
//! | `meetara_encoder_load(ptr)` | 0; the buffer holds a whole GGUF file of an encoder; result: [`wire::EncoderLoaded`] |
//! | `meetara_encode(ptr)` | 0; the buffer holds a [`wire::Encode`]; result: [`wire::Encoded`] |
//! | `meetara_reader_load(ptr)` | 0; the buffer holds a whole GGUF file of an encoder with the heads of a reader; result: [`wire::EncoderLoaded`] |
//! | `meetara_read(ptr)` | 0; the buffer holds a [`wire::Read`]; result: [`wire::TurnsRead`]. Without a reader only the rules look for danger, so this works in every instance |
//! | `meetara_domains()` | 0; result: the rows of `domains.toml`, an array of [`meetara_engine::reader::Domain`] |
//! | `meetara_adapters_max(bytes)` | 0; the most bytes that adapters take together, 64 MiB at first; drops those that are loaded |
//! | `meetara_adapter_load(name, ptr)` | 0; the buffers hold a name and a whole adapter file; the least recently used make room; result: [`wire::AdapterLoaded`] |
//! | `meetara_adapter_unload(name)` | 1 when there was one of that name, else 0 |
//! | `meetara_adapters()` | how many are loaded; result: their names, the least recently used first |
//! | `meetara_session_open(context_max, kv_type)` | a session, 1 or more; 0 for `context_max` lets the engine choose, and more than the model's own is an error; keys and values are kept as halves ([`KV_F16`]) or as bytes ([`KV_Q8`]); result: [`wire::Opened`] |
//! | `meetara_session_close(session)` | 0 |
//! | `meetara_start(session, ptr)` | 0; the buffer holds a [`wire::Start`]; result: `{"prompt_tokens","cached_tokens"}` |
//! | `meetara_step(session)` | 1 when the reply is complete, else 0; result: [`wire::Stepped`] |
//! | `meetara_choose(session, ptr)` | 0; the buffer holds a [`wire::Choose`]; result: [`wire::Chosen`] |
//! | `meetara_embed(session, ptr)` | 0; the buffer holds a [`wire::Embed`]; result: `{"embedding": [...], "tokens"}`; the session forgets its conversation |
//! | `meetara_logits(session)` | 0; result, not JSON: the logits of the last token evaluated, `(n_vocab)`, little-endian f32 |
//! | `meetara_result_ptr()`, `meetara_result_len()` | where the result lies |
//!
//! The host fills a buffer in place and then names it by its address.
//! Every call with a `ptr` or a `name` consumes the
//! buffer, also when it fails; the bytes of a model stay where the host wrote
//! them, so there is never a second copy. One instance holds one model,
//! one encoder or one reader. A
//! `meetara_start` on a session that is still generating abandons that reply.
//!
//! Addresses that `meetara_alloc` did not return, sessions that are not open
//! and bytes that are not what they should be are errors, never traps. A trap
//! means a fault of the engine, or memory refused in the middle of a step; the
//! instance is then of no further use.

mod state;
pub mod wire;

use std::cell::RefCell;

use state::State;

/// The status of a call that failed; the result says why.
pub const FAILED: i32 = -1;

/// What `meetara_abi_version` answers; raised when a host must change.
pub const ABI_VERSION: i32 = 4;

/// Keys and values as IEEE halves.
pub const KV_F16: u32 = 0;
/// Keys and values as bytes: little more than half of the memory, and a little less exact.
pub const KV_Q8: u32 = 1;

thread_local! {
    // One instance, one thread, one state: the module is built without threads.
    static STATE: RefCell<State> = const { RefCell::new(State::new()) };
}

/// Runs one entry point on the state; `otherwise` when the state is in use,
/// which can only be when a host calls from inside a call.
fn with_state<T>(otherwise: T, entry: impl FnOnce(&mut State) -> T) -> T {
    STATE.with(|state| match state.try_borrow_mut() {
        Ok(mut state) => entry(&mut state),
        Err(_) => otherwise,
    })
}

/// The version of this ABI.
// SAFETY: of the attribute, here and below: no other symbol starts with `meetara_`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_abi_version() -> i32 {
    ABI_VERSION
}

/// Lends `len` zeroed bytes to the host; 0 when they cannot be had.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_alloc(len: usize) -> usize {
    with_state(0, |state| state.alloc(len))
}

/// Takes back the buffer at `ptr`.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_free(ptr: usize) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.free(ptr)))
}

/// Reads the header of a GGUF file of `file_len` bytes whose head lies at `ptr`.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_inspect(ptr: usize, file_len: u64) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.inspect(ptr, file_len)))
}

/// Loads the model whose GGUF file lies at `ptr`.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_model_load(ptr: usize) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.model_load(ptr)))
}

/// Makes the filled buffer at `ptr` the encoder of this instance.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_encoder_load(ptr: usize) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.encoder_load(ptr)))
}

/// Reads the text in the request at `ptr`: its vector, and what the encoder's classifiers say.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_encode(ptr: usize) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.encode(ptr)))
}

/// Makes the filled buffer at `ptr` the reader of this instance.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_reader_load(ptr: usize) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.reader_load(ptr)))
}

/// Reads somebody's turns in the request at `ptr`: feeling, domain, danger.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_read(ptr: usize) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.read(ptr)))
}

/// Lists the domains.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_domains() -> i32 {
    with_state(FAILED, |state| state.report(State::domains))
}

/// Sets how many bytes adapters may take together.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_adapters_max(bytes: usize) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.adapters_max(bytes)))
}

/// Loads the adapter whose file lies at `ptr`, under the name that lies at `name`.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_adapter_load(name: usize, ptr: usize) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.adapter_load(name, ptr)))
}

/// Drops the adapter whose name lies at `name`.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_adapter_unload(name: usize) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.adapter_unload(name)))
}

/// Lists the adapters that are loaded.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_adapters() -> i32 {
    with_state(FAILED, |state| state.report(|s| s.adapters()))
}

/// Opens a session with room for `context_max` tokens (0: the engine chooses), whose keys and values
/// are kept as [`KV_F16`] or [`KV_Q8`].
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_session_open(context_max: u32, kv_type: u32) -> i32 {
    with_state(FAILED, |state| {
        state.report(|s| s.session_open(context_max, kv_type))
    })
}

/// Closes a session and gives its memory back.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_session_close(session: i32) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.session_close(session)))
}

/// Starts a reply to the request that lies at `ptr`.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_start(session: i32, ptr: usize) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.start(session, ptr)))
}

/// Does one bounded piece of work: a slice of the prompt, or one token.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_step(session: i32) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.step(session)))
}

/// Says how likely each of the labels in the request at `ptr` is.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_choose(session: i32, ptr: usize) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.choose(session, ptr)))
}

/// Makes the text in the request at `ptr` a vector.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_embed(session: i32, ptr: usize) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.embed(session, ptr)))
}

/// Hands out the logits of the last token that a session evaluated.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_logits(session: i32) -> i32 {
    with_state(FAILED, |state| state.report(|s| s.logits(session)))
}

/// Where the result of the last call lies.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_result_ptr() -> usize {
    with_state(0, |state| state.result().as_ptr().expose_provenance())
}

/// How many bytes the result of the last call has.
// SAFETY: see `meetara_abi_version`.
#[unsafe(no_mangle)]
pub extern "C" fn meetara_result_len() -> usize {
    with_state(0, |state| state.result().len())
}
