//! The hash of the logits behind greedy replies, computed by the sandboxed engine inside wasmtime.
//!
//! ```text
//! logits_hash_wasmtime COMPONENT.wasm PROMPT TOKENS FILE.gguf...   one line of JSON for each file
//! ```
//!
//! The hash is FNV-1a (64 bits) over the bits of all logits, little endian, from which each token was chosen, as in
//! the example `logits_hash` of the engine; `tests/runners/one_hash.mjs` compares them.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use wasmtime::{Engine, Instance, Memory, Module, Store, WasmParams, WasmResults};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [component, prompt, tokens, files @ ..] = arguments.as_slice() else {
        bail!("usage: logits_hash_wasmtime COMPONENT.wasm PROMPT TOKENS FILE.gguf...");
    };
    let tokens: u32 = tokens.parse()?;
    let request = json!({"text": prompt, "params": {"temperature": 0, "max_tokens": tokens}});
    let module = Module::from_file(&Engine::default(), component).map_err(of_wasmtime)?;
    for file in files {
        let bytes = std::fs::read(file).with_context(|| file.clone())?;
        let (hash, ids) = Guest::new(&module)?.hash_reply(&bytes, &request)?;
        println!(
            "{}",
            json!({"file": file, "hash": format!("{hash:016x}"), "ids": ids})
        );
    }
    Ok(())
}

/// wasmtime's errors are a type of their own.
fn of_wasmtime(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

/// An instance of the component, which imports nothing.
struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl Guest {
    fn new(module: &Module) -> Result<Self> {
        let mut store = Store::new(module.engine(), ());
        let instance = Instance::new(&mut store, module, &[]).map_err(of_wasmtime)?;
        let memory = instance
            .get_memory(&mut store, "memory")
            .context("the component exports no memory")?;
        Ok(Self {
            store,
            instance,
            memory,
        })
    }

    fn call<P: WasmParams, R: WasmResults>(&mut self, name: &str, parameters: P) -> Result<R> {
        let function = self
            .instance
            .get_typed_func::<P, R>(&mut self.store, name)
            .map_err(of_wasmtime)?;
        function
            .call(&mut self.store, parameters)
            .map_err(of_wasmtime)
    }

    /// A call whose status must not be a failure.
    fn status<P: WasmParams>(&mut self, name: &str, parameters: P) -> Result<i32> {
        let status: i32 = self.call(name, parameters)?;
        ensure!(
            status >= 0,
            "{name}: {}",
            String::from_utf8_lossy(&self.result()?)
        );
        Ok(status)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<u32> {
        let at: u32 = self.call("meetara_alloc", u32::try_from(bytes.len())?)?;
        ensure!(at != 0, "no memory for {} bytes", bytes.len());
        self.memory.write(&mut self.store, at as usize, bytes)?;
        Ok(at)
    }

    fn result(&mut self) -> Result<Vec<u8>> {
        let at: u32 = self.call("meetara_result_ptr", ())?;
        let len: u32 = self.call("meetara_result_len", ())?;
        let mut bytes = vec![0; len as usize];
        self.memory.read(&self.store, at as usize, &mut bytes)?;
        Ok(bytes)
    }

    fn hash_reply(&mut self, file: &[u8], request: &Value) -> Result<(u64, Vec<u64>)> {
        let at = self.put(file)?;
        self.status("meetara_model_load", at)?;
        let session = self.status("meetara_session_open", (0_u32, 0_u32))?;
        let at = self.put(request.to_string().as_bytes())?;
        self.status("meetara_start", (session, at))?;
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut ids = Vec::new();
        while self.status("meetara_step", session)? == 0 {
            let step: Value = serde_json::from_slice(&self.result()?)?;
            if step["step"] != "token" {
                continue;
            }
            ids.push(step["id"].as_u64().context("a token without an id")?);
            self.status("meetara_logits", session)?;
            for byte in self.result()? {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        Ok((hash, ids))
    }
}
