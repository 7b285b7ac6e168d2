//! `cargo xtask bench`: the engine beside its peers, on the same files, in turns.
//!
//! | place | ours | peer |
//! |---|---|---|
//! | chromium | the browser bundle in a Worker | wllama, and llama.cpp outside of the browser |
//! | native | the engine with this CPU's kernels | llama.cpp |
//! | native_threads2 | the same with two threads lent to it | llama.cpp on two threads |
//! | wasmtime | the host's sandboxed engine | llama.cpp |
//!
//! Every engine is loaded once and then asked in turn, so that what else the machine does falls on
//! all; medians over the rounds are compared. A ratio without a suffix is that of tokens per CPU
//! second, `_wall` that of tokens per second, which is the one that counts where there are two
//! threads. Load times are those of programs started anew.
//!
//! llama.cpp takes minutes to compile, once. Where it is not there yet, a choice of comparisons that
//! does not name it leaves out what needs it beside another peer.

pub mod contestant;
pub mod peers;
mod prompts;
mod report;

use super::adapters::{self, Place};
use super::{encoder, host};
use crate::process::{cargo_command, command, run as run_command};
use crate::project::Project;
use crate::{models, size, tools, wasm};
use anyhow::{Context, Result, ensure};
use contestant::{Contestant, Taken};
use prompts::Words;

pub use report::{Bounds, Report, median};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// Flags of `cargo xtask bench runtime`.
#[derive(clap::Args)]
pub struct Args {
    /// Two rounds only, for a first look
    #[arg(long)]
    quick: bool,
    /// Turns of each engine
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only comparisons whose name contains this, such as `chromium.pocket` or `native`
    #[arg(long)]
    only: Option<String>,
    /// Threads of llama.cpp and wllama; our engine has one, but for `native_threads2`
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Print one flat JSON object at the end
    #[arg(long)]
    json: bool,
}

/// An engine in a place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Engine {
    Native,
    NativeThreads2,
    Wasmtime,
    Chromium,
    Llamacpp,
    LlamacppThreads2,
    Wllama,
}

impl Engine {
    const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::NativeThreads2 => "native_threads2",
            Self::Wasmtime => "wasmtime",
            Self::Chromium => "chromium",
            Self::Llamacpp => "llamacpp",
            Self::LlamacppThreads2 => "llamacpp_threads2",
            Self::Wllama => "wllama",
        }
    }

    const fn is_llamacpp(self) -> bool {
        matches!(self, Self::Llamacpp | Self::LlamacppThreads2)
    }
}

/// Who is compared with whom.
const PAIRS: [(Engine, Engine); 5] = [
    (Engine::Chromium, Engine::Wllama),
    (Engine::Chromium, Engine::Llamacpp),
    (Engine::Native, Engine::Llamacpp),
    (Engine::NativeThreads2, Engine::LlamacppThreads2),
    (Engine::Wasmtime, Engine::Llamacpp),
];

/// What is measured: the figure's name, tokens of the prompt, tokens behind it.
struct Task {
    name: &'static str,
    prompt: usize,
    generate: usize,
}

/// Tokens of the chat after which memory is measured.
const CHAT_TOKENS: usize = 512;

const PREFILL_128: Task = Task {
    name: "prefill128",
    prompt: 128,
    generate: 0,
};
const PREFILL_512: Task = Task {
    name: "prefill512",
    prompt: 512,
    generate: 0,
};
/// Behind so short a prompt that the CPU time of a whole call is that of decoding.
const DECODE: Task = Task {
    name: "decode",
    prompt: 2,
    generate: 128,
};
/// A large model decodes 9 tokens a second in the slowest peer.
const DECODE_LARGE: Task = Task {
    name: "decode",
    prompt: 2,
    generate: 32,
};

/// A model and what is measured with it.
struct Subject {
    name: &'static str,
    path: PathBuf,
    tasks: Vec<Task>,
    /// Whether load time and memory are measured too.
    loads: bool,
}

/// Measures, prints, judges.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let bounds = Bounds::read(project)?;
    let bench = Bench::prepare(project, args)?;
    let mut report = Report::default();
    bench.describe(&mut report);
    for subject in bench.subjects()? {
        bench.compare(&subject, &mut report)?;
        if subject.loads {
            bench.loads(&subject, &mut report)?;
            let own = |engine: &Engine| match engine {
                Engine::Native => Some(Place::Native),
                Engine::Chromium => Some(Place::Chromium),
                _ => None,
            };
            let places = bench.contestants(subject.name);
            let places: Vec<Place> = places.iter().filter_map(own).collect();
            adapters::measure(project, &places, bench.rounds, &mut report)?;
        }
    }
    if args.only.is_none() {
        encoder::measure(project, bench.rounds, &mut report)?;
    }
    // Before the verdict, so that whoever reads the figures gets them in any case.
    if args.json {
        println!("{}", report.json());
    }
    if args.threads != 1 {
        println!("the bounds of budgets.toml are for one thread and were not compared");
        return Ok(());
    }
    report.judge(&bounds)
}

struct Bench<'a> {
    project: &'a Project,
    args: &'a Args,
    rounds: usize,
    /// Engines that the chosen comparisons need.
    engines: Vec<Engine>,
    wllama: PathBuf,
    python: PathBuf,
    /// Whether comparisons with llama.cpp are left out that have another peer beside it.
    without_llamacpp: bool,
}

impl<'a> Bench<'a> {
    /// Builds and installs what the chosen comparisons need.
    fn prepare(project: &'a Project, args: &'a Args) -> Result<Self> {
        let mut bench = Self {
            project,
            args,
            rounds: if args.quick { 2 } else { args.rounds.max(1) },
            engines: Vec::new(),
            wllama: PathBuf::new(),
            python: PathBuf::new(),
            without_llamacpp: false,
        };
        let named = |only: &String| only.contains("llamacpp");
        if !args.only.as_ref().is_none_or(named) && !peers::has_llamacpp(project) {
            bench.without_llamacpp = true;
        }
        for subject in ["pocket", "smollm2"] {
            for (ours, peer) in bench.pairs(subject) {
                bench.engines.extend([ours, peer]);
            }
        }
        bench.engines.sort_unstable();
        bench.engines.dedup();
        ensure!(
            !bench.engines.is_empty(),
            "no comparison has that name; they are called PLACE.MODEL: chromium, native, native_threads2 or wasmtime, pocket or smollm2"
        );
        run_command(cargo_command(project).args([
            "build",
            "--release",
            "--package",
            "meetara-engine",
            "--example",
            "bench_native",
        ]))?;
        if bench.has(Engine::Wasmtime) {
            host::build(project)?;
        }
        if bench.has(Engine::Chromium) {
            wasm::ensure(project, &wasm::Product::BROWSER)?;
        }
        if bench.has(Engine::Chromium) || bench.has(Engine::Wllama) {
            tools::ensure_npm(project, &project.root.join("tests/runners"))?;
        }
        if bench.has(Engine::Wllama) {
            bench.wllama = peers::wllama(project)?;
        }
        if bench.engines.iter().any(|engine| engine.is_llamacpp()) {
            bench.python = peers::llamacpp_python(project)?;
        }
        Ok(bench)
    }

    fn has(&self, engine: Engine) -> bool {
        self.engines.contains(&engine)
    }

    /// The comparisons chosen for a model.
    fn pairs(&self, subject: &str) -> Vec<(Engine, Engine)> {
        let chosen = |(ours, peer): &(Engine, Engine)| {
            let name = format!("{}.{subject}.vs_{}", ours.name(), peer.name());
            self.args
                .only
                .as_ref()
                .is_none_or(|only| name.contains(only.as_str()))
        };
        let mut pairs: Vec<_> = PAIRS.into_iter().filter(chosen).collect();
        let others: Vec<Engine> = pairs
            .iter()
            .filter(|(_, peer)| !peer.is_llamacpp())
            .map(|(ours, _)| *ours)
            .collect();
        if self.without_llamacpp {
            pairs.retain(|(ours, peer)| !peer.is_llamacpp() || !others.contains(ours));
        }
        pairs
    }

    fn subjects(&self) -> Result<Vec<Subject>> {
        let mut subjects = Vec::new();
        if !self.pairs("pocket").is_empty() {
            subjects.push(Subject {
                name: "pocket",
                path: self
                    .project
                    .root
                    .join("models/pocket/meetara-pocket-q4_k_m.gguf"),
                tasks: vec![PREFILL_128, PREFILL_512, DECODE],
                loads: true,
            });
        }
        if !self.pairs("smollm2").is_empty() {
            subjects.push(Subject {
                name: "smollm2",
                path: models::ensure_smollm2(self.project)?,
                tasks: vec![PREFILL_128, DECODE_LARGE],
                loads: false,
            });
        }
        Ok(subjects)
    }

    /// Date, CPU and settings.
    fn describe(&self, report: &mut Report) {
        report.machine(self.project);
        report.set("rounds", self.rounds as f64);
        report.set("threads", self.args.threads as f64);
    }

    fn start(&self, engine: Engine, subject: &Subject) -> Result<Contestant> {
        let project = self.project;
        let release = project.target.join("release/examples");
        let threads = self.args.threads.to_string();
        let in_chromium = |name: &str, folder: PathBuf, threads: &str| {
            let mut node = command(project, "node");
            node.arg("tests/runners/bench/chromium.mjs");
            node.arg(name).arg(&subject.path).arg(threads).arg(folder);
            node
        };
        let program: Command = match engine {
            Engine::Native | Engine::NativeThreads2 => {
                let mut program = command(project, release.join("bench_native"));
                program.arg("turns").arg(&subject.path);
                if engine == Engine::NativeThreads2 {
                    program.arg("2");
                }
                program
            }
            Engine::Wasmtime => {
                let mut program = command(project, release.join("bench_wasmtime"));
                program.arg("turns").arg(wasm::component_path(project));
                program.arg(&subject.path);
                program
            }
            Engine::Chromium => in_chromium("meetara", project.root.join("pkg/dist"), "1"),
            Engine::Wllama => in_chromium("wllama", self.wllama.clone(), &threads),
            Engine::Llamacpp | Engine::LlamacppThreads2 => {
                let mut program = command(project, &self.python);
                program.arg("tests/runners/bench/llamacpp.py");
                program.arg(&subject.path);
                program.arg(match engine {
                    Engine::LlamacppThreads2 => "2",
                    _ => &threads,
                });
                // Threads that spin while they wait would be slower on a busy machine.
                program.env("OMP_WAIT_POLICY", "PASSIVE");
                program
            }
        };
        Contestant::start(engine.name(), program)
            .with_context(|| format!("{} with {}", engine.name(), subject.name))
    }

    /// Engines of the comparisons chosen for a model, each once.
    fn contestants(&self, subject: &str) -> Vec<Engine> {
        let mut engines: Vec<Engine> = self
            .pairs(subject)
            .into_iter()
            .flat_map(|(a, b)| [a, b])
            .collect();
        engines.sort_unstable();
        engines.dedup();
        engines
    }

    /// All tasks, all engines in turn.
    fn compare(&self, subject: &Subject, report: &mut Report) -> Result<()> {
        let words = Words::of(
            self.project,
            &self.project.target.join("release/examples/bench_native"),
            &subject.path,
        )?;
        let mut running = BTreeMap::new();
        for engine in self.contestants(subject.name) {
            let contestant = self.start(engine, subject)?;
            note_versions(engine, &contestant, report);
            running.insert(engine, contestant);
        }
        let shown = |name: &str| format!("{:<24}", format!("{}.{name}", subject.name));
        for task in &subject.tasks {
            let turn = words.turn(task.prompt, task.generate, 0.3);
            let mut taken: BTreeMap<Engine, Vec<Taken>> = BTreeMap::new();
            for round in 0..=self.rounds {
                for (engine, contestant) in &mut running {
                    let turn = contestant.take(&turn)?;
                    // The first round lets compilers and caches settle.
                    if round > 0 {
                        taken.entry(*engine).or_default().push(turn);
                    }
                }
            }
            let speed = |engine: Engine, of: fn(&Taken) -> f64| {
                median(taken.get(&engine).into_iter().flatten().map(of))
            };
            for (engine, turns) in &taken {
                let spread: Vec<f64> = turns.iter().map(Taken::per_cpu_s).collect();
                println!(
                    "{} {:<17} {:8.1} tokens per CPU second ({:.1} to {:.1}), {:8.1} per second",
                    shown(task.name),
                    engine.name(),
                    speed(*engine, Taken::per_cpu_s),
                    spread.iter().copied().fold(f64::INFINITY, f64::min),
                    spread.iter().copied().fold(0.0, f64::max),
                    speed(*engine, Taken::per_wall_s),
                );
                let key = format!("{}.{}.{}", engine.name(), subject.name, task.name);
                report.set(
                    format!("{key}_tokens_per_cpu_s"),
                    speed(*engine, Taken::per_cpu_s),
                );
                report.set(
                    format!("{key}_tokens_per_s"),
                    speed(*engine, Taken::per_wall_s),
                );
            }
            for (ours, peer) in self.pairs(subject.name) {
                let ratio = |of: fn(&Taken) -> f64| speed(ours, of) / speed(peer, of);
                let (cpu, wall) = (ratio(Taken::per_cpu_s), ratio(Taken::per_wall_s));
                let key = format!(
                    "{}.{}.{}_vs_{}",
                    ours.name(),
                    subject.name,
                    task.name,
                    peer.name()
                );
                println!("{key}: {cpu:.2} times per CPU second, {wall:.2} per second");
                report.set(format!("{key}_wall"), wall);
                report.set(key, cpu);
            }
        }
        Ok(())
    }

    /// Load times of programs started anew, and memory after a chat of [`CHAT_TOKENS`].
    fn loads(&self, subject: &Subject, report: &mut Report) -> Result<()> {
        let words = Words::of(
            self.project,
            &self.project.target.join("release/examples/bench_native"),
            &subject.path,
        )?;
        let mut chat = words.turn(CHAT_TOKENS - 64, 63, 0.0);
        chat.prompts.truncate(1);
        // Text that is put behind a reply that ended, to have another, counts as well.
        chat.context_max = Some(CHAT_TOKENS);
        let mut times: BTreeMap<Engine, Vec<(f64, Option<f64>)>> = BTreeMap::new();
        for _ in 0..self.rounds {
            for engine in self.contestants(subject.name) {
                if matches!(engine, Engine::NativeThreads2 | Engine::LlamacppThreads2) {
                    continue; // Loaded like those with one thread.
                }
                let mut contestant = self.start(engine, subject)?;
                let ready = &contestant.ready;
                times
                    .entry(engine)
                    .or_default()
                    .push((ready.load_ms, ready.cold_ms));
                if engine == Engine::Chromium
                    && let Some(bytes) = contestant.take(&chat)?.memory_bytes
                {
                    report.set(format!("chromium.{}.memory_mb", subject.name), bytes / 1e6);
                }
            }
        }
        for (engine, times) in &times {
            let key = format!("{}.{}", engine.name(), subject.name);
            let load_ms = median(times.iter().map(|time| time.0));
            report.set(format!("{key}.load_ms"), load_ms);
            print!("{key}: loads in {load_ms:.1} ms");
            if times.iter().all(|time| time.1.is_some()) {
                let cold_ms = median(times.iter().filter_map(|time| time.1));
                report.set(format!("{key}.cold_start_ms"), cold_ms);
                print!(", {cold_ms:.1} with the engine's own start");
            }
            println!();
        }
        if let Some(variant) = report.text("chromium.variant") {
            let wasm = format!("pkg/dist/{variant}/meetara_browser_bg.wasm");
            let wasm = self.project.root.join(wasm);
            let bytes =
                std::fs::read(&wasm).with_context(|| format!("cannot read {}", wasm.display()))?;
            report.set("engine.gzip_kb", size::gzip_bytes(&bytes)? as f64 / 1e3);
        }
        Ok(())
    }
}

fn note_versions(engine: Engine, contestant: &Contestant, report: &mut Report) {
    let ready = &contestant.ready;
    let who = match engine {
        Engine::Llamacpp | Engine::LlamacppThreads2 | Engine::Wllama => {
            format!("peer.{}", engine.name())
        }
        _ => engine.name().to_owned(),
    };
    report.note(format!("{who}.variant"), &ready.variant);
    match engine {
        Engine::Llamacpp => {
            report.note("peer.llamacpp.version", &ready.version);
            let has_avx512 = std::fs::read_to_string("/proc/cpuinfo")
                .is_ok_and(|info| info.contains(" avx512f"));
            if has_avx512 && !ready.variant.contains("AVX512") {
                let note = "built without AVX-512, which this CPU has: it could be faster";
                println!("NOTE: llama.cpp was {note}");
                report.note("peer.llamacpp.note", note);
            }
        }
        Engine::Wllama => {
            report.note("peer.wllama.version", peers::WLLAMA);
            report.note("peer.wllama.llamacpp", &ready.version);
        }
        _ => {}
    }
    if !ready.browser.is_empty() {
        report.note("chromium.version", &ready.browser);
    }
}
