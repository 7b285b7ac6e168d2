//! What guessed tokens (prompt-lookup decoding) gain: the same replies with and without, in turn.
//!
//! `cargo run --release -p meetara-engine --example guesses -- FILE [ROUNDS [TEXT]]`, with TEXT for the one of that name.
//!
//! Each text is continued greedily and at a temperature. The first kinds repeat what was read; the last
//! are free. Times are the process's own CPU time, the median over the rounds; replies are compared.

use std::process::ExitCode;
use std::sync::Arc;

use cpu_time::ProcessTime;
use meetara_engine::generate::{GenerateParams, Session, Step};
use meetara_engine::model::Model;

/// Tokens of each reply.
const TOKENS: u32 = 160;
/// How texts are guessed: `(draft_max, lookup_ngram)`.
const GUESSES: [(u32, u32); 4] = [(3, 2), (3, 3), (7, 3), (15, 3)];

/// Names and texts.
fn texts() -> Vec<(&'static str, String)> {
    let list = "apples, pears, plums, grapes, figs, dates, limes, kiwis, nuts, oats; ";
    let story = "The keeper of the lighthouse went down to the shore before the sun was up. The sea was calm, \
        and the boats of the village lay side by side on the sand. He counted them twice, as he did every day. ";
    vec![
        ("list", list.repeat(8)),
        (
            "copied story",
            format!("{story}\n{story}\n{}", &story[..60]),
        ),
        (
            "json rows",
            (1..14)
                .map(|i| format!("{{\"id\": {i}, \"name\": \"item {i}\", \"ok\": true}}\n"))
                .collect(),
        ),
        ("story", story.to_owned()),
        (
            "question",
            "I cannot sleep at night. What can I do? ".to_owned(),
        ),
    ]
}

fn reply(
    session: &mut Session,
    text: &str,
    params: &GenerateParams,
) -> Result<(Vec<u32>, f64, f64), Box<dyn std::error::Error>> {
    session.reset();
    session.start_text(text, params)?;
    let (mut ids, mut start) = (Vec::new(), ProcessTime::now());
    loop {
        match session.step()? {
            Step::Prefill { .. } => start = ProcessTime::now(),
            Step::Token { id, .. } => ids.push(id),
            Step::Done { usage, .. } => {
                let accepted = f64::from(usage.accepted_tokens);
                let share = accepted / f64::from(usage.drafted_tokens.max(1));
                return Ok((ids, start.elapsed().as_secs_f64(), share));
            }
        }
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn run(file: &str, rounds: usize, only: Option<&str>) -> Result<(), Box<dyn std::error::Error>> {
    let model = Arc::new(Model::load(std::fs::read(file)?)?);
    let mut session = Session::new(model, Some(1024))?;
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    for (name, text) in texts().into_iter().filter(|(name, _)| wanted(name)) {
        for temperature in [0.0, 0.8] {
            let plain = GenerateParams {
                temperature,
                seed: 5,
                max_tokens: Some(TOKENS),
                ..GenerateParams::default()
            };
            let (expected, _, _) = reply(&mut session, &text, &plain)?;
            print!("{name:13} t {temperature:.1} {:3} tokens ", expected.len());
            for (draft_max, lookup_ngram) in GUESSES {
                let guessing = GenerateParams {
                    draft_max,
                    lookup_ngram,
                    ..plain.clone()
                };
                let (mut without, mut with) = (Vec::new(), Vec::new());
                let mut held = 0.0;
                for _ in 0..rounds {
                    without.push(reply(&mut session, &text, &plain)?.1);
                    let (ids, time, share) = reply(&mut session, &text, &guessing)?;
                    if ids != expected {
                        return Err("guesses changed the reply".into());
                    }
                    with.push(time);
                    held = share;
                }
                let gain = median(&mut without) / median(&mut with);
                print!(
                    " {draft_max}/{lookup_ngram}: {gain:.2}x ({:.0} %)",
                    100.0 * held
                );
            }
            println!();
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(file) = args.next() else {
        eprintln!("usage: guesses FILE [ROUNDS [TEXT]]");
        return ExitCode::FAILURE;
    };
    let rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(3);
    match run(&file, rounds, args.next().as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
