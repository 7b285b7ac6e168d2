//! Runs a GGUF file from the command line and says how fast it was.
//!
//! ```text
//! cargo run --release -p meetara-engine --example generate -- \
//!     --model F.gguf --prompt "Hello" [--chat] [-n 64] [--context 512] [--temperature 0] [--seed 1] [--kernels scalar]
//! ```
//!
//! `--chat` puts the prompt into the model's chat template.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meetara_engine::generate::{GenerateParams, Session, Step};
use meetara_engine::kernels::Kernels;
use meetara_engine::model::Model;
use meetara_engine::template::Message;

struct Args {
    model: String,
    prompt: String,
    chat: bool,
    context: Option<u32>,
    kernels: Kernels,
    params: GenerateParams,
}

fn parse() -> Result<Args, Box<dyn Error>> {
    let mut parsed = Args {
        model: String::new(),
        prompt: String::new(),
        chat: false,
        context: None,
        kernels: Kernels::best(),
        params: GenerateParams {
            temperature: 0.0,
            max_tokens: Some(64),
            ..GenerateParams::default()
        },
    };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        if flag == "--chat" {
            parsed.chat = true;
            continue;
        }
        let value = args.next().ok_or(format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--model" => parsed.model = value,
            "--prompt" => parsed.prompt = value,
            "-n" => parsed.params.max_tokens = Some(value.parse()?),
            "--context" => parsed.context = Some(value.parse()?),
            "--temperature" => parsed.params.temperature = value.parse()?,
            "--seed" => parsed.params.seed = value.parse()?,
            "--kernels" => {
                let available = Kernels::available();
                let names: Vec<_> = available.iter().map(|kernels| kernels.name).collect();
                parsed.kernels = *available
                    .iter()
                    .find(|kernels| kernels.name == value)
                    .ok_or(format!("no kernels {value}, this CPU has {names:?}"))?;
            }
            _ => return Err(format!("unknown option {flag}").into()),
        }
    }
    Ok(parsed)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = parse()?;
    let bytes = std::fs::read(&args.model)?;
    let start = Instant::now();
    let model = Arc::new(Model::load_with(bytes, args.kernels)?);
    let mut session = Session::new(Arc::clone(&model), args.context)?;
    let load = start.elapsed();

    if args.chat {
        let message = Message {
            role: "user".to_owned(),
            content: args.prompt,
        };
        session.start_chat(&[message], &args.params)?;
    } else {
        session.start_text(&args.prompt, &args.params)?;
    }
    let (mut prefill, mut decode) = (Duration::ZERO, Duration::ZERO);
    let usage = loop {
        let start = Instant::now();
        let step = session.step()?;
        match step {
            Step::Prefill { .. } => prefill += start.elapsed(),
            Step::Token { text, .. } => {
                decode += start.elapsed();
                print!("{text}");
                std::io::stdout().flush()?;
            }
            Step::Done { text, usage, .. } => {
                println!("{text}");
                break usage;
            }
        }
    };
    // The first token costs no pass of its own: its logits come from the prompt.
    let passes = usage.completion_tokens.saturating_sub(1);
    let rate = |tokens: u32, time: Duration| f64::from(tokens) / time.as_secs_f64().max(1e-9);
    eprintln!(
        "{}: load {:.1} ms; prompt {} tokens, {:.0} tok/s; reply {} tokens, {:.0} tok/s; session {:.2} MB",
        model.kernels().name,
        load.as_secs_f64() * 1e3,
        usage.prompt_tokens,
        rate(usage.prompt_tokens - usage.cached_tokens, prefill),
        usage.completion_tokens,
        rate(passes, decode),
        session.memory_bytes() as f64 / 1e6,
    );
    Ok(())
}
