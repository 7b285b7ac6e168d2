//! The program `meetara-host`; see the library for what it is made of.

#![deny(unsafe_code)]

use std::future::Future;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use meetara_host::config::Config;
use meetara_host::models::{Registry, WorkerConfig};
use meetara_host::sandbox::{Limits, Sandbox};
use meetara_host::{http, models, sandbox};

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(
            EnvFilter::try_from_env("MEETARA_LOG").unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .init();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2) // HTTP only: the engine has threads of its own.
        .enable_all()
        .build()
        .context("the network runtime could not start")?
        .block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let began = Instant::now();
    let (web, web_address) = bind(&config, config.web_port, "--web-port").await?;
    let (rest, rest_address) = bind(&config, config.rest_port, "--rest-port").await?;
    if !config.bind.is_loopback() {
        tracing::warn!(
            "listening beyond this machine: whoever reaches the ports can use the models"
        );
    }

    let registry = {
        let config = config.clone();
        let open = move || registry(&config);
        tokio::task::spawn_blocking(open).await??
    };
    let registry = Arc::new(registry);
    let guard = http::Guard::new(&config, web_address);
    let page = http::web::router(&config.web_dir, &config.models, rest_address, &guard);
    let app = http::rest::App {
        registry: Arc::clone(&registry),
        began,
        emotion: config.emotion,
    };
    let api = http::rest::router(app, &guard);

    let (stop, stopped) = watch::channel(false);
    let servers = async {
        tokio::try_join!(
            run(web, page, stopped.clone()),
            run(rest, api, stopped.clone())
        )
    };
    println!("web http://{web_address}");
    println!("rest http://{rest_address}");
    let start_ms = began.elapsed().as_millis();
    tracing::info!(start_ms, models = registry.usable().count(), "ready");

    let grace = Duration::from_secs(config.grace_s.into());
    let shut_down = async {
        asked_to_stop().await;
        tracing::info!("stopping; replies in progress have {} s", grace.as_secs());
        stop.send_replace(true);
        tokio::time::sleep(grace).await;
        // What still runs ends with an error event; one more second lets it be sent.
        registry.stop();
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    tokio::select! {
        ended = servers => ended.map(drop).context("a server failed")?,
        () = shut_down => tracing::warn!("some connections were still open"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Compiles the engine and finds the models. Takes a while, so not on the network's threads.
fn registry(config: &Config) -> anyhow::Result<Registry> {
    let component = sandbox::find(config.component.as_deref())?;
    let limits = Limits {
        memory_bytes_max: usize::try_from(u64::from(config.memory_max_mib) << 20)?,
        conversation_bytes_max: usize::try_from(u64::from(config.conversation_max_mib) << 20)?,
        call_max: Duration::from_millis(config.call_max_ms.into()),
    };
    let sandbox = Arc::new(Sandbox::open(&component, limits)?);
    let found = models::scan(&config.models, &sandbox);
    if found.models.is_empty() {
        tracing::warn!(
            "no *.gguf in {}; name another folder with --models",
            config.models.display()
        );
    }
    let threads = match config.threads {
        0 => std::thread::available_parallelism().map_or(1, NonZero::get),
        threads => threads.into(),
    };
    let workers = WorkerConfig {
        threads,
        active_max: config.active_max.into(),
        kept_bytes_max: usize::try_from(u64::from(config.kept_max_mib) << 20)?,
        queue_max: config.queue_max.into(),
        context_max: config.context_max,
        kv: config.kv_type,
        adapter_bytes_max: config.adapters_max_mib.saturating_mul(1 << 20),
        idle: (config.idle_s != 0).then(|| Duration::from_secs(config.idle_s.into())),
    };
    Registry::new(&config.models, found, sandbox, workers).context("a thread could not start")
}

async fn bind(config: &Config, port: u16, flag: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let address = SocketAddr::new(config.bind, port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another port with {flag}"))?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

fn run(
    listener: TcpListener,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) -> impl Future<Output = std::io::Result<()>> {
    let stop = async move {
        // An error means that the sender is gone, which is a reason to stop as well.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .into_future()
}

/// Returns at the first SIGINT or SIGTERM.
async fn asked_to_stop() {
    let interrupt = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!("SIGINT cannot be awaited: {error}");
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let terminate = async {
            match signal(SignalKind::terminate()) {
                Ok(mut signal) => _ = signal.recv().await,
                Err(error) => {
                    tracing::error!("SIGTERM cannot be awaited: {error}");
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            () = interrupt => {}
            () = terminate => {}
        }
    }
    #[cfg(not(unix))]
    interrupt.await;
}
