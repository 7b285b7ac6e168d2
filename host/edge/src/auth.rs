//! Who may ask: anyone, or those who know the secret `API_KEY` when the Worker has one.

use meetara_api::ApiError;
use worker::{Env, Request};

/// Compares the bearer token with the secret, if there is a secret.
///
/// # Errors
/// 401 `invalid_api_key`.
pub fn check(request: &Request, env: &Env) -> Result<(), ApiError> {
    let Ok(secret) = env.secret("API_KEY") else {
        return Ok(());
    };
    let header = request
        .headers()
        .get("authorization")
        .ok()
        .flatten()
        .unwrap_or_default();
    let token = header.strip_prefix("Bearer ").unwrap_or_default();
    if same(token.as_bytes(), secret.to_string().as_bytes()) {
        Ok(())
    } else {
        Err(ApiError::invalid_api_key())
    }
}

/// Whether what the Worker serves may be changed from outside: only where there is a key, which
/// [`check`] then has asked for.
///
/// # Errors
/// 403 `no_api_key`.
pub fn check_change(env: &Env) -> Result<(), ApiError> {
    if env.secret("API_KEY").is_ok() {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "no_api_key",
        "This Worker has no secret API_KEY, so nobody can change what it serves. List adapters under [vars.ADAPTERS] in wrangler.toml, or set the secret.",
    ))
}

/// Takes equally long wherever the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    let different = a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y));
    a.len() == b.len() && core::hint::black_box(different) == 0
}
