//! Fetches the models from the static assets, once per isolate.
//!
//! A request must not await another request's I/O, so those that come while a model is being
//! fetched look again and again until it is there; should the one that fetches it be gone, the
//! next one takes over after [`TAKE_OVER_MS`].

use crate::asset;
use crate::config::Config;
use crate::isolate::{self, Isolate, Loaded, Once};
use crate::pool::engine_error;
use meetara_api::ApiError;
use meetara_engine::encoder::Encoder;
use meetara_engine::model::Model;
use meetara_engine::reader::Reader;
use std::rc::Rc;
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
    once(|isolate| &mut isolate.model, fetch_model(env, config)).await
}

/// The text model at `path`, from memory or else from the assets.
///
/// # Errors
/// 503 `model_unavailable` when the file is missing, too large or not a text model.
pub async fn reader(env: &Env, path: &str) -> Result<Rc<Reader>, ApiError> {
    once(|isolate| &mut isolate.reader, fetch_reader(env, path)).await
}

async fn once<T: Clone>(
    slot: fn(&mut Isolate) -> &mut Once<T>,
    fetch: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    loop {
        if let Some(there) = isolate::with(|isolate| slot(isolate).there.clone()) {
            return Ok(there);
        }
        let now_ms = isolate::now_ms();
        let is_mine = isolate::with(|isolate| {
            let slot = slot(isolate);
            let is_fetched = slot
                .loading_since_ms
                .is_some_and(|since| now_ms.saturating_sub(since) < TAKE_OVER_MS);
            if !is_fetched {
                slot.loading_since_ms = Some(now_ms);
            }
            !is_fetched
        });
        if is_mine {
            let result = fetch.await;
            isolate::with(|isolate| {
                let slot = slot(isolate);
                slot.loading_since_ms = None;
                slot.there = result.as_ref().ok().cloned();
            });
            return result;
        }
        Delay::from(LOOK_AGAIN).await;
    }
}

async fn bytes_of(env: &Env, path: &str, variable: &str) -> Result<Vec<u8>, ApiError> {
    let failed = |what: &str| ApiError::model_unavailable(format!("The asset {path} {what}."));
    let bytes = asset::fetch(env, path, MODEL_BYTES_MAX).await;
    bytes.map_err(|fault| match fault {
        asset::Fault::Missing => {
            failed(&format!("is missing; wrangler.toml names it in {variable}"))
        }
        asset::Fault::Broken(what) => failed(what),
        asset::Fault::Other(error) => error,
    })
}

async fn fetch_reader(env: &Env, path: &str) -> Result<Rc<Reader>, ApiError> {
    let bytes = bytes_of(env, path, "READER_PATH").await?;
    let encoder = Encoder::load(bytes).map_err(|error| engine_error(&error))?;
    let reader = Reader::new(encoder).map_err(|error| engine_error(&error))?;
    Ok(Rc::new(reader))
}

async fn fetch_model(env: &Env, config: &Config) -> Result<Loaded, ApiError> {
    let bytes = bytes_of(env, &config.model_path, "MODEL_PATH").await?;
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
