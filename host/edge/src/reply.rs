//! Responses: JSON, errors and event streams.

use meetara_api::{ApiError, SSE_CONTENT_TYPE};
use serde::Serialize;
use worker::{Headers, Response, ResponseBuilder};

/// 200 with a JSON body.
pub fn json(body: &impl Serialize) -> Result<Response, ApiError> {
    ResponseBuilder::new()
        .from_json(body)
        .map_err(|_| ApiError::internal("The reply could not be written as JSON."))
}

/// 200 with plain text.
pub fn text(text: &str) -> Result<Response, ApiError> {
    Response::ok(text).map_err(|_| ApiError::internal("The reply could not be written."))
}

/// The error's status and body.
pub fn error(error: &ApiError) -> worker::Result<Response> {
    let headers = Headers::new();
    headers.set("content-type", "application/json")?;
    if error.status == 503 {
        headers.set("retry-after", "2")?;
    }
    let body = error.to_json().into_bytes();
    Ok(ResponseBuilder::new()
        .with_status(error.status)
        .with_headers(headers)
        .fixed(body))
}

/// 200 with server-sent events.
pub fn events<S>(request_id: &str, events: S) -> Result<Response, ApiError>
where
    S: futures_util::Stream<Item = worker::Result<Vec<u8>>> + 'static,
{
    let build = || {
        ResponseBuilder::new()
            .with_header("content-type", SSE_CONTENT_TYPE)?
            .with_header("cache-control", "no-cache")?
            .with_header("x-request-id", request_id)?
            .from_stream(events)
    };
    build().map_err(|_| ApiError::internal("The stream could not be opened."))
}
