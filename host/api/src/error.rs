//! What clients are told when a request fails: an HTTP status and OpenAI's error body.
//!
//! Messages name fields, limits and counts. They never hold what a user wrote.

use serde::{Deserialize, Serialize};

use crate::constraint::Constraint;

/// The `error` object: all four keys are always present, absent values are `null`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorObject {
    /// What is wrong and what to do about it.
    pub message: String,
    /// Family, for example `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The request field at fault.
    pub param: Option<String>,
    /// Stable word to match on, for example `context_length_exceeded`.
    pub code: Option<String>,
}

/// The body of a failed request: `{"error": {...}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The only key.
    pub error: ErrorObject,
}

/// A failure, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// What the body says.
    pub error: ErrorObject,
}

impl ApiError {
    fn new(
        status: u16,
        kind: &str,
        param: Option<&str>,
        code: Option<&str>,
        message: String,
    ) -> Self {
        Self {
            status,
            error: ErrorObject {
                message,
                kind: kind.to_owned(),
                param: param.map(str::to_owned),
                code: code.map(str::to_owned),
            },
        }
    }

    /// 400: the field `param` has a value that cannot be used.
    pub fn invalid_value(param: &str, message: impl Into<String>) -> Self {
        Self::new(
            400,
            INVALID,
            Some(param),
            Some("invalid_value"),
            message.into(),
        )
    }

    /// 400: the body is not JSON, or not a JSON object.
    pub fn invalid_json(message: impl Into<String>) -> Self {
        Self::new(400, INVALID, None, Some("invalid_json"), message.into())
    }

    /// 400: a required field is missing.
    pub fn missing(param: &str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self::new(
            400,
            INVALID,
            Some(param),
            Some("missing_required_parameter"),
            message,
        )
    }

    /// 400: a field that this server knows, cannot honour, and must not ignore.
    pub fn unsupported(param: &str, message: impl Into<String>) -> Self {
        Self::new(
            400,
            INVALID,
            Some(param),
            Some("unsupported_parameter"),
            message.into(),
        )
    }

    /// 400: a field nobody knows; most likely a slip of the pen.
    pub fn unknown_parameter(param: &str) -> Self {
        let shown = shown_id(param);
        let message = format!("Unknown parameter: {shown}. Remove it from the request.");
        Self::new(
            400,
            INVALID,
            printable(param).then_some(param),
            Some("unknown_parameter"),
            message,
        )
    }

    /// 400: prompt and answer do not fit into the model's context. The message carries the counts.
    pub fn context_length_exceeded(message: impl Into<String>) -> Self {
        Self::new(
            400,
            INVALID,
            Some("messages"),
            Some("context_length_exceeded"),
            message.into(),
        )
    }

    /// 401: the bearer token is missing or wrong.
    pub fn invalid_api_key() -> Self {
        let message = "Send the API key as `Authorization: Bearer <key>`.".to_owned();
        Self::new(401, INVALID, None, Some("invalid_api_key"), message)
    }

    /// 403: the request comes from where none should come from, or from one who may not do this.
    pub fn forbidden(code: &str, message: impl Into<String>) -> Self {
        Self::new(403, "permission_error", None, Some(code), message.into())
    }

    /// 404: no model of that id is served.
    pub fn model_not_found(id: &str) -> Self {
        let message = format!(
            "The model {} does not exist here; GET /v1/models lists those that do.",
            shown_id(id)
        );
        Self::new(
            404,
            INVALID,
            Some("model"),
            Some("model_not_found"),
            message,
        )
    }

    /// 404: no adapter of that name is listed.
    pub fn adapter_not_found(name: &str) -> Self {
        let message = format!(
            "The adapter {} does not exist here; GET /v1/lora_adapters lists those that do.",
            shown_id(name)
        );
        Self::new(
            404,
            INVALID,
            Some("adapters"),
            Some("adapter_not_found"),
            message,
        )
    }

    /// 404: no such route.
    pub fn not_found() -> Self {
        Self::new(
            404,
            INVALID,
            None,
            Some("not_found"),
            "There is nothing at this address.".to_owned(),
        )
    }

    /// 405: the route exists, but not for this method. `allowed` is the `Allow` header's value.
    pub fn method_not_allowed(allowed: &str) -> Self {
        let message = format!("This address answers to {allowed} only.");
        Self::new(405, INVALID, None, Some("method_not_allowed"), message)
    }

    /// 413: the body is longer than `bytes_max`.
    pub fn payload_too_large(bytes_max: usize) -> Self {
        let message =
            format!("The request body is longer than {bytes_max} bytes. Shorten the conversation.");
        Self::new(413, INVALID, None, Some("payload_too_large"), message)
    }

    /// 500: a fault of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(
            500,
            "server_error",
            None,
            Some("internal_error"),
            message.into(),
        )
    }

    /// 503: nothing wrong with the request; try again later.
    pub fn overloaded(message: impl Into<String>) -> Self {
        Self::new(503, "overloaded", None, Some("overloaded"), message.into())
    }

    /// 503: the model's file is missing, cut or of a kind the engine does not run.
    pub fn model_unavailable(message: impl Into<String>) -> Self {
        Self::new(
            503,
            "server_error",
            Some("model"),
            Some("model_unavailable"),
            message.into(),
        )
    }

    /// The error, said of the field that `constraint` came in: the engine knows what is wrong with a rule,
    /// not which field held it.
    #[must_use]
    pub fn of_constraint(mut self, constraint: Option<&Constraint>) -> Self {
        if let Some(constraint) = constraint
            && self.error.param.as_deref() == Some("response_format")
        {
            self.error.param = Some(constraint.param().to_owned());
        }
        self
    }

    /// Translates an engine error, given by its stable code (`invalid_request`,
    /// `context_overflow`, ...) and message, to what a client is told.
    pub fn from_engine(code: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        match code {
            "invalid_request" => Self::new(400, INVALID, None, Some("invalid_value"), message),
            "invalid_constraint" => Self::invalid_value("response_format", message),
            "context_overflow" => Self::context_length_exceeded(message),
            "template" => Self::new(
                400,
                INVALID,
                Some("messages"),
                Some("invalid_value"),
                message,
            ),
            "out_of_memory" => Self::overloaded(message),
            "invalid_model" | "unsupported_model" => Self::model_unavailable(message),
            _ => Self::internal(message),
        }
    }

    /// The JSON body.
    pub fn to_json(&self) -> String {
        // Strings and options always serialise.
        serde_json::to_string(&ErrorBody {
            error: self.error.clone(),
        })
        .unwrap_or_default()
    }

    /// The event that ends a stream which failed after it had begun.
    pub fn to_sse(&self) -> String {
        format!("data: {}\n\n", self.to_json())
    }
}

impl core::fmt::Display for ApiError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} {}", self.status, self.error.message)
    }
}

impl core::error::Error for ApiError {}

const INVALID: &str = "invalid_request_error";

/// Ids are repeated to the client only when they look like one, so that no text of a user's is.
fn printable(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 64
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b))
}

fn shown_id(id: &str) -> String {
    if printable(id) {
        format!("'{id}'")
    } else {
        "of that name".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_four_keys_are_always_there() {
        let value: serde_json::Value =
            serde_json::from_str(&ApiError::not_found().to_json()).unwrap();
        let error = value["error"].as_object().unwrap();
        assert_eq!(error.len(), 4);
        assert!(error["param"].is_null());
        assert_eq!(error["type"], "invalid_request_error");
    }

    #[test]
    fn an_id_that_is_prose_is_not_repeated() {
        assert!(
            ApiError::model_not_found("meetara:nutrition")
                .error
                .message
                .contains("'meetara:nutrition'")
        );
        assert!(
            !ApiError::model_not_found("I feel sad")
                .error
                .message
                .contains("sad")
        );
        assert!(
            ApiError::unknown_parameter("my secret is")
                .error
                .param
                .is_none()
        );
    }

    #[test]
    fn engine_codes_become_statuses() {
        let status = |code| ApiError::from_engine(code, "m").status;
        assert_eq!(status("invalid_request"), 400);
        assert_eq!(status("invalid_constraint"), 400);
        assert_eq!(status("context_overflow"), 400);
        assert_eq!(status("out_of_memory"), 503);
        assert_eq!(status("invalid_model"), 503);
        assert_eq!(status("something new"), 500);
        let overflow = ApiError::from_engine("context_overflow", "m");
        assert_eq!(
            overflow.error.code.as_deref(),
            Some("context_length_exceeded")
        );
    }
}
