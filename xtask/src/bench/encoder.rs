//! `cargo xtask bench encoder`: the text model beside onnxruntime-web in Chromium, one thread each.
//!
//! A text of 32 tokens, as somebody writes in a chat, read again and again. Ours is the build of the npm
//! package with the shipped model, from the text on. The peer gets ids, and the same work in its own
//! format: the shape of our model with random weights, its fused operators, as 32-bit floats and
//! quantised to bytes; the quicker of the two is compared. `cargo xtask bench` measures it too.

use super::runtime::contestant::{Contestant, Prompt, Turn};
use super::runtime::{Bounds, Report, median, peers};
use crate::process::command;
use crate::project::Project;
use crate::{tools, wasm};
use anyhow::Result;
use std::path::Path;

/// Texts of 32 tokens in the vocabulary of the shipped model, markers included; a contestant that reads
/// another number ends with an error.
const TEXTS: [&str; 3] = [
    "I slept badly again and I am worried about work tomorrow, what could help me to calm down before I go to bed tonight, without any pills?",
    "My sister got the job that she wanted and we are all so happy for her, how should we celebrate with the whole big family this coming weekend?",
    "I had an argument with my best friend yesterday and now she does not answer me, should I write first or just wait here until she calls me?",
];
const TOKENS: u32 = 32;

/// Flags of `cargo xtask bench encoder`.
#[derive(clap::Args)]
pub struct Args {
    /// Turns of each engine
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Print one flat JSON object at the end
    #[arg(long)]
    json: bool,
}

/// Builds, measures, judges.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let bounds = Bounds::read(project)?;
    wasm::ensure(project, &[wasm::Product::Encoder])?;
    tools::ensure_npm(project, &project.root.join("tests/runners"))?;
    let mut report = Report::default();
    report.machine(project);
    measure(project, args.rounds.max(1), &mut report)?;
    if args.json {
        println!("{}", report.json());
    }
    report.judge(&bounds)
}

/// Sets `chromium.text_emotion.read32_ms` and its ratio to onnxruntime-web.
pub fn measure(project: &Project, rounds: usize, report: &mut Report) -> Result<()> {
    let peer = peers::onnxruntime_web(project)?;
    let files = peers::onnx_encoders(project)?;
    let ours = project.root.join("models/emotion/text-emotion.gguf");
    let start = |name: &str, engine: &str, file: &Path, folder: &Path| {
        let mut node = command(project, "node");
        node.arg("tests/runners/bench/chromium.mjs").arg(engine);
        node.arg(file).arg("1").arg(folder);
        Contestant::start(name, node)
    };
    let mut contestants = Vec::new();
    let dist = project.root.join("pkg/dist");
    contestants.push(("text_emotion", start("ours", "encoder", &ours, &dist)?));
    for name in ["float32", "int8"] {
        let file = files.join(format!("{name}.onnx"));
        contestants.push((name, start(name, "onnxruntime", &file, &peer)?));
    }
    let prompts = TEXTS.iter().map(|text| Prompt {
        text: (*text).to_owned(),
        // Which ids makes no difference to onnxruntime.
        ids: (0..TOKENS).map(|i| 200 + 37 * i).collect(),
    });
    let turn = Turn {
        prompts: prompts.collect(),
        generate: 0,
        wall_s_min: 0.3,
        context_max: None,
    };
    let mut speeds = vec![(Vec::new(), Vec::new()); contestants.len()];
    for round in 0..=rounds {
        for ((_, contestant), (cpu, wall)) in contestants.iter_mut().zip(&mut speeds) {
            let taken = contestant.take(&turn)?;
            // The first round lets compilers and caches settle.
            if round > 0 {
                cpu.push(taken.per_cpu_s());
                wall.push(taken.per_wall_s());
            }
        }
    }
    report.note("peer.onnxruntime_web.version", peers::ONNXRUNTIME_WEB);
    let mut medians = Vec::new();
    for ((name, contestant), (cpu, wall)) in contestants.iter().zip(speeds) {
        let (cpu, wall) = (median(cpu), median(wall));
        let ms = |speed: f64| f64::from(TOKENS) * 1e3 / speed;
        println!(
            "{name:<24} reads {TOKENS} tokens in {:.2} ms, {:.2} of CPU",
            ms(wall),
            ms(cpu)
        );
        let key = match *name {
            "text_emotion" => "chromium.text_emotion.read32".to_owned(),
            peer => format!("peer.onnxruntime_web.{peer}.read32"),
        };
        report.set(format!("{key}_ms"), ms(wall));
        report.set(format!("{key}_cpu_ms"), ms(cpu));
        report.note("chromium.version", &contestant.ready.browser);
        medians.push((cpu, wall));
    }
    if let [ours, peers @ ..] = medians.as_slice() {
        let best = |of: fn(&(f64, f64)) -> f64| {
            of(ours) / peers.iter().map(of).fold(f64::MIN_POSITIVE, f64::max)
        };
        let (cpu, wall) = (best(|speed| speed.0), best(|speed| speed.1));
        let key = "chromium.text_emotion.read32_vs_onnxruntime";
        println!("{key}: {cpu:.2} times per CPU second, {wall:.2} per second");
        report.set(key, cpu);
        report.set(format!("{key}_wall"), wall);
    }
    Ok(())
}
