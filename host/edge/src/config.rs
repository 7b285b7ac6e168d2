//! The `[vars]` of wrangler.toml that this Worker reads.

use meetara_api::ApiError;
use std::collections::BTreeMap;
use worker::Env;
use worker::js_sys::Reflect;

/// Replies that may be in progress at a time in one isolate, unless `REPLIES_MAX` says otherwise.
///
/// An isolate has 128 MB, which must hold the model and one KV cache per reply.
const REPLIES_MAX_DEFAULT: usize = 4;

/// MiB that adapters may take together, unless `ADAPTERS_MAX_MIB` says otherwise: eight of rank 8 over
/// the shipped model.
const ADAPTERS_MAX_MIB_DEFAULT: usize = 16;

/// More than an isolate has.
const ADAPTERS_MAX_MIB_MAX: usize = 128;

/// How this Worker is set up.
pub struct Config {
    /// `MODEL_ID`: what clients put into `model`.
    pub model_id: String,
    /// `MODEL_PATH`: the file below the assets folder.
    pub model_path: String,
    /// `MODEL_CREATED`: Unix time in seconds; 0 when not given.
    pub model_created: u64,
    /// `REPLIES_MAX`: beyond it, requests are answered 503.
    pub replies_max: usize,
    /// `CONTEXT_MAX`: tokens of prompt and reply together; the model's own when not given.
    pub context_max: Option<u32>,
    /// `ADAPTERS`: LoRA adapters by name, each a file below the assets folder.
    pub adapters: BTreeMap<String, String>,
    /// `ADAPTERS_MAX_MIB`, in bytes: what adapters may take together.
    pub adapter_bytes_max: usize,
    /// `READER_PATH`: the text model below the assets folder; without it only rules look for danger.
    pub reader_path: Option<String>,
    /// `EMOTION`: when feelings are read.
    pub emotion: EmotionPolicy,
}

/// When the feelings of whoever writes are read: `--emotion` of the native host, with the same reasons.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum EmotionPolicy {
    /// `asked`: of requests that ask for it; never in the categories business and education.
    Asked,
    /// `on`: of all requests that do not forbid it; never in these categories.
    On,
    /// `everywhere`: also there, for operators who may do that.
    Everywhere,
}

impl Config {
    /// Reads the variables.
    ///
    /// # Errors
    /// A 500 that names the variable which is missing or not a number.
    pub fn read(env: &Env) -> Result<Self, ApiError> {
        Ok(Self {
            model_id: required(env, "MODEL_ID")?,
            model_path: required(env, "MODEL_PATH")?,
            model_created: number(env, "MODEL_CREATED")?.unwrap_or(0),
            replies_max: number(env, "REPLIES_MAX")?.unwrap_or(REPLIES_MAX_DEFAULT),
            context_max: number(env, "CONTEXT_MAX")?,
            adapters: adapters(env)?,
            adapter_bytes_max: number(env, "ADAPTERS_MAX_MIB")?
                .unwrap_or(ADAPTERS_MAX_MIB_DEFAULT)
                .min(ADAPTERS_MAX_MIB_MAX)
                << 20,
            reader_path: optional(env, "READER_PATH"),
            emotion: emotion(env)?,
        })
    }
}

fn emotion(env: &Env) -> Result<EmotionPolicy, ApiError> {
    match optional(env, "EMOTION").as_deref() {
        None | Some("asked") => Ok(EmotionPolicy::Asked),
        Some("on") => Ok(EmotionPolicy::On),
        Some("everywhere") => Ok(EmotionPolicy::Everywhere),
        Some(_) => Err(ApiError::internal(
            "EMOTION in wrangler.toml must be \"asked\", \"on\" or \"everywhere\".",
        )),
    }
}

fn optional(env: &Env, name: &str) -> Option<String> {
    env.var(name)
        .ok()
        .map(|value| value.to_string())
        .filter(|value| !value.is_empty())
}

/// A table of texts; none when there is no such variable.
fn adapters(env: &Env) -> Result<BTreeMap<String, String>, ApiError> {
    // `env.var` knows texts only, and `object_var` does not tell what is missing from what is wrong.
    if !matches!(Reflect::has(env.as_ref(), &"ADAPTERS".into()), Ok(true)) {
        return Ok(BTreeMap::new());
    }
    env.object_var("ADAPTERS").map_err(|_| {
        ApiError::internal("[vars.ADAPTERS] in wrangler.toml must have lines NAME = \"FILE\".")
    })
}

fn required(env: &Env, name: &str) -> Result<String, ApiError> {
    optional(env, name)
        .ok_or_else(|| ApiError::internal(format!("Set {name} under [vars] in wrangler.toml.")))
}

fn number<T: core::str::FromStr>(env: &Env, name: &str) -> Result<Option<T>, ApiError> {
    optional(env, name)
        .map(|text| text.parse())
        .transpose()
        .map_err(|_| {
            ApiError::internal(format!(
                "{name} in wrangler.toml must be a whole number, in quotes."
            ))
        })
}
