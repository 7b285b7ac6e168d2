//! `cargo xtask bench [what]`: measures speed, beside a reference in the same run.

mod adapters;
mod encoder;
mod host;
mod runtime;
mod train;

use crate::project::Project;
use anyhow::Result;

/// Flags of `cargo xtask bench`; without a subcommand those of `runtime`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    runtime: runtime::Args,
}

#[derive(clap::Subcommand)]
enum What {
    /// The engine and its peers in turn: speed, load time, memory, against budgets.toml
    Runtime(runtime::Args),
    /// What it takes to put another adapter on, natively and in Chromium
    Adapters(adapters::Args),
    /// The text model beside onnxruntime-web in Chromium: a text of 32 tokens
    Encoder(encoder::Args),
    /// Conversations on a server: how fast they start, what each takes
    Host(host::Args),
    /// Training steps of ours and of PyTorch's, in turn
    Train(train::Args),
}

/// Runs the measurement asked for.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    match &args.what {
        None => runtime::run(project, &args.runtime),
        Some(What::Runtime(args)) => runtime::run(project, args),
        Some(What::Adapters(args)) => adapters::run(project, args),
        Some(What::Encoder(args)) => encoder::run(project, args),
        Some(What::Host(args)) => host::run(project, args),
        Some(What::Train(args)) => train::run(project, args),
    }
}
