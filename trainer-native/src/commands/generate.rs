//! `meetara-train generate`: one reply of a model, as it comes, computed by the runtime's own engine.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::{Context, Result};
use meetara_engine::generate::{GenerateParams, Session, Step};
use meetara_engine::model::{Adapter, Model};
use meetara_engine::profile::Span;
use meetara_engine::template::Message;
use serde_json::json;

use super::read_file;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// A GGUF model.
    #[arg(long)]
    model: PathBuf,
    /// A LoRA adapter over the model; `FILE=SCALE` multiplies its part; may be given several times.
    #[arg(long, value_name = "FILE[=SCALE]")]
    adapter: Vec<String>,
    /// What the user says.
    #[arg(long)]
    prompt: String,
    /// A system message before it.
    #[arg(long)]
    system: Option<String>,
    /// Continue the prompt as plain text, without the chat template.
    #[arg(long)]
    raw: bool,
    /// Longest reply in tokens.
    #[arg(long, default_value_t = 200)]
    max_tokens: u32,
    /// 0 always takes the likeliest token.
    #[arg(long, default_value_t = 0.7)]
    temperature: f32,
    /// Keep the k likeliest tokens; 0 keeps all.
    #[arg(long, default_value_t = 40)]
    top_k: u32,
    /// Keep the likeliest tokens up to this share.
    #[arg(long, default_value_t = 0.95)]
    top_p: f32,
    /// Divides the logits of recent tokens; 1 changes nothing.
    #[arg(long, default_value_t = 1.1)]
    repeat_penalty: f32,
    /// The same seed gives the same reply.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Also print the logits after the prompt, with `--json`.
    #[arg(long)]
    logits: bool,
    /// Also print what the time of the prompt and of the reply went into.
    #[arg(long)]
    profile: bool,
}

/// Runs the command.
pub fn run(args: Args, as_json: bool) -> Result<()> {
    let model =
        Model::load(read_file(&args.model)?).with_context(|| args.model.display().to_string())?;
    let model = Arc::new(model);
    let mut session = Session::new(Arc::clone(&model), None)?;
    session.set_adapters(&adapters(&model, &args.adapter)?)?;
    if args.profile {
        session.start_profile(clock_ms);
    }
    let params = GenerateParams {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        repeat_penalty: args.repeat_penalty,
        seed: args.seed,
        max_tokens: Some(args.max_tokens),
        ..GenerateParams::default()
    };
    if args.raw {
        session.start_text(&args.prompt, &params)?;
    } else {
        let system = args.system.map(|text| Message::new("system", text));
        let messages: Vec<Message> = system
            .into_iter()
            .chain([Message::new("user", args.prompt)])
            .collect();
        session.start_chat(&messages, &params)?;
    }
    let started = Instant::now();
    let mut first_token_s = None;
    let mut logits = Vec::new();
    let mut prompt_spans = None;
    let (mut ids, mut reply) = (Vec::new(), String::new());
    let usage = loop {
        match session.step()? {
            Step::Prefill { .. } => {}
            Step::Token { id, text } => {
                if first_token_s.is_none() {
                    first_token_s = Some(started.elapsed().as_secs_f64());
                    if args.profile {
                        prompt_spans = Some(session.profile().to_vec());
                        session.start_profile(clock_ms);
                    }
                    if args.logits {
                        logits = session.logits().to_vec();
                    }
                }
                ids.push(id);
                say(&text, as_json)?;
                reply.push_str(&text);
            }
            Step::Done {
                text,
                usage,
                finish,
            } => {
                say(&text, as_json)?;
                reply.push_str(&text);
                if ids.is_empty() {
                    if args.logits {
                        logits = session.logits().to_vec();
                    }
                    if args.profile {
                        prompt_spans = Some(session.profile().to_vec());
                        session.start_profile(clock_ms);
                    }
                }
                if as_json {
                    let seconds = started.elapsed().as_secs_f64() - first_token_s.unwrap_or(0.0);
                    println!(
                        "{}",
                        json!({"text": reply, "ids": ids, "finish": finish, "usage": usage, "logits": logits,
                               "first_token_ms": first_token_s.map(|s| s * 1e3),
                               "profile": prompt_spans.as_ref().map(|spans| json!({"prompt": spans, "reply": session.profile()})),
                               "tokens_per_s": ids.len() as f64 / seconds.max(1e-9)})
                    );
                }
                break usage;
            }
        }
    };
    if !as_json {
        let seconds = started.elapsed().as_secs_f64();
        eprintln!(
            "\n[{} + {} tokens, {:.0} tokens/s]",
            usage.prompt_tokens,
            usage.completion_tokens,
            f64::from(usage.completion_tokens) / seconds.max(1e-9)
        );
        if let Some(spans) = &prompt_spans {
            print_profile("The prompt and the first token", spans);
            print_profile("The further tokens, all together", session.profile());
        }
    }
    Ok(())
}

/// Each adapter with its scale: 1, unless a number follows the last `=`.
fn adapters(model: &Arc<Model>, arguments: &[String]) -> Result<Vec<(Adapter, f32)>> {
    let one = |argument: &String| {
        let scaled = argument.rsplit_once('=');
        let scaled = scaled.and_then(|(file, scale)| Some((file, scale.parse().ok()?)));
        let (file, scale) = scaled.unwrap_or((argument, 1.0));
        let bytes = read_file(Path::new(file))?;
        let adapter = Adapter::load(model, &bytes).with_context(|| file.to_owned())?;
        Ok((adapter, scale))
    };
    arguments.iter().map(one).collect()
}

/// Milliseconds since this was first asked.
fn clock_ms() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e3
}

/// A table, the longest first.
fn print_profile(title: &str, spans: &[Span]) {
    let total_ms: f64 = spans.iter().map(|span| span.ms).sum();
    let mut spans: Vec<&Span> = spans.iter().collect();
    spans.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    eprintln!("\n{title}: {total_ms:.2} ms");
    for span in spans {
        eprintln!(
            "{:<18} {:<5} {:9.2} ms {:5.1} % {:7} calls",
            span.phase,
            span.weights,
            span.ms,
            span.ms / total_ms.max(1e-9) * 100.0,
            span.calls
        );
    }
}

fn say(text: &str, as_json: bool) -> Result<()> {
    if !as_json && !text.is_empty() {
        print!("{text}");
        std::io::stdout().flush()?;
    }
    Ok(())
}
