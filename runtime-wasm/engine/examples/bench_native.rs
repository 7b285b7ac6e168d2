//! The engine without a sandbox, as one side of a comparison: answers the turns of `cargo xtask bench`.
//!
//! ```text
//! bench_native words FILE.gguf    words that are one token each, as JSON: [[id, text], ...]
//! bench_native adapter FILE.gguf SEED    the file of a LoRA adapter of random weights, as bytes
//! bench_native turns FILE.gguf [THREADS]
//!                                 a line when the model is ready, then a line for each line of input
//! ```
//!
//! The lines are described in `xtask/src/bench/runtime/contestant.rs`. A turn feeds known tokens:
//! nothing is sampled, and no text is made. The fastest kernels of this CPU are used. More than one
//! thread is lent to the engine as a pool, of which it takes its choice as in a browser: whatever was
//! faster of late.

#[path = "support/random_adapter.rs"]
mod random_adapter;

use std::error::Error;
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use cpu_time::ProcessTime;
use meetara_engine::generate::Session;
use meetara_engine::model::{Adapter, Model};
use meetara_engine::nn::pool::Pool;
use meetara_engine::nn::pool_choice::PoolChoice;
use meetara_engine::tokenizer::Special;
use random_adapter::random_adapter;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Deserialize;
use serde_json::json;

/// Words that are enough for prompts without a visible pattern.
const WORDS_MAX: usize = 512;

/// One turn: every prompt from an empty context, then `generate` tokens behind it.
#[derive(Deserialize)]
struct Turn {
    prompts: Vec<Prompt>,
    /// Tokens after the prompt; 0 measures the prompt itself.
    generate: usize,
    /// The turn repeats itself until so many seconds have been measured.
    wall_s_min: f64,
}

/// What is asked for in place of a turn: the time to put other adapters on.
#[derive(Deserialize)]
struct Swaps {
    /// Files of two adapters.
    adapters: [String; 2],
    swaps: u32,
}

/// A line of input.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Turn(Turn),
    Swaps(Swaps),
}

#[derive(Deserialize)]
struct Prompt {
    ids: Vec<u32>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mode, file, number) = match arguments.as_slice() {
        [mode, file] => (mode, file, None),
        [mode, file, number] => (mode, file, Some(number)),
        _ => {
            return Err(
                "usage: bench_native (words | adapter | turns) FILE.gguf [SEED | THREADS]".into(),
            );
        }
    };
    let bytes = std::fs::read(file)?;
    let started = (Instant::now(), ProcessTime::now());
    let model = Arc::new(Model::load(bytes)?);
    match mode.as_str() {
        "words" => {
            println!("{}", serde_json::to_string(&words(&model)?)?);
            Ok(())
        }
        "adapter" => {
            let seed = number.map_or(Ok(1), |seed| seed.parse())?;
            std::io::stdout().write_all(&random_adapter(&model, seed)?)?;
            Ok(())
        }
        "turns" => {
            let threads = number.map_or(Ok(1), |threads| threads.parse())?;
            turns(&model, threads, started)
        }
        _ => Err(format!("{mode} is none of words, adapter and turns").into()),
    }
}

/// Tokens that read as a space and a lower-case word, and that such a text is made of: words in a
/// row then have as many tokens as words.
fn words(model: &Model) -> Result<Vec<(u32, String)>, Box<dyn Error>> {
    let tokenizer = model.tokenizer();
    let mut words = Vec::new();
    for id in 0..tokenizer.len() as u32 {
        let mut bytes = Vec::new();
        tokenizer.append_bytes(id, &mut bytes);
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        let is_word = text.strip_prefix(' ').is_some_and(|word| {
            word.len() >= 3 && word.bytes().all(|letter| letter.is_ascii_lowercase())
        });
        if is_word && tokenizer.encode(&text, Special::Text)? == [id] {
            words.push((id, text));
        }
        if words.len() == WORDS_MAX {
            break;
        }
    }
    Ok(words)
}

/// Threads that are lent while `used` says so.
#[derive(Debug)]
struct Threads {
    pool: ThreadPool,
    used: AtomicBool,
}

/// Pieces for each thread, so that one that comes late does less than the others.
const PIECES_PER_THREAD: usize = 4;

impl Pool for Threads {
    fn pieces(&self) -> usize {
        if self.used.load(Ordering::Relaxed) {
            self.pool.current_num_threads() * PIECES_PER_THREAD
        } else {
            1
        }
    }

    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        self.pool
            .install(|| (0..pieces).into_par_iter().for_each(work));
    }
}

/// The engine, and whether its threads pay: for passes over prompts, and for tokens.
struct Engine {
    session: Session,
    threads: Option<Arc<Threads>>,
    prefill: PoolChoice,
    token: PoolChoice,
}

impl Engine {
    fn new(model: &Arc<Model>, threads: usize) -> Result<Self, Box<dyn Error>> {
        let mut session = Session::new(Arc::clone(model), Some(1024))?;
        let mut lent = None;
        if threads > 1 {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
            let threads = Arc::new(Threads {
                pool,
                used: AtomicBool::new(false),
            });
            session.set_pool(Some(Arc::clone(&threads) as Arc<dyn Pool>));
            lent = Some(threads);
        }
        Ok(Self {
            session,
            threads: lent,
            prefill: PoolChoice::new(1),
            token: PoolChoice::new(4),
        })
    }

    /// `work`, which evaluates `tokens` as prompt or one by one, with the threads or without.
    fn evaluate(
        &mut self,
        tokens: usize,
        work: impl FnOnce(&mut Session) -> meetara_engine::Result<()>,
    ) -> meetara_engine::Result<()> {
        let Some(threads) = &self.threads else {
            return work(&mut self.session);
        };
        let choice = if tokens > 1 {
            &mut self.prefill
        } else {
            &mut self.token
        };
        threads.used.store(choice.pooled(), Ordering::Relaxed);
        let began = Instant::now();
        work(&mut self.session)?;
        choice.took(began.elapsed().as_secs_f64() * 1e3 / tokens as f64);
        Ok(())
    }

    fn prompt(&mut self, ids: &[u32]) -> meetara_engine::Result<()> {
        self.evaluate(ids.len(), |session| session.eval_tokens(ids).map(drop))
    }

    fn append(&mut self, id: u32) -> meetara_engine::Result<()> {
        self.evaluate(1, |session| session.append_token(id).map(drop))
    }
}

fn turns(
    model: &Arc<Model>,
    threads: usize,
    started: (Instant, ProcessTime),
) -> Result<(), Box<dyn Error>> {
    let mut engine = Engine::new(model, threads)?;
    let mut out = std::io::stdout().lock();
    let ready = json!({
        "variant": model.kernels().name,
        "load_ms": started.0.elapsed().as_secs_f64() * 1e3,
        "load_cpu_ms": started.1.elapsed().as_secs_f64() * 1e3,
    });
    writeln!(out, "{ready}")?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let taken = match serde_json::from_str(&line?)? {
            Line::Turn(turn) => {
                let (tokens, wall_s, cpu_s) = measure(&mut engine, &turn)?;
                json!({"tokens": tokens, "wall_s": wall_s, "cpu_s": cpu_s})
            }
            Line::Swaps(swaps) => {
                json!({"swap_ms": swap_ms(model, &mut engine.session, &swaps)?})
            }
        };
        writeln!(out, "{taken}")?;
        out.flush()?;
    }
    Ok(())
}

/// Tokens, wall seconds and CPU seconds of a turn.
fn measure(engine: &mut Engine, turn: &Turn) -> Result<(usize, f64, f64), Box<dyn Error>> {
    let (mut tokens, mut wall_s, mut cpu_s) = (0, 0.0, 0.0);
    for prompt in turn.prompts.iter().cycle() {
        let mut clock = (Instant::now(), ProcessTime::now());
        engine.prompt(&prompt.ids)?;
        if turn.generate == 0 {
            tokens += prompt.ids.len();
        } else {
            clock = (Instant::now(), ProcessTime::now());
            for &id in prompt.ids.iter().cycle().take(turn.generate) {
                engine.append(id)?;
            }
            tokens += turn.generate;
        }
        wall_s += clock.0.elapsed().as_secs_f64();
        cpu_s += clock.1.elapsed().as_secs_f64();
        if wall_s >= turn.wall_s_min {
            break;
        }
    }
    Ok((tokens, wall_s, cpu_s))
}

/// The mean time to put another mix on: one adapter, the other, both, none, in turn. The session has a
/// conversation, which it forgets.
fn swap_ms(
    model: &Arc<Model>,
    session: &mut Session,
    swaps: &Swaps,
) -> Result<f64, Box<dyn Error>> {
    let load = |file: &String| -> Result<Adapter, Box<dyn Error>> {
        Ok(Adapter::load(model, &std::fs::read(file)?)?)
    };
    let (one, other) = (load(&swaps.adapters[0])?, load(&swaps.adapters[1])?);
    let both = [(one.clone(), 0.6), (other.clone(), 0.4)];
    let mixes: [&[(Adapter, f32)]; 4] = [&[(one, 1.0)], &[(other, 1.0)], &both, &[]];
    let mut seconds = 0.0;
    for mix in mixes.iter().cycle().take(swaps.swaps as usize) {
        session.eval_tokens(&[0; 4])?;
        let began = Instant::now();
        session.set_adapters(mix)?;
        seconds += began.elapsed().as_secs_f64();
    }
    Ok(seconds * 1e3 / f64::from(swaps.swaps))
}
