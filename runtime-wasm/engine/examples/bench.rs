//! Tokens per second of CPU time, for every set of kernels, on the pocket model's
//! shape with random weights, or on a file given as the argument.
//!
//! ```text
//! cargo run --release -p meetara-engine --example bench [-- F.gguf]
//! ```

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use meetara_engine::conformance::{Random, Shape, random_model};
use meetara_engine::generate::Session;
use meetara_engine::kernels::Kernels;
use meetara_engine::model::Model;
use meetara_format::GgmlType;

const POCKET: Shape = Shape {
    n_layer: 12,
    n_embd: 256,
    n_head: 8,
    n_head_kv: 4,
    n_ff: 768,
    n_vocab: 8192,
    context_len: 1024,
};

/// The Q4_K_M mix of a tied model with 12 layers.
fn pocket_type(name: &str) -> GgmlType {
    let layer = name.split('.').nth(1).and_then(|n| n.parse::<usize>().ok());
    let more = matches!(layer, Some(0 | 3 | 6 | 9 | 10 | 11));
    match name {
        "token_embd.weight" => GgmlType::Q6_K,
        _ if more && (name.contains("attn_v") || name.contains("ffn_down")) => GgmlType::Q6_K,
        _ => GgmlType::Q4_K,
    }
}

/// Seconds that this thread has run; other processes do not count. The kernel
/// updates the figure every few milliseconds.
fn cpu_s(start: Instant) -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = stat.and_then(|s| s.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| start.elapsed().as_secs_f64(), |ns| ns * 1e-9)
}

/// Mean seconds of `f` over at least half a second.
fn mean_s(mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    f();
    let before = cpu_s(start);
    for runs in 1.. {
        f();
        let spent = cpu_s(start) - before;
        if spent > 0.5 {
            return spent / f64::from(runs);
        }
    }
    f64::NAN
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = match std::env::args().nth(1) {
        Some(path) => std::fs::read(path)?,
        None => random_model(POCKET, 1, pocket_type)?,
    };
    println!("{:.2} MB", file.len() as f64 / 1e6);
    for kernels in Kernels::available() {
        let load = mean_s(|| {
            black_box(
                Model::load_with(file.clone(), kernels)
                    .map(|model| model.file_bytes())
                    .ok(),
            );
        });
        let model = Arc::new(Model::load_with(file.clone(), kernels)?);
        let n_vocab = model.config().n_vocab as u64;
        let mut session = Session::new(Arc::clone(&model), Some(1024))?;
        let mut random = Random::new(2);
        let tokens: Vec<u32> = (0..512).map(|_| (random.bits() % n_vocab) as u32).collect();
        let mut prefill = |n: usize| {
            n as f64
                / mean_s(|| {
                    black_box(session.eval_tokens(&tokens[..n]).is_ok());
                })
        };
        let (prefill_128, prefill_512) = (prefill(128), prefill(512));
        // Eight tokens behind a short history, and behind a long one; the history is cached.
        let mut decode = |history: usize| {
            8.0 / mean_s(|| {
                black_box(session.rewind(history).is_ok());
                for &token in &tokens[..8] {
                    black_box(session.append_token(token).is_ok());
                }
            })
        };
        let (long, short) = (decode(504), decode(32));
        println!(
            "{:8} load {:5.1} ms  prefill 128: {prefill_128:6.0} tok/s, 512: {prefill_512:6.0} tok/s  decode at 32: {short:5.0} tok/s, at 504: {long:5.0} tok/s  session {:.2} MB",
            kernels.name,
            load * 1e3,
            session.memory_bytes() as f64 / 1e6,
        );
    }
    Ok(())
}
