//! The two servers: ours and llama.cpp's, each on a free port of this machine.

use super::super::runtime::peers;
use super::{Args, client};
use crate::process::command;
use crate::project::Project;
use crate::wasm;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Tokens that the pocket model's context holds.
const CONTEXT_MAX: usize = 1024;

/// A running server. It ends with this value.
pub struct Server {
    pub name: &'static str,
    pub version: String,
    /// What it calls the model.
    pub model: &'static str,
    pub address: SocketAddr,
    child: Child,
}

impl Server {
    /// Ours, with room for as many clients as will come.
    pub fn ours(project: &Project, args: &Args, model: &Path, clients: usize) -> Result<Self> {
        let mut program = command(project, project.target.join("release/meetara-host"));
        program.args(["--web-port", "0", "--rest-port", "0"]);
        program
            .arg("--component")
            .arg(wasm::component_path(project));
        let folder = model.parent().context("a model without a folder")?;
        program.arg("--models").arg(folder);
        program.args(["--threads", &args.threads.to_string()]);
        program.args(["--active-max", &clients.to_string()]);
        program.env("MEETARA_LOG", "warn").stdout(Stdio::piped());
        let mut child = program.spawn().context("meetara-host does not start")?;
        let output = child.stdout.take().context("a program without output")?;
        let address = BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("rest http://")?.parse().ok())
            .context("meetara-host did not say where it listens")?;
        let server = Self {
            name: "host",
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: "meetara:pocket",
            address,
            child,
        };
        server.ready()
    }

    /// llama-server, with a slot for each client and continuous batching, as it comes.
    pub fn peer(project: &Project, args: &Args, model: &Path, clients: usize) -> Result<Self> {
        let (program, version) = peers::llama_server(project)?;
        // Free a moment ago; nobody else on this machine asks for ports right now.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let threads = args.threads.to_string();
        let mut program = Command::new(program);
        program.arg("--model").arg(model);
        program.args(["--host", "127.0.0.1", "--port", &address.port().to_string()]);
        program.args(["--threads", &threads, "--threads-batch", &threads]);
        program.args(["--parallel", &clients.to_string()]);
        // As many tokens for each as our host gives.
        program.args(["--ctx-size", &(CONTEXT_MAX * clients).to_string()]);
        program.args(["--log-disable", "--no-webui"]);
        // Threads that spin while they wait would be slower on a busy machine.
        program.env("OMP_WAIT_POLICY", "PASSIVE");
        program.stdin(Stdio::null());
        program.stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self {
            name: "llamaserver",
            version,
            model: "pocket",
            address,
            child: program.spawn().context("llama-server does not start")?,
        };
        server.ready()
    }

    fn ready(mut self) -> Result<Self> {
        let began = Instant::now();
        while !client::answers(self.address, "/health") {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended while it started ({status})", self.name);
            }
            if began.elapsed() > Duration::from_secs(60) {
                bail!("{} does not become ready", self.name);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(self)
    }

    /// CPU seconds that it has used.
    pub fn cpu_s(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, in parentheses, may hold anything; user and system time are 14 and 15.
        let (_, fields) = stat.rsplit_once(')').context("no process name")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|ticks| ticks.parse::<f64>().ok())
        };
        let ticks = ticks(11).zip(ticks(12)).context("no CPU time")?;
        // The kernel counts in hundredths for programs, whatever its own clock is.
        Ok((ticks.0 + ticks.1) / 100.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
