//! `POST /v1/chat/completions`: the request, read and checked.
//!
//! Three kinds of field: those honoured, those that are harmless to ignore (`user`, `metadata`,
//! ...), and those that would change the meaning of the answer (`tools`, `audio` ...), which are
//! refused with `unsupported_parameter`. A field that nobody knows is
//! refused too, since it is most likely a misspelt one.

use crate::adapters::{AdapterUse, parse_adapters};
use crate::constraint::Constraint;
use crate::content::parse_messages;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::meetara::MeetaraOptions;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One turn of a conversation, as the engine's chat template takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant` (`developer` has become `system`).
    pub role: String,
    /// Its text.
    pub content: String,
}

/// How to choose tokens. Serialises to the engine's `GenerateParams` JSON; what the client left
/// out is left out there too, so that the engine's defaults hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 = greedy; 0 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Nucleus, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Keep the k most likely; 0 = off. An extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Keep those at least this likely, relative to the best; 0 to 1. An extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// 1 = off; 0.5 to 2. An extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f32>,
    /// -2 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// -2 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    /// Same seed, same answer. The host fills in a random one when the client gave none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Longest answer, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Up to four texts that end the answer and are not part of it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub stop: Vec<String>,
    /// Token ids and what is added to their logits, -100 to 100.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub logit_bias: Vec<(u32, f32)>,
    /// Log-probabilities of the chosen token and of so many likeliest ones, 0 to 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u32>,
    /// Guess up to so many tokens at once from the conversation, 0 to 15; the answer is the same. An extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_max: Option<u32>,
    /// A guess needs so many tokens in a row that occurred before, 1 to 8. An extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup_ngram: Option<u32>,
    /// Drop the oldest turns after the system prompt when the context is full. An extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_shift: Option<bool>,
    /// What the answer must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
}

impl Sampling {
    /// The fields that requests for chats and for texts have in common, log-probabilities excepted.
    pub(crate) fn take(fields: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self {
            temperature: fields.number("temperature", 0.0, 2.0)?,
            // The engine wants more than nothing: 0 keeps the likeliest token, like any tiny share.
            top_p: fields
                .number("top_p", 0.0, 1.0)?
                .map(|p| p.max(f32::MIN_POSITIVE)),
            top_k: fields.integer("top_k", 0, u32::MAX)?,
            min_p: fields.number("min_p", 0.0, 1.0)?,
            repeat_penalty: fields.number("repeat_penalty", 0.5, 2.0)?,
            presence_penalty: fields.number("presence_penalty", -2.0, 2.0)?,
            frequency_penalty: fields.number("frequency_penalty", -2.0, 2.0)?,
            seed: fields.seed("seed")?,
            max_tokens: fields.integer("max_tokens", 1, u32::MAX)?,
            stop: parse_stop(fields.take("stop"))?,
            logit_bias: parse_logit_bias(fields.take("logit_bias"))?,
            top_logprobs: None,
            draft_max: fields.integer("draft_max", 0, 15)?,
            lookup_ngram: fields.integer("lookup_ngram", 1, 8)?,
            context_shift: None,
            constraint: None,
        })
    }

    /// The sampling of answer `index`, with a seed: the client's, else `fallback_seed`.
    pub fn of_answer(&self, index: u32, fallback_seed: u64) -> Self {
        let seed = self
            .seed
            .unwrap_or(fallback_seed)
            .wrapping_add(u64::from(index));
        Self {
            seed: Some(seed),
            ..self.clone()
        }
    }
}

/// A checked request.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// Model id; whether it exists is for the host to say.
    pub model: String,
    /// At least one message.
    pub messages: Vec<Message>,
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
    /// Feelings, region and disclaimer. An extension.
    pub meetara: MeetaraOptions,
}

/// Fields that say nothing about the answer's content, or only hint at it.
const IGNORED: [&str; 11] = [
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "metadata",
    "store",
    "service_tier",
    "reasoning_effort",
    "verbosity",
    "prediction",
    "parallel_tool_calls",
];

impl ChatRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// A 400 that names the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let model = fields.required_string("model")?;
        let messages = parse_messages(fields.take("messages"))?;

        let max_completion_tokens = fields.integer("max_completion_tokens", 1, u32::MAX)?;
        let mut sampling = Sampling::take(&mut fields)?;
        sampling.max_tokens = max_completion_tokens.or(sampling.max_tokens);
        sampling.top_logprobs = parse_logprobs(&mut fields)?;
        sampling.context_shift = fields.bool("context_shift")?;
        sampling.constraint = Constraint::take(&mut fields)?;
        if sampling.constraint.is_some() && !sampling.stop.is_empty() {
            let message = "'stop' would end the answer before it has the form that is asked for.";
            return Err(ApiError::invalid_value("stop", message));
        }
        let n = fields.integer("n", 1, 4)?.unwrap_or(1);
        let stream = fields.bool("stream")?.unwrap_or(false);
        let include_usage = parse_stream_options(fields.take("stream_options"), stream)?;

        let adapters = parse_adapters(fields.take("adapters"))?;
        let meetara = MeetaraOptions::parse(fields.take("meetara"))?;

        refuse_unsupported(&mut fields)?;
        for name in IGNORED {
            fields.take(name);
        }
        fields.finish()?;
        Ok(Self {
            model,
            messages,
            sampling,
            n,
            stream,
            include_usage,
            adapters,
            meetara,
        })
    }

    /// The sampling of answer `index`, with a seed: the client's, else `fallback_seed`.
    pub fn sampling_of(&self, index: u32, fallback_seed: u64) -> Sampling {
        self.sampling.of_answer(index, fallback_seed)
    }
}

/// `logprobs` asks, `top_logprobs` says how many more; it means nothing alone.
fn parse_logprobs(fields: &mut Fields) -> Result<Option<u32>, ApiError> {
    let wanted = fields.bool("logprobs")?.unwrap_or(false);
    let top = fields.integer("top_logprobs", 0, 20)?;
    match (wanted, top) {
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, None) => Ok(None),
        (false, Some(_)) => Err(ApiError::invalid_value(
            "top_logprobs",
            "'top_logprobs' is allowed only when 'logprobs' is true.",
        )),
    }
}

/// `{"token id": bias}`; whether the model has such a token is for the engine to say.
fn parse_logit_bias(value: Option<Value>) -> Result<Vec<(u32, f32)>, ApiError> {
    let wrong = || {
        ApiError::invalid_value(
            "logit_bias",
            "'logit_bias' must be an object of token ids and numbers between -100 and 100.",
        )
    };
    let map = match value {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(wrong()),
    };
    map.iter()
        .map(|(id, bias)| {
            let bias = bias.as_f64().filter(|b| (-100.0..=100.0).contains(b));
            let id = id.parse().ok();
            id.zip(bias.map(|b| b as f32)).ok_or_else(wrong)
        })
        .collect()
}

fn parse_stop(value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let wrong = || {
        ApiError::invalid_value(
            "stop",
            "'stop' must be a string or an array of up to 4 strings, none empty.",
        )
    };
    let list = match value {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => list
            .into_iter()
            .map(|value| {
                if let Value::String(text) = value {
                    Ok(text)
                } else {
                    Err(wrong())
                }
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong()),
    };
    if list.len() > 4 || list.iter().any(String::is_empty) {
        return Err(wrong());
    }
    Ok(list)
}

pub(crate) fn parse_stream_options(value: Option<Value>, stream: bool) -> Result<bool, ApiError> {
    let Some(value) = value else { return Ok(false) };
    if !stream {
        let message = "'stream_options' is allowed only when 'stream' is true.";
        return Err(ApiError::invalid_value("stream_options", message));
    }
    let Value::Object(options) = value else {
        return Err(ApiError::invalid_value(
            "stream_options",
            "'stream_options' must be an object.",
        ));
    };
    match options.get("include_usage") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(wanted)) => Ok(*wanted),
        Some(_) => {
            let param = "stream_options.include_usage";
            Err(ApiError::invalid_value(
                param,
                "'include_usage' must be true or false.",
            ))
        }
    }
}

/// Refuses what would change the meaning of the answer; lets the neutral value of each pass.
fn refuse_unsupported(fields: &mut Fields) -> Result<(), ApiError> {
    let is_empty = |value: &Value| {
        value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty)
    };
    let is_text_only = |value: &Value| *value == serde_json::json!(["text"]);
    let is_no_tool = |value: &Value| matches!(value.as_str(), Some("none" | "auto"));
    let never = |_: &Value| false;

    type Neutral<'a> = &'a dyn Fn(&Value) -> bool;
    let table: [(&str, Neutral<'_>, &str); 8] = [
        ("tools", &is_empty, "Tools are not supported."),
        (
            "tool_choice",
            &is_no_tool,
            "Tools are not supported; only 'none' and 'auto' are accepted.",
        ),
        ("functions", &is_empty, "Functions are not supported."),
        (
            "function_call",
            &is_no_tool,
            "Functions are not supported; only 'none' and 'auto' are accepted.",
        ),
        (
            "modalities",
            &is_text_only,
            "Only the modality 'text' is supported.",
        ),
        ("audio", &never, "Audio output is not supported here."),
        (
            "web_search_options",
            &never,
            "Web search is not supported; this server reaches no network.",
        ),
        ("moderation", &never, "Moderation is not supported."),
    ];
    for (name, neutral, message) in table {
        if let Some(value) = fields.take(name)
            && !neutral(&value)
        {
            return Err(ApiError::unsupported(name, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(extra: Value) -> Result<ChatRequest, ApiError> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        for (key, value) in extra.as_object().unwrap() {
            body[key] = value.clone();
        }
        ChatRequest::parse(body.to_string().as_bytes())
    }

    fn code_and_param(extra: Value) -> (String, String) {
        let error = with(extra).unwrap_err();
        assert_eq!(error.status, 400);
        (
            error.error.code.unwrap(),
            error.error.param.unwrap_or_default(),
        )
    }

    #[test]
    fn a_plain_request() {
        let request = with(json!({})).unwrap();
        assert_eq!(
            (request.n, request.stream, request.include_usage),
            (1, false, false)
        );
        assert_eq!(request.sampling, Sampling::default());
        assert_eq!(serde_json::to_value(&request.sampling).unwrap(), json!({}));
    }

    #[test]
    fn every_honoured_field() {
        let request = with(json!({
            "max_tokens": 9, "max_completion_tokens": 7, "temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.1,
            "repeat_penalty": 1.25, "presence_penalty": -2, "frequency_penalty": 2, "seed": -1, "stop": "END",
            "n": 4, "stream": true, "stream_options": {"include_usage": true, "include_obfuscation": false},
        }))
        .unwrap();
        assert_eq!(
            serde_json::to_value(&request.sampling).unwrap(),
            json!({
                "temperature": 0.0, "top_p": 0.5, "top_k": 3, "min_p": 0.1_f32, "repeat_penalty": 1.25,
                "presence_penalty": -2.0, "frequency_penalty": 2.0, "seed": u64::MAX, "max_tokens": 7, "stop": ["END"],
            })
        );
        assert_eq!(
            (request.n, request.stream, request.include_usage),
            (4, true, true)
        );
        assert_eq!(
            request.sampling_of(2, 5).seed,
            Some(1),
            "seed + index wraps"
        );
    }

    #[test]
    fn log_probabilities_and_bias() {
        let request = with(json!({"logprobs": true, "logit_bias": {"7": -100, "3": 1.5}})).unwrap();
        assert_eq!(request.sampling.top_logprobs, Some(0));
        assert_eq!(request.sampling.logit_bias, [(7, -100.0), (3, 1.5)]);
        let request = with(
            json!({"logprobs": true, "top_logprobs": 20, "context_shift": true, "draft_max": 8}),
        )
        .unwrap();
        assert_eq!(
            serde_json::to_value(&request.sampling).unwrap(),
            json!({"top_logprobs": 20, "context_shift": true, "draft_max": 8})
        );
        let more = json!({"logprobs": true, "top_logprobs": 21});
        assert_eq!(code_and_param(more).1, "top_logprobs");
    }

    #[test]
    fn content_parts_and_developer() {
        let body = json!({"model": "m", "messages": [
            {"role": "developer", "content": "a"},
            {"role": "user", "name": "x", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
        ]});
        let request = ChatRequest::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(request.messages[0].role, "system");
        assert_eq!(request.messages[1].content, "bc");
    }

    #[test]
    fn neutral_values_pass() {
        with(json!({
            "tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "logprobs": false,
            "logit_bias": {}, "modalities": ["text"], "user": "u", "metadata": {"a": "b"}, "store": false,
            "top_logprobs": null, "functions": null, "service_tier": "auto",
        }))
        .unwrap();
    }

    #[test]
    fn what_changes_the_meaning_is_refused() {
        for (name, value) in [
            (
                "tools",
                json!([{"type": "function", "function": {"name": "f"}}]),
            ),
            ("tool_choice", json!("required")),
            ("audio", json!({"voice": "alloy"})),
            ("modalities", json!(["text", "audio"])),
        ] {
            assert_eq!(
                code_and_param(json!({name: value})),
                ("unsupported_parameter".into(), name.into())
            );
        }
        assert_eq!(
            code_and_param(json!({"temprature": 1})).0,
            "unknown_parameter"
        );
    }

    #[test]
    fn wrong_values_name_their_field() {
        for (name, value) in [
            ("temperature", json!(2.5)),
            ("temperature", json!("hot")),
            ("top_p", json!(-0.1)),
            ("max_tokens", json!(0)),
            ("max_tokens", json!(1.5)),
            ("n", json!(5)),
            ("n", json!(0)),
            ("seed", json!(0.5)),
            ("stop", json!(["a", "b", "c", "d", "e"])),
            ("stop", json!([""])),
            ("stop", json!(3)),
            ("logprobs", json!(2)),
            ("top_logprobs", json!(2)),
            ("logit_bias", json!([1])),
            ("logit_bias", json!({"x": 1})),
            ("logit_bias", json!({"1": 101})),
            ("draft_max", json!(16)),
            ("lookup_ngram", json!(0)),
            ("context_shift", json!(1)),
            ("stream", json!("yes")),
            ("stream_options", json!({"include_usage": true})),
            ("messages", json!([])),
            ("messages", json!("hi")),
            ("messages[0]", json!([3])),
            (
                "messages[0].role",
                json!([{"role": "robot", "content": ""}]),
            ),
            (
                "messages[0].content",
                json!([{"role": "user", "content": 3}]),
            ),
        ] {
            let key = name.split('[').next().unwrap();
            assert_eq!(
                code_and_param(json!({key: value})),
                ("invalid_value".into(), name.into())
            );
        }
        let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]);
        assert_eq!(
            code_and_param(json!({"messages": image})).0,
            "unsupported_parameter"
        );
        assert_eq!(
            code_and_param(json!({"messages": null})).0,
            "missing_required_parameter"
        );
        let no_content = json!([{"role": "user"}]);
        assert_eq!(
            code_and_param(json!({"messages": no_content})).1,
            "messages[0].content"
        );
    }

    #[test]
    fn json_faults_are_placed_but_not_quoted() {
        let error = ChatRequest::parse(b"{\"model\": \"secret").unwrap_err();
        assert_eq!(
            (error.status, error.error.code.as_deref()),
            (400, Some("invalid_json"))
        );
        assert!(!error.error.message.contains("secret"));
        assert_eq!(ChatRequest::parse(b"[]").unwrap_err().status, 400);
        let deep = "[".repeat(100_000);
        assert_eq!(ChatRequest::parse(deep.as_bytes()).unwrap_err().status, 400);
        assert_eq!(
            ChatRequest::parse(b"{\"messages\":[]}")
                .unwrap_err()
                .error
                .param
                .as_deref(),
            Some("model")
        );
    }
}
