//! Turns of the comparison of engines.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use cpu_time::ProcessTime;
use meetara_host::sandbox::Instance;
use meetara_host::sandbox::wire::Stepped;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Prompt {
    text: String,
}

#[derive(Deserialize)]
struct Turn {
    prompts: Vec<Prompt>,
    generate: u32,
    wall_s_min: f64,
}

/// Loads, then answers turn after turn.
pub(crate) fn run(component: &Path, file: &Path) -> Result<()> {
    let sandbox = super::sandbox(component)?;
    let began = (Instant::now(), ProcessTime::now());
    let (image, session) = super::load(&sandbox, file)?;
    let mut instance = Instance::spring(&sandbox, &image)?;
    let ready = json!({
        "variant": "relaxed",
        "load_ms": began.0.elapsed().as_secs_f64() * 1e3,
        "load_cpu_ms": began.1.elapsed().as_secs_f64() * 1e3,
    });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{ready}")?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let turn: Turn = serde_json::from_str(&line?)?;
        let (tokens, wall_s, cpu_s) = measure(&mut instance, session, &turn)?;
        let taken = json!({"tokens": tokens, "wall_s": wall_s, "cpu_s": cpu_s});
        writeln!(out, "{taken}")?;
        out.flush()?;
    }
    Ok(())
}

/// Tokens, wall seconds and CPU seconds of a turn.
fn measure(instance: &mut Instance, session: i32, turn: &Turn) -> Result<(u32, f64, f64)> {
    let (mut tokens, mut wall_s, mut cpu_s) = (0, 0.0, 0.0);
    for prompt in turn.prompts.iter().cycle() {
        let mut clock = (Instant::now(), ProcessTime::now());
        let prompt_tokens = super::start(instance, session, &prompt.text, u32::MAX)?;
        while matches!(instance.step(session)?, Stepped::Prefill {}) {}
        if turn.generate == 0 {
            tokens += prompt_tokens;
        } else {
            clock = (Instant::now(), ProcessTime::now());
            decode(instance, session, &prompt.text, turn.generate)?;
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

/// Generates `count` tokens; a reply that ends before is gone on with.
fn decode(instance: &mut Instance, session: i32, prompt: &str, count: u32) -> Result<()> {
    let mut text = prompt.to_owned();
    let mut left = count;
    while left > 0 {
        match instance.step(session)? {
            Stepped::Prefill {} => {}
            Stepped::Token { text: piece, .. } => {
                text.push_str(&piece);
                left -= 1;
            }
            Stepped::Done { text: piece, .. } => {
                text.push_str(&piece);
                text.push_str(" and");
                super::start(instance, session, &text, u32::MAX)?;
            }
        }
    }
    Ok(())
}
