//! The engine without a sandbox, as one side of a comparison: answers the turns of `cargo xtask bench`.
//!
//! ```text
//! bench_native words FILE.gguf    words that are one token each, as JSON: [[id, text], ...]
//! bench_native adapter FILE.gguf SEED    the file of a LoRA adapter of random weights, as bytes
//! bench_native turns FILE.gguf    a line when the model is ready, then a line for each line of input
//! ```
//!
//! The lines are described in `xtask/src/bench/runtime/contestant.rs`. A turn feeds known tokens:
//! nothing is sampled, and no text is made. The fastest kernels of this CPU are used.

#[path = "support/random_adapter.rs"]
mod random_adapter;

use std::error::Error;
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Instant;

use cpu_time::ProcessTime;
use meetara_engine::generate::Session;
use meetara_engine::model::{Adapter, Model};
use meetara_engine::tokenizer::Special;
use random_adapter::random_adapter;
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
    let (mode, file, seed) = match arguments.as_slice() {
        [mode, file] => (mode, file, None),
        [mode, file, seed] => (mode, file, Some(seed)),
        _ => return Err("usage: bench_native (words | adapter | turns) FILE.gguf [SEED]".into()),
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
            let seed = seed.map_or(Ok(1), |seed| seed.parse())?;
            std::io::stdout().write_all(&random_adapter(&model, seed)?)?;
            Ok(())
        }
        "turns" => turns(&model, started),
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

fn turns(model: &Arc<Model>, started: (Instant, ProcessTime)) -> Result<(), Box<dyn Error>> {
    let mut session = Session::new(Arc::clone(model), Some(1024))?;
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
                let (tokens, wall_s, cpu_s) = measure(&mut session, &turn)?;
                json!({"tokens": tokens, "wall_s": wall_s, "cpu_s": cpu_s})
            }
            Line::Swaps(swaps) => json!({"swap_ms": swap_ms(model, &mut session, &swaps)?}),
        };
        writeln!(out, "{taken}")?;
        out.flush()?;
    }
    Ok(())
}

/// Tokens, wall seconds and CPU seconds of a turn.
fn measure(session: &mut Session, turn: &Turn) -> Result<(usize, f64, f64), Box<dyn Error>> {
    let (mut tokens, mut wall_s, mut cpu_s) = (0, 0.0, 0.0);
    for prompt in turn.prompts.iter().cycle() {
        let mut clock = (Instant::now(), ProcessTime::now());
        session.eval_tokens(&prompt.ids)?;
        if turn.generate == 0 {
            tokens += prompt.ids.len();
        } else {
            clock = (Instant::now(), ProcessTime::now());
            for &id in prompt.ids.iter().cycle().take(turn.generate) {
                session.append_token(id)?;
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
