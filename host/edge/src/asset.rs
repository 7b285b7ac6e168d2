//! One static asset, whole in memory.

use futures_util::StreamExt;
use meetara_api::ApiError;
use worker::Env;

/// Why an asset cannot be had.
pub enum Fault {
    /// There is no such file.
    Missing,
    /// Something else is wrong with it, in words that continue its name.
    Broken(&'static str),
    /// wrangler.toml, or the memory, is at fault.
    Other(ApiError),
}

/// The asset `path`, of at most `bytes_max` bytes.
pub async fn fetch(env: &Env, path: &str, bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let assets = env
        .assets("ASSETS")
        .map_err(|_| Fault::Other(ApiError::internal("wrangler.toml has no binding ASSETS.")))?;
    // The host name is not looked up: assets are found by path alone.
    let url = format!("https://assets.local/{}", path.trim_start_matches('/'));
    let mut response = assets
        .fetch(url, None)
        .await
        .map_err(|_| Fault::Broken("could not be fetched"))?;
    if response.status_code() != 200 {
        return Err(Fault::Missing);
    }
    let length = response
        .headers()
        .get("content-length")
        .ok()
        .flatten()
        .and_then(|text| text.parse().ok());
    let mut bytes: Vec<u8> = Vec::new();
    // Exactly as much as needed, so that the peak is the file's size.
    bytes
        .try_reserve_exact(length.unwrap_or(0).min(bytes_max))
        .map_err(|_| Fault::Other(ApiError::overloaded("There is no memory for the file.")))?;
    let mut chunks = response
        .stream()
        .map_err(|_| Fault::Broken("has no content"))?;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Fault::Broken("could not be read to its end"))?;
        if bytes.len() + chunk.len() > bytes_max {
            return Err(Fault::Broken("is too large for a Worker"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
