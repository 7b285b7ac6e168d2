//! Fetches the model from the static assets, once per isolate.
//!
//! A request must not await another request's I/O, so those that come while the model is being
//! fetched look again and again until it is there; should the one that fetches it be gone, the
//! next one takes over after [`TAKE_OVER_MS`].

use crate::asset;
use crate::config::Config;
use crate::isolate::{self, Loaded};
use crate::pool::engine_error;
use meetara_api::ApiError;
use meetara_engine::model::Model;
use std::sync::Arc;
use std::time::Duration;
use worker::{Delay, Env};

/// Largest file taken into memory; an isolate has 128 MB for everything.
const MODEL_BYTES_MAX: usize = 64 << 20;

/// A fetch that began so long ago is taken for dead.
const TAKE_OVER_MS: u64 = 30_000;

/// How often a waiting request looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The model, from memory or else from the assets.
///
/// # Errors
/// 503 `model_unavailable` when the file is missing, too large or not a model.
pub async fn model(env: &Env, config: &Config) -> Result<Loaded, ApiError> {
    loop {
        if let Some(loaded) = isolate::with(|isolate| isolate.model.clone()) {
            return Ok(loaded);
        }
        let now_ms = isolate::now_ms();
        let is_mine = isolate::with(|isolate| {
            let is_fetched = isolate
                .loading_since_ms
                .is_some_and(|since| now_ms.saturating_sub(since) < TAKE_OVER_MS);
            if !is_fetched {
                isolate.loading_since_ms = Some(now_ms);
            }
            !is_fetched
        });
        if is_mine {
            let result = fetch(env, config).await;
            isolate::with(|isolate| {
                isolate.loading_since_ms = None;
                isolate.model = result.as_ref().ok().cloned();
            });
            return result;
        }
        Delay::from(LOOK_AGAIN).await;
    }
}

async fn fetch(env: &Env, config: &Config) -> Result<Loaded, ApiError> {
    let path = &config.model_path;
    let failed = |what: &str| ApiError::model_unavailable(format!("The asset {path} {what}."));
    let bytes = asset::fetch(env, path, MODEL_BYTES_MAX).await;
    let bytes = bytes.map_err(|fault| match fault {
        asset::Fault::Missing => failed("is missing; wrangler.toml names it in MODEL_PATH"),
        asset::Fault::Broken(what) => failed(what),
        asset::Fault::Other(error) => error,
    })?;
    let fingerprint = format!("fp_{:016x}", fnv1a(&bytes));
    let model = Model::load(bytes).map_err(|error| engine_error(&error))?;
    Ok(Loaded {
        model: Arc::new(model),
        fingerprint,
    })
}

/// FNV-1a, 64 bits: tells files apart, proves nothing.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
