//! `POST /v1/completions`: plain text to be continued. The older route of OpenAI's API.

use crate::adapters::{AdapterUse, parse_adapters};
use crate::chat::{Sampling, parse_stream_options};
use crate::error::ApiError;
use crate::fields::Fields;
use serde_json::Value;

/// Tokens of an answer when the client names no number, as in OpenAI's API.
const MAX_TOKENS_DEFAULT: u32 = 16;

/// A checked request.
#[derive(Debug, Clone, PartialEq)]
pub struct TextRequest {
    /// Model id; whether it exists is for the host to say.
    pub model: String,
    /// The text to continue.
    pub prompt: String,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Answers wanted, 1 to 4. Answer `i` uses `seed + i`.
    pub n: u32,
    /// Server-sent events instead of one body.
    pub stream: bool,
    /// A last event with the token counts.
    pub include_usage: bool,
    /// LoRA adapters over the model, each with its scale. An extension.
    pub adapters: Vec<AdapterUse>,
}

impl TextRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// A 400 that names the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let model = fields.required_string("model")?;
        let prompt = match fields.take("prompt") {
            Some(Value::String(text)) => text,
            Some(Value::Array(list)) if list.len() == 1 && list[0].is_string() => {
                list[0].as_str().unwrap_or_default().to_owned()
            }
            Some(_) => {
                return Err(ApiError::unsupported(
                    "prompt",
                    "'prompt' must be one string; send one request for each text.",
                ));
            }
            None => return Err(ApiError::missing("prompt")),
        };
        let mut sampling = Sampling::take(&mut fields)?;
        sampling.max_tokens.get_or_insert(MAX_TOKENS_DEFAULT);
        let n = fields.integer("n", 1, 4)?.unwrap_or(1);
        let stream = fields.bool("stream")?.unwrap_or(false);
        let include_usage = parse_stream_options(fields.take("stream_options"), stream)?;
        let adapters = parse_adapters(fields.take("adapters"))?;
        let refused = [
            (
                "logprobs",
                "Log probabilities are given by /v1/chat/completions only.",
            ),
            ("suffix", "Text cannot be inserted, only continued."),
        ];
        for (name, message) in refused {
            if fields.take(name).is_some() {
                return Err(ApiError::unsupported(name, message));
            }
        }
        if fields.bool("echo")? == Some(true) {
            return Err(ApiError::unsupported("echo", "The prompt is not repeated."));
        }
        if fields
            .integer("best_of", 1, 20)?
            .is_some_and(|best| best != n)
        {
            return Err(ApiError::unsupported(
                "best_of",
                "'best_of' must equal 'n'.",
            ));
        }
        fields.take("user");
        fields.finish()?;
        Ok(Self {
            model,
            prompt,
            sampling,
            n,
            stream,
            include_usage,
            adapters,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_and_its_defaults() {
        let parsed =
            TextRequest::parse(br#"{"model":"m","prompt":["once"],"echo":false}"#).unwrap();
        assert_eq!(parsed.prompt, "once");
        assert_eq!(parsed.sampling.max_tokens, Some(16));
        for (body, param) in [
            (r#"{"model":"m"}"#, "prompt"),
            (r#"{"model":"m","prompt":[1,2]}"#, "prompt"),
            (r#"{"model":"m","prompt":"a","logprobs":1}"#, "logprobs"),
            (r#"{"model":"m","prompt":"a","suffix":"b"}"#, "suffix"),
            (r#"{"model":"m","prompt":"a","echo":true}"#, "echo"),
            (r#"{"model":"m","prompt":"a","best_of":2}"#, "best_of"),
        ] {
            let error = TextRequest::parse(body.as_bytes()).unwrap_err();
            assert_eq!(
                (error.status, error.error.param.as_deref()),
                (400, Some(param))
            );
        }
    }
}
