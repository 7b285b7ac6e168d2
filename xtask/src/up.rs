//! `cargo xtask up`: from a fresh checkout to a page in which the model answers.

use crate::process::{cargo_command, command, run as run_command};
use crate::project::Project;
use crate::{tools, wasm};
use anyhow::{Context, Result, bail, ensure};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Flags of `cargo xtask up`.
#[derive(clap::Args)]
pub struct Args {
    /// Do not open a browser
    #[arg(long)]
    no_open: bool,
    /// Port of the page
    #[arg(long, default_value_t = 2025)]
    port: u16,
    /// Passed on to meetara-host
    #[arg(last = true)]
    host_args: Vec<String>,
}

/// Installs, builds, starts, and stays until Ctrl-C.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let host = project.target.join("release/meetara-host");
    if host.is_file() {
        println!("Building what changed; seconds when nothing did.");
    } else {
        println!(
            "First build. It compiles the engine for browsers and the host with its sandbox (wasmtime).\n\
             That takes about 10 minutes on two cores; the next start takes seconds."
        );
    }
    ensure!(
        !is_open(args.port),
        "port {} is in use; stop what uses it or choose another with --port",
        args.port
    );
    println!("1/4 tools");
    tools::ensure_node()?;
    tools::ensure_wasm_target(project)?;
    println!("2/4 engine for browsers and host");
    let mut only = wasm::Product::BROWSER.to_vec();
    only.push(wasm::Product::Component);
    wasm::ensure(project, &only)?;
    println!("3/4 page");
    build_page(project)?;
    println!("4/4 host");
    run_command(cargo_command(project).args(["build", "--release", "--package", "meetara-host"]))?;
    serve(project, args, &host)
}

/// Installs the page's npm packages and bundles it into `web/dist`.
pub fn build_page(project: &Project) -> Result<()> {
    let web = project.root.join("web");
    ensure!(
        web.join("package.json").is_file(),
        "web/package.json is missing"
    );
    tools::ensure_npm(project, &project.root.join("pkg"))?;
    tools::ensure_npm(project, &web)?;
    run_command(
        command(project, "npm")
            .current_dir(&web)
            .args(["run", "--silent", "build"]),
    )
}

/// Starts the host and waits for its end or for Ctrl-C.
fn serve(project: &Project, args: &Args, host: &std::path::Path) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let signalled = Arc::clone(&stop);
    ctrlc::set_handler(move || signalled.store(true, Ordering::SeqCst))
        .context("cannot listen for Ctrl-C")?;
    let mut child = command(project, host)
        .env("MEETARA_WEB_PORT", args.port.to_string())
        .env("MEETARA_COMPONENT", wasm::component_path(project))
        .args(&args.host_args)
        .spawn()
        .with_context(|| format!("cannot start {}", host.display()))?;
    let result = watch(&mut child, args, &stop);
    end(&mut child);
    result
}

fn watch(child: &mut Child, args: &Args, stop: &AtomicBool) -> Result<()> {
    let start = Instant::now();
    let mut announced = false;
    while !stop.load(Ordering::SeqCst) {
        if let Some(status) = child.try_wait()? {
            bail!("meetara-host ended by itself ({status}); what it printed above says why");
        }
        if !announced && is_open(args.port) {
            announced = true;
            announce(args);
        }
        if !announced && start.elapsed() > Duration::from_secs(60) {
            bail!(
                "meetara-host does not answer on port {} after a minute",
                args.port
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("\nStopping.");
    Ok(())
}

fn announce(args: &Args) {
    let url = format!("http://localhost:{}", args.port);
    println!("\n  {url}\n\nCtrl-C stops it.");
    let has_display =
        std::env::var_os("DISPLAY").is_some() || std::env::var_os("WAYLAND_DISPLAY").is_some();
    if args.no_open || !has_display {
        return;
    }
    let opener = Command::new("xdg-open")
        .arg(&url)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if opener.is_err() {
        println!("(xdg-open is not installed: open the address yourself)");
    }
}

/// A terminal's Ctrl-C reaches the host too and lets it finish; whatever still runs is ended.
fn end(child: &mut Child) {
    for _ in 0..20 {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // It may end between the question and the order: nothing is lost then.
    let _ = child.kill();
    let _ = child.wait();
}

fn is_open(port: u16) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}
