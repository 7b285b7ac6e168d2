//! Flags and environment variables.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;

use crate::sandbox::wire::KvType;

/// When the feelings of whoever writes are read. Inferring emotions of people at work and in education is prohibited in
/// the EU (AI Act, Art. 5(1)(f)), so in those domains it takes an operator who says `everywhere`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum EmotionPolicy {
    /// Of requests that ask for it; never in the categories business and education
    #[default]
    Asked,
    /// Of all requests that do not forbid it; never in the categories business and education
    On,
    /// As `on`, also in business and education: for operators who may do that
    Everywhere,
}

/// Serves chat models (GGUF files) over OpenAI's REST dialect, each in a WebAssembly sandbox.
#[derive(Clone, Debug, Parser)]
#[command(name = "meetara-host", version, args_override_self = true)]
pub struct Config {
    /// Folder that is searched, with its subfolders, for *.gguf when the host starts
    #[arg(
        long,
        env = "MEETARA_MODELS",
        default_value = "models",
        value_name = "DIR"
    )]
    pub models: PathBuf,

    /// Folder of the built page
    #[arg(
        long,
        env = "MEETARA_WEB_DIR",
        default_value = "web/dist",
        value_name = "DIR"
    )]
    pub web_dir: PathBuf,

    /// Address to listen on; anything but loopback also needs --allow-host
    #[arg(
        long,
        env = "MEETARA_BIND",
        default_value = "127.0.0.1",
        value_name = "IP"
    )]
    pub bind: IpAddr,

    /// Port of the page; 0 takes a free one
    #[arg(
        long,
        env = "MEETARA_WEB_PORT",
        default_value_t = 2025,
        value_name = "PORT"
    )]
    pub web_port: u16,

    /// Port of the REST API; 0 takes a free one
    #[arg(
        long,
        env = "MEETARA_REST_PORT",
        default_value_t = 8766,
        value_name = "PORT"
    )]
    pub rest_port: u16,

    /// A further name that the Host header may carry; `*` allows any
    #[arg(
        long,
        env = "MEETARA_ALLOW_HOST",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub allow_host: Vec<String>,

    /// A further origin whose pages may call the REST API, for example https://example.org; `*` allows any
    #[arg(
        long,
        env = "MEETARA_ALLOW_ORIGIN",
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    pub allow_origin: Vec<String>,

    /// The sandboxed engine; without it, meetara_component.wasm is looked for beside the program
    #[arg(long, env = "MEETARA_COMPONENT", value_name = "FILE")]
    pub component: Option<PathBuf>,

    /// The most tokens of a conversation, within what each model can; 0 takes what it can, up to 4096
    #[arg(
        long,
        env = "MEETARA_CONTEXT_MAX",
        default_value_t = 0,
        value_name = "TOKENS"
    )]
    pub context_max: u32,

    /// How the keys and values of conversations are kept
    #[arg(
        long,
        env = "MEETARA_KV_TYPE",
        value_enum,
        default_value_t,
        value_name = "TYPE"
    )]
    pub kv_type: KvType,

    /// Most memory that one model's sandbox may take, in MiB
    #[arg(long, env = "MEETARA_MEMORY_MAX_MIB", default_value_t = 2048, value_name = "MIB",
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub memory_max_mib: u32,

    /// Most memory that the LoRA adapters over one model take together, in MiB; those that were
    /// not used for longest are dropped, and read from disk again when they are asked for
    #[arg(long, env = "MEETARA_ADAPTERS_MAX_MIB", default_value_t = 64, value_name = "MIB",
          value_parser = clap::value_parser!(u32).range(1..=2048))]
    pub adapters_max_mib: u32,

    /// Most memory that one conversation may add to its model's, in MiB
    #[arg(long, env = "MEETARA_CONVERSATION_MAX_MIB", default_value_t = 512, value_name = "MIB",
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub conversation_max_mib: u32,

    /// Longest time that loading, or one step of a reply, may take, in milliseconds
    #[arg(long, env = "MEETARA_CALL_MAX_MS", default_value_t = 60_000, value_name = "MS",
          value_parser = clap::value_parser!(u32).range(1..=3_600_000))]
    pub call_max_ms: u32,

    /// Threads that run the engine, for all models; 0 takes as many as there are CPUs
    #[arg(long, env = "MEETARA_THREADS", default_value_t = 0, value_name = "N")]
    pub threads: u16,

    /// Requests for one model that are served side by side, a token each in turn
    #[arg(long, env = "MEETARA_ACTIVE_MAX", default_value_t = 64, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub active_max: u16,

    /// Most memory that conversations with one model take while they wait for what follows, in
    /// MiB; those that wait longest are forgotten, and read again when they go on
    #[arg(
        long,
        env = "MEETARA_KEPT_MAX_MIB",
        default_value_t = 512,
        value_name = "MIB"
    )]
    pub kept_max_mib: u32,

    /// Requests that may wait for one model beyond these; after them the answer is 503
    #[arg(long, env = "MEETARA_QUEUE_MAX", default_value_t = 16, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub queue_max: u16,

    /// A model unused for so long gives its memory back, in seconds; 0 keeps it
    #[arg(
        long,
        env = "MEETARA_IDLE_S",
        default_value_t = 900,
        value_name = "SECONDS"
    )]
    pub idle_s: u32,

    /// When the feelings of whoever writes are read; danger is always looked for
    #[arg(
        long,
        env = "MEETARA_EMOTION",
        value_enum,
        default_value_t,
        value_name = "WHEN"
    )]
    pub emotion: EmotionPolicy,

    /// How long replies in progress may go on after a request to stop, in seconds
    #[arg(
        long,
        env = "MEETARA_GRACE_S",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    pub grace_s: u32,
}
