//! The component's C ABI, called as a host would that makes every mistake there is.
//!
//! Nothing here may trap: a wrong call is a status and an error that tells why.

mod common;

use std::sync::LazyLock;

use serde_json::{Value, json};
use wasmtime::{Engine, Instance, Memory, Module, Store, WasmParams, WasmResults};

static MODULE: LazyLock<Module> = LazyLock::new(|| {
    Module::from_file(&Engine::default(), common::component()).expect("it compiles")
});

struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl Guest {
    fn new() -> Self {
        let mut store = Store::new(MODULE.engine(), ());
        // No imports at all: this is the whole sandbox.
        let instance = Instance::new(&mut store, &MODULE, &[]).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        Self {
            store,
            instance,
            memory,
        }
    }

    fn call<P: WasmParams, R: WasmResults>(&mut self, name: &str, parameters: P) -> R {
        let function = self
            .instance
            .get_typed_func::<P, R>(&mut self.store, name)
            .unwrap();
        let result = function.call(&mut self.store, parameters);
        result.unwrap_or_else(|trap| panic!("{name} trapped: {trap:?}"))
    }

    fn put(&mut self, bytes: &[u8]) -> u32 {
        let at: u32 = self.call("meetara_alloc", bytes.len() as u32);
        assert_ne!(at, 0);
        self.memory
            .write(&mut self.store, at as usize, bytes)
            .unwrap();
        at
    }

    fn result(&mut self) -> Value {
        let at: u32 = self.call("meetara_result_ptr", ());
        let len: u32 = self.call("meetara_result_len", ());
        let mut json = vec![0; len as usize];
        self.memory
            .read(&self.store, at as usize, &mut json)
            .unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    /// The call must fail with this code.
    fn fails<P: WasmParams>(&mut self, code: &str, name: &str, parameters: P) {
        let status: i32 = self.call(name, parameters);
        let result = self.result();
        assert_eq!(status, -1, "{name}: {result}");
        assert_eq!(result["code"], code, "{name}: {result}");
        assert!(
            result["message"].as_str().unwrap().len() > 10,
            "{name}: {result}"
        );
    }

    fn load_tiny(&mut self) {
        let at = self.put(&common::tiny());
        assert_eq!(self.call::<_, i32>("meetara_model_load", at), 0);
    }

    fn start(&mut self, session: i32, request: &Value) -> i32 {
        let at = self.put(request.to_string().as_bytes());
        self.call("meetara_start", (session, at))
    }
}

#[test]
fn the_module_imports_nothing_and_speaks_version_3() {
    assert_eq!(MODULE.imports().len(), 0);
    assert_eq!(Guest::new().call::<_, i32>("meetara_abi_version", ()), 4);
}

#[test]
fn a_file_becomes_a_reply() {
    let mut guest = Guest::new();
    let file = common::tiny();
    let at = guest.put(&file[..64]);
    assert_eq!(
        guest.call::<_, i32>("meetara_inspect", (at, file.len() as u64)),
        1
    );
    assert!(guest.result()["bytes"].as_u64().unwrap() > 64);
    let at = guest.put(&file);
    assert_eq!(
        guest.call::<_, i32>("meetara_inspect", (at, file.len() as u64)),
        0
    );
    let inspected = guest.result();
    assert_eq!(inspected["architecture"], "llama");
    assert_eq!(inspected["type"], "model");
    assert_eq!(inspected["context_len"], 256);

    guest.load_tiny();
    assert_eq!(guest.result()["n_vocab"], 512);
    assert_eq!(
        guest.call::<_, i32>("meetara_session_open", (0_u32, 0_u32)),
        1
    );
    assert!(guest.result()["memory_bytes"].as_u64().unwrap() > 0);

    let requests = [
        json!({"messages": [{"role": "user", "content": "hi"}], "params": {"temperature": 0, "max_tokens": 5}}),
        json!({"text": "The river", "params": {"temperature": 0, "max_tokens": 5}}),
    ];
    for request in requests {
        assert_eq!(guest.start(1, &request), 0, "{}", guest.result());
        assert!(guest.result()["prompt_tokens"].as_u64().unwrap() > 0);
        let mut text = String::new();
        loop {
            let status: i32 = guest.call("meetara_step", 1_i32);
            let step = guest.result();
            text.push_str(step["text"].as_str().unwrap_or_default());
            match status {
                0 => assert!(
                    step["step"] == "prefill" || step["step"] == "token",
                    "{step}"
                ),
                1 => {
                    assert_eq!(step["step"], "done");
                    assert_eq!(step["finish"], "length");
                    assert_eq!(step["usage"]["completion_tokens"], 5);
                    break;
                }
                _ => panic!("{step}"),
            }
        }
        assert!(!text.is_empty());
        guest.fails("invalid_request", "meetara_step", 1_i32);
    }
}

#[test]
fn wrong_calls_are_errors() {
    let mut guest = Guest::new();
    assert_eq!(guest.call::<_, u32>("meetara_alloc", 0_u32), 0);
    assert_eq!(guest.call::<_, u32>("meetara_alloc", u32::MAX), 0);
    assert_eq!(guest.result()["code"], "out_of_memory");
    for address in [0, 1, 4096, u32::MAX] {
        guest.fails("invalid_request", "meetara_free", address);
        guest.fails("invalid_request", "meetara_model_load", address);
        guest.fails("invalid_request", "meetara_inspect", (address, 1_u64));
    }
    let at = guest.put(b"x");
    assert_eq!(guest.call::<_, i32>("meetara_free", at), 0);
    guest.fails("invalid_request", "meetara_free", at);

    guest.fails("invalid_request", "meetara_session_open", (0_u32, 0_u32));
    for session in [0, 1, -1, i32::MIN, i32::MAX] {
        guest.fails("invalid_request", "meetara_step", session);
        guest.fails("invalid_request", "meetara_session_close", session);
        let at = guest.put(b"{}");
        guest.fails("invalid_request", "meetara_start", (session, at));
    }

    guest.load_tiny();
    let at = guest.put(&common::tiny());
    guest.fails("invalid_request", "meetara_model_load", at);
    guest.fails("invalid_request", "meetara_session_open", (64_u32, 2_u32));
    assert_eq!(
        guest.call::<_, i32>("meetara_session_open", (64_u32, 0_u32)),
        1
    );
    assert_eq!(
        guest.call::<_, i32>("meetara_session_open", (64_u32, 0_u32)),
        2
    );
    guest.fails("invalid_request", "meetara_step", 2_i32);
    let secret = "do not repeat this";
    for request in [
        json!(null),
        json!([]),
        json!({}),
        json!({"messages": []}),
        json!({"messages": [], "text": "x"}),
        json!({"messages": secret}),
        json!({"text": "x", "params": {"temperature": secret}}),
        json!({"text": "x", "params": {"temperature": -1}}),
        json!({"text": "x", "params": {"max_tokens": 0}}),
        json!({"text": "x", "more": 1}),
    ] {
        assert_eq!(guest.start(1, &request), -1, "{request}");
        let result = guest.result();
        assert_eq!(result["code"], "invalid_request", "{request}: {result}");
        assert!(!result.to_string().contains(secret), "{result}");
    }
    for bytes in [&b"\xff\xfe"[..], b"{", b"{\"text\": \"\xff\"}"] {
        let at = guest.put(bytes);
        guest.fails("invalid_request", "meetara_start", (1_i32, at));
    }
    assert_eq!(guest.start(1, &json!({"text": "word ".repeat(100)})), -1);
    assert_eq!(guest.result()["code"], "context_overflow");

    assert_eq!(guest.call::<_, i32>("meetara_session_close", 1_i32), 0);
    guest.fails("invalid_request", "meetara_session_close", 1_i32);
    assert_eq!(
        guest.call::<_, i32>("meetara_session_open", (0_u32, 0_u32)),
        1,
        "the place is used again"
    );
    assert_eq!(
        guest.start(1, &json!({"text": "x", "params": {"max_tokens": 1}})),
        0
    );
}

/// Damages the header of a sound file in many ways: loading is a success or an error.
#[test]
fn damaged_files_are_errors() {
    let sound = common::tiny();
    let header_len = 20_000.min(sound.len());
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        // xorshift64: any fixed sequence will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let (mut loaded, mut refused) = (0, 0);
    for round in 0..400 {
        let mut file = sound.clone();
        if round % 4 == 0 {
            file.truncate(1 + random(sound.len() - 1));
        } else {
            for _ in 0..=random(4) {
                // Half of the damage goes to the counts and types of the first kilobyte.
                let range = if random(2) == 0 { 1024 } else { header_len };
                let at = random(range);
                let any = random(256) as u8;
                file[at] = [0, 1, 0x7f, 0x80, 0xff, any][random(6)];
            }
        }
        let mut guest = Guest::new();
        let at = guest.put(&file);
        match guest.call::<_, i32>("meetara_model_load", at) {
            0 => {
                loaded += 1;
                // What was loaded must also run.
                if guest.call::<_, i32>("meetara_session_open", (32_u32, 0_u32)) > 0
                    && guest.start(1, &json!({"text": "x", "params": {"max_tokens": 2}})) == 0
                {
                    while guest.call::<_, i32>("meetara_step", 1_i32) == 0 {}
                }
            }
            _ => {
                refused += 1;
                assert!(guest.result()["message"].is_string());
            }
        }
    }
    assert!(
        loaded > 0 && refused > 100,
        "{loaded} loaded, {refused} refused"
    );
}
