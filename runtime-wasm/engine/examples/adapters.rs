//! What an adapter costs: loading it, swapping it, and every token through it.
//!
//! ```text
//! cargo run --release -p meetara-engine --example adapters [-- BASE.gguf]
//! ```
//!
//! The adapter has random pairs of rank 8 for every matrix of the layers.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use meetara_engine::conformance::Random;
use meetara_engine::generate::Session;
use meetara_engine::model::{Adapter, Model};
use meetara_format::{GgmlType, Writer, quantize};

const RANK: u64 = 8;
const TOKENS: u32 = 100;

fn adapter(model: &Model, seed: u64) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut random = Random::new(seed);
    let mut writer = Writer::new(&model.config().architecture);
    writer.set("general.type", "adapter");
    writer.set("adapter.type", "lora");
    writer.set("adapter.lora.alpha", 16.0_f32);
    let matrices = model.gguf().tensors.iter();
    for weight in matrices.filter(|t| t.shape().len() == 2 && t.name.starts_with("blk.")) {
        let [n_in, n_out, ..] = weight.dims;
        for (suffix, dims) in [("lora_a", [n_in, RANK]), ("lora_b", [RANK, n_out])] {
            let values: Vec<f32> = (0..dims[0] * dims[1])
                .map(|_| 0.02 * random.float())
                .collect();
            let data = quantize(GgmlType::F16, &values, dims[0] as usize, None)?;
            let name = format!("{}.{suffix}", weight.name);
            writer.add_tensor(&name, &dims, GgmlType::F16, data)?;
        }
    }
    Ok(writer.finish()?)
}

/// Milliseconds of one token, the median of many.
fn token_ms(session: &mut Session) -> Result<f64, Box<dyn Error>> {
    session.eval_tokens(&[0; 32])?;
    let mut times = Vec::new();
    for token in 0..TOKENS {
        let start = Instant::now();
        session.append_token(token)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn prefill_ms(session: &mut Session) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    session.eval_tokens(&[5; 128])?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1);
    let path = path.unwrap_or_else(|| "models/pocket/meetara-pocket-q4_k_m.gguf".to_owned());
    let model = Arc::new(Model::load(std::fs::read(path)?)?);
    let files = [adapter(&model, 1)?, adapter(&model, 2)?];
    let start = Instant::now();
    let adapters = [
        Adapter::load(&model, &files[0])?,
        Adapter::load(&model, &files[1])?,
    ];
    println!(
        "load             {:8.3} ms for a file of {} bytes, {} in memory",
        start.elapsed().as_secs_f64() * 500.0,
        files[0].len(),
        adapters[0].memory_bytes()
    );
    let mut session = Session::new(Arc::clone(&model), None)?;
    let mixes: [(&str, Vec<(Adapter, f32)>); 3] = [
        ("base", Vec::new()),
        ("one adapter", vec![(adapters[0].clone(), 1.0)]),
        (
            "two adapters",
            vec![(adapters[1].clone(), 0.6), (adapters[0].clone(), 0.4)],
        ),
    ];
    for _ in 0..3 {
        for (name, mix) in &mixes {
            let start = Instant::now();
            session.set_adapters(mix)?;
            let swap_us = start.elapsed().as_secs_f64() * 1e6;
            println!(
                "{name:16} swap {swap_us:6.1} us   decode {:6.3} ms a token   prefill {:7.2} ms for 128",
                token_ms(&mut session)?,
                prefill_ms(&mut session)?
            );
        }
    }
    Ok(())
}
