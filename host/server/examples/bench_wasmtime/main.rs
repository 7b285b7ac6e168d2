//! The sandboxed engine as one side of a comparison, and what conversations in it cost.
//!
//! ```text
//! bench_wasmtime turns COMPONENT.wasm FILE.gguf           answers the turns of `cargo xtask bench`
//! bench_wasmtime conversations COMPONENT.wasm FILE.gguf   a line of JSON for each number of conversations
//! ```
//!
//! The turns are described in xtask/src/bench/runtime/contestant.rs. Instances, limits and settings
//! are those of the host itself.

mod conversations;
mod turns;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use meetara_api::{Prompt, Sampling};
use meetara_host::sandbox::wire::{KvType, Start};
use meetara_host::sandbox::{Image, Instance, Limits, Sandbox};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [what, component, file] if what == "turns" => turns::run(component.as_ref(), file.as_ref()),
        [what, component, file] if what == "conversations" => {
            conversations::run(component.as_ref(), file.as_ref())
        }
        _ => bail!("usage: bench_wasmtime turns|conversations COMPONENT.wasm FILE.gguf"),
    }
}

/// The host's own sandbox.
fn sandbox(component: &Path) -> Result<Sandbox> {
    let limits = Limits {
        memory_bytes_max: 2 << 30,
        conversation_bytes_max: 512 << 20,
        call_max: Duration::from_secs(60),
    };
    Ok(Sandbox::open(component, limits)?)
}

/// The image of a loaded model with one open session, and the session.
fn load(sandbox: &Sandbox, file: &Path) -> Result<(Arc<Image>, i32)> {
    let mut instance = Instance::new(sandbox)?;
    instance.load(file, std::fs::metadata(file)?.len())?;
    let (session, _) = instance.open_session(0, KvType::F16)?;
    Ok((instance.image(None)?, session))
}

/// Starts the greedy continuation of `text`; returns the tokens of the prompt.
fn start(instance: &mut Instance, session: i32, text: &str, tokens_max: u32) -> Result<u32> {
    let params = Sampling {
        temperature: Some(0.0),
        max_tokens: Some(tokens_max),
        ..Sampling::default()
    };
    let prompt = Prompt::Text(text.to_owned());
    let start = Start {
        prompt: (&prompt).into(),
        params: &params,
        adapters: &[],
    };
    Ok(instance.start(session, &start)?.prompt_tokens)
}
