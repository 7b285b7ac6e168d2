//! A contestant: one engine with one model, in a program of its own that stays loaded and takes turns.
//!
//! All speak the same protocol, a line of JSON each way:
//!
//! ```text
//! -> (start)
//! <- {"variant", "load_ms", "load_cpu_ms", ...}                                   the model is ready
//! -> {"prompts": [{"ids", "text"}, ...], "generate": tokens, "wall_s_min": s}     a turn
//! <- {"tokens", "wall_s", "cpu_s", "memory_bytes"?}                               what it took
//! -> {"adapters": [FILE, FILE], "swaps": count}                                   our engines only
//! <- {"swap_ms"}                                                                  what one took
//! ```
//!
//! A turn takes one prompt after the other, each from an empty context, until `wall_s_min` seconds
//! have been measured. With `generate` 0 the prompt itself is measured, else the tokens behind it.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What a contestant says when its model is loaded; times in milliseconds.
#[derive(Deserialize)]
pub struct Ready {
    /// Version of a peer.
    #[serde(default)]
    pub version: String,
    /// Which of its builds or kernels runs.
    pub variant: String,
    /// From the model's bytes at hand, or its file, to the first token possible.
    pub load_ms: f64,
    /// In a browser: the same, with the engine's own start.
    #[serde(default)]
    pub cold_ms: Option<f64>,
    /// The browser's version.
    #[serde(default)]
    pub browser: String,
}

/// A prompt, as token ids and as the text that has these ids.
#[derive(Clone, Serialize)]
pub struct Prompt {
    pub ids: Vec<u32>,
    pub text: String,
}

/// What to measure.
#[derive(Clone, Serialize)]
pub struct Turn {
    pub prompts: Vec<Prompt>,
    pub generate: usize,
    pub wall_s_min: f64,
    /// Our engine in a browser ends the turn when the conversation has so many tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_max: Option<usize>,
}

/// Changes of adapters to measure.
#[derive(Serialize)]
pub struct Swaps {
    /// Files of two adapters.
    pub adapters: [PathBuf; 2],
    pub swaps: u32,
}

/// What they took.
#[derive(Deserialize)]
struct Swapped {
    swap_ms: f64,
}

/// What a turn took.
#[derive(Deserialize)]
pub struct Taken {
    tokens: f64,
    wall_s: f64,
    cpu_s: f64,
    #[serde(default)]
    pub memory_bytes: Option<f64>,
}

impl Taken {
    /// Tokens per CPU second.
    pub fn per_cpu_s(&self) -> f64 {
        self.tokens / self.cpu_s
    }

    /// Tokens per wall second.
    pub fn per_wall_s(&self) -> f64 {
        self.tokens / self.wall_s
    }
}

/// A running program. It ends when its input does, that is when this is dropped.
pub struct Contestant {
    name: String,
    child: Child,
    /// `None` once the program has been told to end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub ready: Ready,
}

impl Contestant {
    /// Starts the program and waits until its model is loaded.
    pub fn start(name: &str, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("a program without output")?;
        let mut output = BufReader::new(output);
        let ready = read(name, &mut output)?;
        Ok(Self {
            name: name.to_owned(),
            child,
            input,
            output,
            ready,
        })
    }

    /// Has it do a turn.
    pub fn take(&mut self, turn: &Turn) -> Result<Taken> {
        let taken: Taken = self.ask(turn)?;
        if !(taken.tokens > 0.0 && taken.wall_s > 0.0 && taken.cpu_s > 0.0) {
            bail!("{} measured nothing in a turn", self.name);
        }
        Ok(taken)
    }

    /// Has it change adapters that are in memory; the mean time of a change in milliseconds.
    pub fn swap_ms(&mut self, swaps: &Swaps) -> Result<f64> {
        let swapped: Swapped = self.ask(swaps)?;
        Ok(swapped.swap_ms)
    }

    /// Sends a line and reads the answer.
    fn ask<T: for<'a> Deserialize<'a>>(&mut self, line: &impl Serialize) -> Result<T> {
        let input = self.input.as_mut().context("the program has ended")?;
        writeln!(input, "{}", serde_json::to_string(line)?)?;
        input.flush()?;
        read(&self.name, &mut self.output)
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        drop(self.input.take());
        // It ends by itself; how is of no interest any more.
        let _ = self.child.wait();
    }
}

fn read<T: for<'a> Deserialize<'a>>(name: &str, output: &mut impl BufRead) -> Result<T> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    if line.is_empty() {
        bail!("{name} ended before it answered; what it printed above says why");
    }
    serde_json::from_str(&line).with_context(|| format!("{name} answered something else: {line}"))
}
