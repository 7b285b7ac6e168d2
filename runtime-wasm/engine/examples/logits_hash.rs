//! The hash of the logits behind greedy replies, for every set of kernels that this CPU can run.
//!
//! ```text
//! logits_hash PROMPT TOKENS FILE.gguf...   one line of JSON for each file and set of kernels
//! ```
//!
//! The hash is FNV-1a (64 bits) over the bits of all logits, little endian, from which each token was chosen.
//! `tests/runners/one_hash.mjs` computes the same in Node, Chromium, workerd and wasmtime.

use std::error::Error;
use std::sync::Arc;

use meetara_engine::generate::{GenerateParams, Session, Step};
use meetara_engine::kernels::Kernels;
use meetara_engine::model::Model;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [prompt, tokens, files @ ..] = arguments.as_slice() else {
        return Err("usage: logits_hash PROMPT TOKENS FILE.gguf...".into());
    };
    let params = GenerateParams {
        temperature: 0.0,
        max_tokens: Some(tokens.parse()?),
        ..GenerateParams::default()
    };
    for file in files {
        for kernels in Kernels::available() {
            let model = Model::load_with(std::fs::read(file)?, kernels)?;
            let mut session = Session::new(Arc::new(model), None)?;
            let (hash, ids) = hash_reply(&mut session, prompt, &params)?;
            let line = serde_json::json!({
                "kernels": kernels.name, "file": file, "hash": format!("{hash:016x}"), "ids": ids,
            });
            println!("{line}");
        }
    }
    Ok(())
}

fn hash_reply(
    session: &mut Session,
    prompt: &str,
    params: &GenerateParams,
) -> Result<(u64, Vec<u32>), Box<dyn Error>> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut ids = Vec::new();
    session.start_text(prompt, params)?;
    loop {
        match session.step()? {
            Step::Prefill { .. } => {}
            Step::Token { id, .. } => {
                ids.push(id);
                for byte in session.logits().iter().flat_map(|x| x.to_le_bytes()) {
                    hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
                }
            }
            Step::Done { .. } => return Ok((hash, ids)),
        }
    }
}
