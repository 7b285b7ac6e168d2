//! [`ApiError`] as an HTTP response.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use meetara_api::{ApiError, ErrorBody};

/// An error on its way to a client.
#[derive(Debug)]
pub(super) struct Failure(pub(super) ApiError);

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl Failure {
    /// 403: the request comes from where none should come from.
    pub(super) fn forbidden(code: &str, message: impl Into<String>) -> Self {
        ApiError::forbidden(code, message).into()
    }
}

/// How long a client should wait when the queue is full.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("2");

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(ApiError { status, error }) = self;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let overloaded = error.code.as_deref() == Some("overloaded");
        let mut response = (status, Json(ErrorBody { error })).into_response();
        if overloaded {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_S);
        }
        response
    }
}
