//! Replies of `POST /v1/chat/completions`: one body, or a stream of server-sent events.
//!
//! A streamed answer is, per choice, one event with the role, events with text, one with the
//! finish reason; then, if asked for, one with the token counts and no choice; then `[DONE]`.
//! All events of a reply share id and creation time.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

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
        }
    }

    /// Adds a further answer to the same prompt: only its completion counts.
    pub fn add_choice(&mut self, other: &Usage) {
        self.completion_tokens = self
            .completion_tokens
            .saturating_add(other.completion_tokens);
        self.total_tokens = self.prompt_tokens.saturating_add(self.completion_tokens);
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
    /// Always `null`.
    pub logprobs: Option<Value>,
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
}

/// What all events, or the one body, of a reply have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        }
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
        }
    }

    /// First event of a choice.
    pub fn sse_role(&self, index: u32) -> String {
        self.sse_choice(
            index,
            json!({"role": "assistant", "content": "", "refusal": null}),
            None,
        )
    }

    /// An event with a piece of text (complete UTF-8 characters).
    pub fn sse_text(&self, index: u32, text: &str) -> String {
        self.sse_choice(index, json!({"content": text}), None)
    }

    /// Last event of a choice.
    pub fn sse_finish(&self, index: u32, reason: FinishReason) -> String {
        self.sse_choice(index, json!({}), Some(reason))
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

    fn sse_choice(&self, index: u32, delta: Value, reason: Option<FinishReason>) -> String {
        let event = self.event(
            json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": reason}]),
        );
        format!("data: {event}\n\n")
    }

    fn event(&self, choices: Value) -> Value {
        let mut event = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
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
            payload(&head.sse_text(1, "a\nb\u{2028}"))["choices"][0]["delta"]["content"],
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
