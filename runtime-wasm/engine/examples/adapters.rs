//! What an adapter costs: loading it, swapping it, and every token through it.
//!
//! ```text
//! cargo run --release -p meetara-engine --example adapters [-- BASE.gguf]
//! ```
//!
//! The adapter has random pairs of rank 8 for every matrix of the layers.

#[path = "support/random_adapter.rs"]
mod random_adapter;

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use meetara_engine::generate::Session;
use meetara_engine::model::{Adapter, Model};
use random_adapter::random_adapter;

const TOKENS: u32 = 100;

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
    let files = [random_adapter(&model, 1)?, random_adapter(&model, 2)?];
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
