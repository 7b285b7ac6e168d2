//! One message of a conversation: role, and content as a string or as text parts.

use crate::chat::Message;
use crate::error::ApiError;
use serde_json::{Map, Value};

/// Parses `messages`: at least one, each with a role that the chat templates know.
pub(crate) fn parse_messages(value: Option<Value>) -> Result<Vec<Message>, ApiError> {
    let list = match value {
        None => return Err(ApiError::missing("messages")),
        Some(Value::Array(list)) => list,
        Some(_) => {
            return Err(ApiError::invalid_value(
                "messages",
                "'messages' must be an array.",
            ));
        }
    };
    if list.is_empty() {
        return Err(ApiError::invalid_value(
            "messages",
            "'messages' must hold at least one message.",
        ));
    }
    list.into_iter()
        .enumerate()
        .map(|(index, value)| parse_message(index, value))
        .collect()
}

fn parse_message(index: usize, value: Value) -> Result<Message, ApiError> {
    let at = |field: &str| format!("messages[{index}]{field}");
    let Value::Object(mut message) = value else {
        return Err(ApiError::invalid_value(
            &at(""),
            "A message must be an object.",
        ));
    };
    let role = match message.remove("role") {
        Some(Value::String(role)) => role,
        Some(_) => {
            return Err(ApiError::invalid_value(
                &at(".role"),
                "'role' must be a string.",
            ));
        }
        None => return Err(ApiError::missing(&at(".role"))),
    };
    let role = match role.as_str() {
        "system" | "developer" => "system",
        "user" => "user",
        "assistant" => "assistant",
        "tool" | "function" => {
            return Err(ApiError::unsupported(
                &at(".role"),
                "Tools are not supported; leave out tool messages.",
            ));
        }
        _ => {
            let message = "'role' must be one of system, developer, user, assistant.";
            return Err(ApiError::invalid_value(&at(".role"), message));
        }
    };
    for name in ["tool_calls", "function_call", "audio"] {
        if message
            .get(name)
            .is_some_and(|value| !value.is_null() && value.as_array().is_none_or(|a| !a.is_empty()))
        {
            let field = at(&format!(".{name}"));
            return Err(ApiError::unsupported(
                &field,
                format!("'{name}' in a message is not supported."),
            ));
        }
    }
    let content = parse_content(&at(".content"), message.remove("content"))?;
    Ok(Message {
        role: role.to_owned(),
        content,
    })
}

/// A string, or an array of `{"type": "text", "text": ...}` parts which are joined.
fn parse_content(param: &str, value: Option<Value>) -> Result<String, ApiError> {
    match value {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            let mut text = String::new();
            for part in &parts {
                text.push_str(text_of_part(param, part.as_object())?);
            }
            Ok(text)
        }
        None | Some(Value::Null) => Err(ApiError::missing(param)),
        Some(_) => Err(ApiError::invalid_value(
            param,
            "'content' must be a string or an array of text parts.",
        )),
    }
}

fn text_of_part<'a>(
    param: &str,
    part: Option<&'a Map<String, Value>>,
) -> Result<&'a str, ApiError> {
    let kind = part
        .and_then(|part| part.get("type"))
        .and_then(Value::as_str);
    match (kind, part) {
        (Some("text"), Some(part)) => part.get("text").and_then(Value::as_str).ok_or_else(|| {
            ApiError::invalid_value(param, "A text part must have a string 'text'.")
        }),
        (Some("refusal" | "image_url" | "input_audio" | "file"), _) => Err(ApiError::unsupported(
            param,
            "This server reads text only; send parts of type 'text'.",
        )),
        _ => Err(ApiError::invalid_value(
            param,
            "A content part must be an object of type 'text'.",
        )),
    }
}
