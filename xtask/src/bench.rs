//! `cargo xtask bench <what>`: measures speed, beside a reference in the same run.

use crate::process::{cargo_command, command, run as run_command};
use crate::project::Project;
use anyhow::{Result, ensure};

/// Flags of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// A training step of ours and of PyTorch's, one after the other
    Train {
        /// Passed on to `meetara-train bench`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// Runs the measurement asked for.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    match &args.what {
        What::Train { args } => train(project, args),
    }
}

/// Ours first, then the reference: both print one JSON object a line, with the same keys.
fn train(project: &Project, args: &[String]) -> Result<()> {
    let reference = project.root.join("trainer-native/bench/torch_reference.py");
    ensure!(
        reference.is_file(),
        "{} is missing",
        project.show(&reference)
    );
    run_command(cargo_command(project).args(["build", "--release", "--package", "meetara-train"]))?;
    let binary = project.target.join("release/meetara-train");
    run_command(
        command(project, binary)
            .args(["bench", "--json"])
            .args(args),
    )?;
    // Spinning threads would make PyTorch several times slower on a busy machine.
    run_command(
        command(project, "python3")
            .env("OMP_WAIT_POLICY", "PASSIVE")
            .env("GOMP_SPINCOUNT", "0")
            .arg(reference)
            .args(args),
    )
}
