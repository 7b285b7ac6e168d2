//! `POST /v1/embeddings`, and our own `POST /v1/choose`: what a model says of a text without
//! writing one.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::adapters::{AdapterUse, parse_adapters};
use crate::chat::Message;
use crate::content::parse_messages;
use crate::error::ApiError;
use crate::fields::Fields;

/// The most texts in one request, as in OpenAI's API.
pub const INPUTS_MAX: usize = 2048;

/// A checked request for embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingsRequest {
    /// Model id; whether it exists is for the host to say.
    pub model: String,
    /// The texts: at least one, none empty.
    pub inputs: Vec<String>,
    /// Vectors as base64 of little-endian f32 instead of lists of numbers.
    pub is_base64: bool,
    /// LoRA adapters over the model, each with its scale. An extension.
    pub adapters: Vec<AdapterUse>,
}

impl EmbeddingsRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// A 400 that names the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let model = fields.required_string("model")?;
        let inputs = match fields.take("input") {
            None => return Err(ApiError::missing("input")),
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(list)) => strings(list).ok_or_else(|| {
                ApiError::unsupported(
                    "input",
                    "'input' must be a text or a list of texts; token ids are not read.",
                )
            })?,
            Some(_) => vec![],
        };
        if inputs.is_empty() || inputs.len() > INPUTS_MAX || inputs.iter().any(String::is_empty) {
            let message = format!("'input' must be 1 to {INPUTS_MAX} texts, none empty.");
            return Err(ApiError::invalid_value("input", message));
        }
        let format = fields.take("encoding_format");
        let is_base64 = match format.as_ref().map(Value::as_str) {
            None | Some(Some("float")) => false,
            Some(Some("base64")) => true,
            _ => {
                let message = "'encoding_format' must be 'float' or 'base64'.";
                return Err(ApiError::invalid_value("encoding_format", message));
            }
        };
        if fields.take("dimensions").is_some() {
            let message = "Vectors have the length of the model's; leave 'dimensions' out.";
            return Err(ApiError::unsupported("dimensions", message));
        }
        let adapters = parse_adapters(fields.take("adapters"))?;
        fields.take("user");
        fields.finish()?;
        Ok(Self {
            model,
            inputs,
            is_base64,
            adapters,
        })
    }

    /// The reply: one vector for each input, `prompt_tokens` over all of them.
    pub fn reply(&self, model: &str, vectors: &[Vec<f32>], prompt_tokens: u32) -> Value {
        let data: Vec<Value> = vectors
            .iter()
            .enumerate()
            .map(|(index, vector)| {
                let embedding = if self.is_base64 {
                    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                    json!(BASE64_STANDARD.encode(bytes))
                } else {
                    json!(vector)
                };
                json!({"object": "embedding", "index": index, "embedding": embedding})
            })
            .collect();
        json!({
            "object": "list",
            "data": data,
            "model": model,
            "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
        })
    }
}

/// A checked request to choose among labels: `messages` or `prompt`, and `labels`.
#[derive(Debug, Clone, PartialEq)]
pub struct ChooseRequest {
    /// Model id; whether it exists is for the host to say.
    pub model: String,
    /// What the labels answer.
    pub prompt: Prompt,
    /// At least one; the engine says what else it wants of them.
    pub labels: Vec<String>,
    /// LoRA adapters over the model, each with its scale.
    pub adapters: Vec<AdapterUse>,
}

/// What a model is given to read.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A conversation.
    Chat(Vec<Message>),
    /// Plain text to continue.
    Text(String),
}

/// One label and how likely it is. The engine writes it, clients read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelProbability {
    /// The label, as given.
    pub label: String,
    /// Its share among the labels.
    pub probability: f32,
    /// Sum of the natural logarithms of its tokens' probabilities.
    pub logprob: f32,
}

impl ChooseRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// A 400 that names the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let model = fields.required_string("model")?;
        let prompt = match (fields.take("messages"), fields.take("prompt")) {
            (None, Some(Value::String(text))) => Prompt::Text(text),
            (messages, None) => Prompt::Chat(parse_messages(messages)?),
            _ => {
                let message = "Send either 'messages' or 'prompt', a string.";
                return Err(ApiError::invalid_value("prompt", message));
            }
        };
        let labels = match fields.take("labels") {
            None => return Err(ApiError::missing("labels")),
            Some(Value::Array(list)) => strings(list),
            Some(_) => None,
        };
        let labels = labels.filter(|labels| !labels.is_empty()).ok_or_else(|| {
            ApiError::invalid_value("labels", "'labels' must be a list of texts, at least one.")
        })?;
        let adapters = parse_adapters(fields.take("adapters"))?;
        fields.finish()?;
        Ok(Self {
            model,
            prompt,
            labels,
            adapters,
        })
    }

    /// The reply.
    pub fn reply(model: &str, choices: &[LabelProbability], prompt_tokens: u32) -> Value {
        json!({
            "object": "list",
            "data": choices,
            "model": model,
            "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
        })
    }
}

/// All of `list`, if they are strings.
fn strings(list: Vec<Value>) -> Option<Vec<String>> {
    list.into_iter()
        .map(|value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_are_read_and_written_in_both_encodings() {
        let parse =
            |more: &str| EmbeddingsRequest::parse(format!(r#"{{"model":"m",{more}}}"#).as_bytes());
        let float = parse(r#""input":"a""#).unwrap();
        let base64 = parse(r#""input":["a","b"],"encoding_format":"base64","user":"u""#).unwrap();
        let vectors = [vec![1.0, -0.5], vec![0.25, 0.0]];
        let reply = float.reply("m", &vectors[..1], 3);
        assert_eq!(reply["data"][0]["embedding"], json!([1.0, -0.5]));
        assert_eq!(reply["usage"]["total_tokens"], 3);
        // Little-endian bytes 00 00 80 3f 00 00 00 bf.
        let reply = base64.reply("m", &vectors, 3);
        assert_eq!(reply["data"][0]["embedding"], "AACAPwAAAL8=");
        assert_eq!(reply["data"][1]["index"], 1);
        for (more, param) in [
            (r#""inpt":"a""#, "input"),
            (r#""input":[]"#, "input"),
            (r#""input":"""#, "input"),
            (r#""input":[1,2]"#, "input"),
            (r#""input":7"#, "input"),
            (r#""input":"a","encoding_format":"hex""#, "encoding_format"),
            (r#""input":"a","dimensions":5"#, "dimensions"),
        ] {
            let error = parse(more).unwrap_err();
            assert_eq!(
                (error.status, error.error.param.as_deref()),
                (400, Some(param)),
                "{more}"
            );
        }
    }

    #[test]
    fn a_choice_has_a_prompt_and_labels() {
        let parse =
            |more: &str| ChooseRequest::parse(format!(r#"{{"model":"m",{more}}}"#).as_bytes());
        let text = parse(r#""prompt":"is it","labels":["a"]"#).unwrap();
        assert_eq!(text.prompt, Prompt::Text("is it".into()));
        let chat =
            parse(r#""messages":[{"role":"user","content":"x"}],"labels":["a","b"]"#).unwrap();
        assert_eq!(chat.labels, ["a", "b"]);
        for (more, param) in [
            (r#""labels":["a"]"#, "messages"),
            (r#""prompt":"x""#, "labels"),
            (r#""prompt":"x","labels":[]"#, "labels"),
            (r#""prompt":"x","labels":[1]"#, "labels"),
            (r#""prompt":1,"labels":["a"]"#, "prompt"),
        ] {
            assert_eq!(
                parse(more).unwrap_err().error.param.as_deref(),
                Some(param),
                "{more}"
            );
        }
    }
}
