//! `cargo xtask bench <what>`: measures speed, beside a reference in the same run.

mod train;

use crate::project::Project;
use anyhow::Result;

/// Flags of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Training steps of ours and of PyTorch's, in turn
    Train(train::Args),
}

/// Runs the measurement asked for.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    match &args.what {
        What::Train(args) => train::run(project, args),
    }
}
