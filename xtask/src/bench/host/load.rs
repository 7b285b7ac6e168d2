//! Tokens a second and the time to the first one, with several users at once.
//!
//! Both servers are given the same file, the same questions and as many threads, and take turns, so
//! that what else the machine does falls on both; medians over the rounds are compared. The users
//! run on the same CPUs. llama-server computes all conversations in one batch; ours computes each in
//! a sandbox of its own.

use super::servers::Server;
use super::{Args, client};
use crate::bench::runtime::{Report, median};
use crate::project::Project;
use anyhow::{Result, anyhow};
use std::path::Path;
use std::time::Instant;

/// How many users there are at once.
const CLIENTS: [usize; 3] = [1, 8, 64];

/// What they ask about; with a number before it no two questions begin alike.
const TOPICS: [&str; 8] = [
    "how bread is made",
    "a walk in the forest",
    "why the sky is blue",
    "a day at the sea",
    "learning to swim",
    "the first day at school",
    "what plants need to grow",
    "cooking for friends",
];

/// One turn of a server.
struct Turn {
    tokens_per_s: f64,
    tokens_per_cpu_s: f64,
    /// Of each user.
    first_ms: Vec<f64>,
}

/// Measures both servers.
pub fn measure(project: &Project, args: &Args, model: &Path, report: &mut Report) -> Result<()> {
    let most = CLIENTS.into_iter().max().unwrap_or(1);
    let servers = [
        Server::ours(project, args, model, most)?,
        Server::peer(project, args, model, most)?,
    ];
    report.note("peer.llamaserver.version", &servers[1].version);
    report.set("rounds", args.rounds as f64);
    report.set("threads", args.threads as f64);
    let mut question = 0;
    for clients in CLIENTS {
        let mut turns: [Vec<Turn>; 2] = Default::default();
        for round in 0..=args.rounds {
            for (server, turns) in servers.iter().zip(&mut turns) {
                let turn = turn(server, clients, question, args.tokens)?;
                // The first round lets both settle.
                if round > 0 {
                    turns.push(turn);
                }
            }
            question += clients;
        }
        let mut speeds = [0.0; 2];
        for ((server, turns), speed) in servers.iter().zip(&turns).zip(&mut speeds) {
            let first_ms = || turns.iter().flat_map(|turn| turn.first_ms.iter().copied());
            let per_cpu_s = median(turns.iter().map(|turn| turn.tokens_per_cpu_s));
            *speed = median(turns.iter().map(|turn| turn.tokens_per_s));
            let worst = first_ms().fold(0.0, f64::max);
            println!(
                "{clients:>2} clients  {:<12} {speed:8.1} tokens per second, {per_cpu_s:8.1} per CPU second; the first after {:.1} ms (at worst {worst:.1})",
                server.name,
                median(first_ms()),
            );
            let mut set = |key: &str, value| {
                report.set(format!("{}.clients{clients}.{key}", server.name), value);
            };
            set("tokens_per_s", *speed);
            set("tokens_per_cpu_s", per_cpu_s);
            set("first_token_ms", median(first_ms()));
            set("first_token_worst_ms", worst);
        }
        report.set(
            format!("host.clients{clients}.vs_llamaserver"),
            speeds[0] / speeds[1],
        );
    }
    Ok(())
}

/// All users ask at once; over when the last has its answer.
fn turn(server: &Server, clients: usize, first: usize, tokens_max: u32) -> Result<Turn> {
    let cpu_s = server.cpu_s()?;
    let began = Instant::now();
    let replies: Vec<_> = std::thread::scope(|scope| {
        let ask = |index: usize| {
            let topic = TOPICS[index % TOPICS.len()];
            let question = format!("{index}. Tell me all that you know about {topic}, please.");
            scope.spawn(move || client::ask(server.address, server.model, &question, tokens_max))
        };
        let users: Vec<_> = (first..first + clients).map(ask).collect();
        let answers = users.into_iter().map(|user| user.join());
        answers.collect()
    });
    let wall_s = began.elapsed().as_secs_f64();
    let cpu_s = (server.cpu_s()? - cpu_s).max(0.01);
    let (mut tokens, mut first_ms) = (0, Vec::new());
    for reply in replies {
        let reply = reply.map_err(|_| anyhow!("a user panicked"))??;
        tokens += reply.tokens;
        first_ms.push(reply.first_s * 1e3);
    }
    Ok(Turn {
        tokens_per_s: tokens as f64 / wall_s,
        tokens_per_cpu_s: tokens as f64 / cpu_s,
        first_ms,
    })
}
