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

/// Takes equally long wherever the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    let different = a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y));
    a.len() == b.len() && core::hint::black_box(different) == 0
}
