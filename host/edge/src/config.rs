//! The `[vars]` of wrangler.toml that this Worker reads.

use meetara_api::ApiError;
use worker::Env;

/// Replies that may be in progress at a time in one isolate, unless `REPLIES_MAX` says otherwise.
///
/// An isolate has 128 MB, which must hold the model and one KV cache per reply.
const REPLIES_MAX_DEFAULT: usize = 4;

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
        })
    }
}

fn optional(env: &Env, name: &str) -> Option<String> {
    env.var(name)
        .ok()
        .map(|value| value.to_string())
        .filter(|value| !value.is_empty())
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
