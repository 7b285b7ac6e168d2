//! Replies of `POST /v1/chat/completions` and `/v1/completions`: one body, or a stream of
//! server-sent events.
//!
//! A streamed answer is, per choice, one event with the role, events with text, one with the
//! finish reason; then, if asked for, one with the token counts and no choice; then `[DONE]`.
//! The first event has the field `meetara`, if there is one.
//! All events of a reply share id and creation time. The events of a text have no role.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::meetara::Meetara;

/// The event that ends every stream which did not fail.
pub const SSE_DONE: &str = "data: [DONE]\n\n";

/// Why an answer ended. Serialises as the engine's `Finish` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended it, or a stop text did.
    Stop,
    /// The token limit or the context's end was reached.
    Length,
    /// The model was not asked: the answer is a help text.
    #[serde(rename = "content_filter")]
    ContentFilter,
}

/// Token counts of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the rendered conversation.
    pub prompt_tokens: u32,
    /// Tokens generated, over all choices.
    pub completion_tokens: u32,
    /// Their sum.
    pub total_tokens: u32,
    /// What of the prompt did not have to be evaluated.
    pub prompt_tokens_details: PromptTokensDetails,
    /// What of the completion was guessed.
    #[serde(default)]
    pub completion_tokens_details: CompletionTokensDetails,
    /// Messages that were dropped for lack of room, when the request allows that. An extension.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped_messages: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Part of [`Usage`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionTokensDetails {
    /// Tokens that were guessed rightly.
    pub accepted_prediction_tokens: u32,
    /// Tokens that were guessed wrongly; they are no part of the completion.
    pub rejected_prediction_tokens: u32,
}

/// Part of [`Usage`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTokensDetails {
    /// Tokens found in the KV cache.
    pub cached_tokens: u32,
}

impl Usage {
    /// Counts of one answer, as the engine gives them.
    pub fn new(prompt_tokens: u32, completion_tokens: u32, cached_tokens: u32) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
            prompt_tokens_details: PromptTokensDetails { cached_tokens },
            ..Self::default()
        }
    }

    /// With what the engine says of guesses and of a shortened conversation.
    #[must_use]
    pub fn with_details(mut self, drafted: u32, accepted: u32, dropped_messages: u32) -> Self {
        self.completion_tokens_details = CompletionTokensDetails {
            accepted_prediction_tokens: accepted,
            rejected_prediction_tokens: drafted.saturating_sub(accepted),
        };
        self.dropped_messages = dropped_messages;
        self
    }

    /// Adds a further answer to the same prompt: only its completion counts.
    pub fn add_choice(&mut self, other: &Usage) {
        self.completion_tokens = self
            .completion_tokens
            .saturating_add(other.completion_tokens);
        self.total_tokens = self.prompt_tokens.saturating_add(self.completion_tokens);
        let (sum, more) = (
            &mut self.completion_tokens_details,
            &other.completion_tokens_details,
        );
        sum.accepted_prediction_tokens += more.accepted_prediction_tokens;
        sum.rejected_prediction_tokens += more.rejected_prediction_tokens;
        self.dropped_messages = self.dropped_messages.max(other.dropped_messages);
    }
}

/// A token and how likely the model found it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopLogprob {
    /// Its text; what is no whole character is shown as U+FFFD, see `bytes`.
    pub token: String,
    /// Natural logarithm of its probability. As f64, so that a body and an event show the same digits.
    pub logprob: f64,
    /// Its UTF-8 bytes.
    pub bytes: Vec<u8>,
}

impl TopLogprob {
    /// The token that stands for `bytes`.
    pub fn new(bytes: Vec<u8>, logprob: f32) -> Self {
        Self {
            token: String::from_utf8_lossy(&bytes).into_owned(),
            logprob: f64::from(logprob),
            bytes,
        }
    }
}

/// A token of the answer, beside the likeliest ones at its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token of the answer.
    #[serde(flatten)]
    pub token: TopLogprob,
    /// The likeliest, in falling order.
    pub top_logprobs: Vec<TopLogprob>,
}

/// Log-probabilities of an answer, or of a piece of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChoiceLogprobs {
    /// One for each token.
    pub content: Vec<TokenLogprob>,
    /// Always `null`.
    pub refusal: Option<Value>,
}

impl ChoiceLogprobs {
    /// Those of `content`.
    pub fn new(content: Vec<TokenLogprob>) -> Self {
        Self {
            content,
            refusal: None,
        }
    }
}

/// The assistant's message in a whole reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoiceMessage {
    /// Always `assistant`.
    pub role: String,
    /// The answer.
    pub content: String,
    /// Always `null`.
    pub refusal: Option<String>,
    /// Always empty.
    pub annotations: Vec<Value>,
}

/// One answer in a whole reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// 0 to n - 1.
    pub index: u32,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// `null` unless asked for.
    pub logprobs: Option<ChoiceLogprobs>,
    /// The answer.
    pub message: ChoiceMessage,
}

impl Choice {
    /// An answer.
    pub fn new(index: u32, content: String, finish_reason: FinishReason) -> Self {
        let message = ChoiceMessage {
            role: "assistant".to_owned(),
            content,
            refusal: None,
            annotations: Vec::new(),
        };
        Self {
            index,
            finish_reason,
            logprobs: None,
            message,
        }
    }

    /// With log-probabilities.
    #[must_use]
    pub fn with_logprobs(mut self, logprobs: Option<ChoiceLogprobs>) -> Self {
        self.logprobs = logprobs;
        self
    }
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatCompletion {
    /// `chatcmpl-` and 32 hexadecimal digits.
    pub id: String,
    /// Always `chat.completion`.
    pub object: String,
    /// Unix time in seconds.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// Which build and weights answered: same fingerprint and seed, same answer.
    pub system_fingerprint: String,
    /// The answers.
    pub choices: Vec<Choice>,
    /// Token counts.
    pub usage: Usage,
    /// What was read of the conversation. An extension.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub meetara: Option<Value>,
}

/// What all events, or the one body, of a reply have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// `chatcmpl-` and 32 hexadecimal digits.
    pub id: String,
    /// Unix time in seconds.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// See [`ChatCompletion::system_fingerprint`].
    pub system_fingerprint: String,
    /// Streams only: whether events carry a `usage` key.
    pub include_usage: bool,
    /// A text, not a chat.
    is_text: bool,
    /// What was read of the conversation, for the one body or the first event.
    meetara: Option<Value>,
}

impl Head {
    /// `random` makes the id; `created` is Unix time in seconds.
    pub fn new(
        random: u128,
        created: u64,
        model: impl Into<String>,
        system_fingerprint: impl Into<String>,
        include_usage: bool,
    ) -> Self {
        Self {
            id: format!("chatcmpl-{random:032x}"),
            created,
            model: model.into(),
            system_fingerprint: system_fingerprint.into(),
            include_usage,
            is_text: false,
            meetara: None,
        }
    }

    /// With what was read of the conversation: a whole reply has it at its top, a stream in its first event.
    #[must_use]
    pub fn with_meetara(mut self, meetara: &Meetara) -> Self {
        self.meetara = serde_json::to_value(meetara).ok();
        self
    }

    /// The same for a reply of `/v1/completions`.
    #[must_use]
    pub fn into_text(mut self) -> Self {
        self.id = self.id.replacen("chatcmpl-", "cmpl-", 1);
        self.is_text = true;
        self
    }

    /// The whole reply of `/v1/completions`.
    pub fn text_completion(self, choices: Vec<Choice>, usage: Usage) -> Value {
        let choices: Vec<Value> = choices
            .into_iter()
            .map(|choice| {
                json!({
                    "text": choice.message.content,
                    "index": choice.index,
                    "logprobs": null,
                    "finish_reason": choice.finish_reason,
                })
            })
            .collect();
        let mut reply = self.event(json!(choices));
        reply["usage"] = json!(usage);
        if let Some(meetara) = self.meetara {
            reply["meetara"] = meetara;
        }
        reply
    }

    /// Whether this is a reply of `/v1/completions`.
    pub fn is_text(&self) -> bool {
        self.is_text
    }

    /// The whole reply.
    pub fn completion(self, choices: Vec<Choice>, usage: Usage) -> ChatCompletion {
        ChatCompletion {
            id: self.id,
            object: "chat.completion".to_owned(),
            created: self.created,
            model: self.model,
            system_fingerprint: self.system_fingerprint,
            choices,
            usage,
            meetara: self.meetara,
        }
    }

    /// First event of a choice; a text has none.
    pub fn sse_role(&self, index: u32) -> String {
        if self.is_text {
            return String::new();
        }
        let delta = json!({"role": "assistant", "content": "", "refusal": null});
        let choice =
            json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null});
        let mut event = self.event(json!([choice]));
        if index == 0
            && let Some(meetara) = &self.meetara
        {
            event["meetara"] = meetara.clone();
        }
        format!("data: {event}\n\n")
    }

    /// An event with a piece of text (complete UTF-8 characters) and, if asked for, the
    /// log-probabilities of the tokens since the last event.
    pub fn sse_text(&self, index: u32, text: &str, logprobs: Option<ChoiceLogprobs>) -> String {
        self.sse_choice(index, json!({"content": text}), logprobs, None)
    }

    /// Last event of a choice.
    pub fn sse_finish(&self, index: u32, reason: FinishReason) -> String {
        self.sse_choice(index, json!({}), None, Some(reason))
    }

    /// The token counts, as an event without choices; nothing unless they were asked for.
    pub fn sse_usage(&self, usage: &Usage) -> String {
        if !self.include_usage {
            return String::new();
        }
        let mut event = self.event(json!([]));
        event["usage"] = json!(usage);
        format!("data: {event}\n\n")
    }

    fn sse_choice(
        &self,
        index: u32,
        delta: Value,
        logprobs: Option<ChoiceLogprobs>,
        reason: Option<FinishReason>,
    ) -> String {
        let choice = if self.is_text {
            let text = delta["content"].as_str().unwrap_or_default();
            json!({"text": text, "index": index, "logprobs": null, "finish_reason": reason})
        } else {
            json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason})
        };
        let event = self.event(json!([choice]));
        format!("data: {event}\n\n")
    }

    fn event(&self, choices: Value) -> Value {
        let mut event = json!({
            "id": self.id,
            "object": if self.is_text { "text_completion" } else { "chat.completion.chunk" },
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
            "choices": choices,
        });
        if self.include_usage {
            event["usage"] = Value::Null;
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(event: &str) -> Value {
        let json = event
            .strip_prefix("data: ")
            .and_then(|rest| rest.strip_suffix("\n\n"))
            .expect("one SSE event");
        assert!(!json.contains('\n'));
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_stream() {
        let head = Head::new(0xab, 7, "m", "fp_1", true);
        let role = payload(&head.sse_role(0));
        assert_eq!(role["id"], "chatcmpl-000000000000000000000000000000ab");
        assert_eq!(role["object"], "chat.completion.chunk");
        assert_eq!(role["choices"][0]["delta"]["role"], "assistant");
        assert!(role.as_object().unwrap().contains_key("usage") && role["usage"].is_null());
        assert_eq!(
            payload(&head.sse_text(1, "a\nb\u{2028}", None))["choices"][0]["delta"]["content"],
            "a\nb\u{2028}"
        );
        let finish = payload(&head.sse_finish(1, FinishReason::Length));
        assert_eq!(
            finish["choices"][0],
            json!({"index": 1, "delta": {}, "logprobs": null, "finish_reason": "length"})
        );
        let usage = payload(&head.sse_usage(&Usage::new(3, 4, 1)));
        assert_eq!(usage["choices"], json!([]));
        assert_eq!(usage["usage"]["total_tokens"], 7);
    }

    #[test]
    fn log_probabilities_have_the_required_keys() {
        let token = |bytes: &[u8]| TopLogprob::new(bytes.to_vec(), -0.5);
        let content = vec![TokenLogprob {
            token: token(&[0xe2, 0x82]),
            top_logprobs: vec![token(b"a")],
        }];
        let head = Head::new(1, 7, "m", "fp_1", false);
        let event = payload(&head.sse_text(0, "", Some(ChoiceLogprobs::new(content))));
        assert_eq!(
            event["choices"][0]["logprobs"],
            json!({"refusal": null, "content": [{
                "token": "\u{fffd}", "logprob": -0.5, "bytes": [0xe2, 0x82],
                "top_logprobs": [{"token": "a", "logprob": -0.5, "bytes": [97]}],
            }]})
        );
    }

    #[test]
    fn a_text_has_its_own_shape() {
        let head = Head::new(0xab, 7, "m", "fp_1", true).into_text();
        assert_eq!(head.sse_role(0), "");
        let event = payload(&head.sse_text(0, "hi", None));
        assert_eq!(event["id"], "cmpl-000000000000000000000000000000ab");
        assert_eq!(event["object"], "text_completion");
        assert_eq!(
            event["choices"][0],
            json!({"text": "hi", "index": 0, "logprobs": null, "finish_reason": null})
        );
        let choice = Choice::new(0, "hi".into(), FinishReason::Stop);
        let whole = head.text_completion(vec![choice], Usage::new(1, 2, 0));
        assert_eq!(whole["choices"][0]["text"], "hi");
        assert_eq!(whole["usage"]["total_tokens"], 3);
    }

    #[test]
    fn no_usage_key_unless_asked_for() {
        let head = Head::new(1, 7, "m", "fp_1", false);
        assert!(
            !payload(&head.sse_role(0))
                .as_object()
                .unwrap()
                .contains_key("usage")
        );
        assert_eq!(head.sse_usage(&Usage::default()), "");
    }

    #[test]
    fn a_whole_reply_has_the_required_keys() {
        let mut usage = Usage::new(3, 4, 0);
        usage.add_choice(&Usage::new(3, 6, 3));
        let reply = Head::new(1, 7, "m", "fp", false)
            .completion(vec![Choice::new(0, "hi".into(), FinishReason::Stop)], usage);
        let value = serde_json::to_value(reply).unwrap();
        let choice = value["choices"][0].as_object().unwrap();
        assert!(
            ["finish_reason", "index", "message", "logprobs"]
                .iter()
                .all(|key| choice.contains_key(*key))
        );
        assert!(
            choice["message"]
                .as_object()
                .unwrap()
                .contains_key("refusal")
        );
        assert_eq!(value["usage"]["completion_tokens"], 10);
        assert_eq!(value["usage"]["total_tokens"], 13);
    }
}
