//! The body of a request, of bounded length.

use meetara_api::{ApiError, BODY_BYTES_MAX};
use worker::Request;

/// Reads it to its end.
///
/// # Errors
/// 413 when it is too long, 400 when it breaks off.
pub async fn read(request: &mut Request) -> Result<Vec<u8>, ApiError> {
    let length = request.headers().get("content-length").ok().flatten();
    let is_long = |bytes: usize| bytes > BODY_BYTES_MAX;
    if length
        .and_then(|text| text.parse().ok())
        .is_some_and(is_long)
    {
        return Err(ApiError::payload_too_large(BODY_BYTES_MAX));
    }
    let body = request
        .bytes()
        .await
        .map_err(|_| ApiError::invalid_json("The request body could not be read to its end."))?;
    if is_long(body.len()) {
        Err(ApiError::payload_too_large(BODY_BYTES_MAX))
    } else {
        Ok(body)
    }
}
