//! What holding a reply to a schema costs: to make a model's vocabulary a tree, to compile a schema,
//! and for each token its mask, beside the token's own time.
//!
//! `cargo run --release -p meetara-engine --features constrained --example constrained -- FILE [TOKENS]`

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use cpu_time::ProcessTime;
use meetara_engine::generate::{Constraint, GenerateParams, Session, Step};
use meetara_engine::model::Model;
use meetara_engine::template::Message;

/// Names and schemas: free text inside, and hardly any freedom.
const SCHEMAS: [(&str, &str); 4] = [
    ("json_object", r#"{"type":"object"}"#),
    (
        "person",
        r#"{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":130},"hobbies":{"type":"array","items":{"type":"string"}}},"required":["name","age","hobbies"],"additionalProperties":false}"#,
    ),
    ("strings", r#"{"type":"array","items":{"type":"string"}}"#),
    (
        "pattern",
        r#"{"type":"array","items":{"type":"string","pattern":"^[A-Z][a-z]{2,9}( [a-z]{1,12}){0,4}[.]$"}}"#,
    ),
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(file) = args.next() else {
        eprintln!("usage: constrained FILE [TOKENS]");
        return ExitCode::FAILURE;
    };
    let tokens = args.next().and_then(|n| n.parse().ok()).unwrap_or(128);
    match run(&file, tokens) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(file: &str, tokens: u32) -> Result<(), Box<dyn std::error::Error>> {
    let model = Arc::new(Model::load(std::fs::read(file)?)?);
    let start = ProcessTime::now();
    model.vocabulary()?;
    println!(
        "vocabulary of {} tokens: {:.1} ms",
        model.tokenizer().len(),
        1e3 * start.elapsed().as_secs_f64()
    );
    let message = [Message::new("user", "Describe somebody, as JSON.")];
    for (name, schema) in SCHEMAS {
        let mut session = Session::new(Arc::clone(&model), None)?;
        let params = GenerateParams {
            temperature: 1.0,
            seed: 3,
            max_tokens: Some(tokens),
            constraint: Some(Constraint::JsonSchema(schema.to_owned())),
            ..GenerateParams::default()
        };
        let start = ProcessTime::now();
        session.start_chat(&message, &params)?;
        let start_ms = 1e3 * start.elapsed().as_secs_f64();
        let clock = || {
            thread_local!(static BEGAN: Instant = Instant::now());
            1e3 * BEGAN.with(Instant::elapsed).as_secs_f64()
        };
        session.start_profile(clock);
        let mut count = 0_u32;
        loop {
            match session.step()? {
                Step::Prefill { .. } => session.start_profile(clock),
                Step::Token { .. } => count += 1,
                Step::Done { .. } => break,
            }
        }
        let spans = session.profile();
        let all: f64 = spans.iter().map(|span| span.ms).sum();
        let of = |phase: &str| -> f64 {
            let spans = spans.iter().filter(|span| span.phase == phase);
            spans.map(|span| span.ms).sum()
        };
        println!(
            "{name:12} compiled in {start_ms:6.2} ms; {count:3} tokens, each: mask {:5.1} us, sampling {:5.1} us, all {:7.1} us",
            1e3 * of("mask") / f64::from(count),
            1e3 * of("sampling") / f64::from(count),
            1e3 * all / f64::from(count),
        );
    }
    Ok(())
}
