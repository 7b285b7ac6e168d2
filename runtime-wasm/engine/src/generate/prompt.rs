//! From chat messages to the tokens of a prompt.
//!
//! A template writes its markers as text (`<|end|>`), and the tokenizer turns
//! that text into control tokens. What a user wrote must not: a message that
//! contains a marker would otherwise end its own turn and begin another. So a
//! message that contains one is rendered as a stand-in, and its words are put
//! back as plain text:
//!
//! ```text
//! template     <|user|> STAND-IN <|end|> <|assistant|>
//! encoded      markers   text    markers
//! ```
//!
//! All other messages, nearly all, are encoded with the text around them.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::template::Message;
use crate::tokenizer::{Special, Tokenizer};

/// The tokens of `messages` in the model's template, ready for the
/// assistant's reply, the first token that the model expects included.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) without a message,
/// [`ErrorKind::Template`](crate::ErrorKind::Template) when the model has no template or it fails.
pub fn chat_tokens(model: &Model, messages: &[Message]) -> Result<Vec<u32>> {
    if messages.is_empty() {
        return Err(Error::invalid_request(
            "the list of messages is empty, there is nothing to reply to",
        ));
    }
    for (index, Message { role, .. }) in messages.iter().enumerate() {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if role.is_empty() || !role.bytes().all(plain) {
            return Err(Error::invalid_request(format!(
                "the role of message {index} must be one word, such as system, user or assistant"
            )));
        }
    }
    let template = model.chat_template().ok_or_else(|| {
        Error::template(
            "the model has no chat template (tokenizer.chat_template); send plain text, or use a chat model",
        )
    })?;
    let tokenizer = model.tokenizer();
    let (messages, hidden) = hide_markers(tokenizer, messages)?;
    let text = template.render(&messages, true)?;
    let mut tokens = first_token(tokenizer);
    append(tokenizer, &mut tokens, &text, &hidden)?;
    Ok(tokens)
}

/// The tokens of `text`, the first token that the model expects included.
/// Markers in the text become control tokens.
///
/// # Errors
/// Those of the tokenizer.
pub fn text_tokens(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let mut tokens = first_token(tokenizer);
    append(tokenizer, &mut tokens, text, &[])?;
    Ok(tokens)
}

/// The beginning-of-text token, where the model wants one.
pub(crate) fn first_token(tokenizer: &Tokenizer) -> Vec<u32> {
    tokenizer
        .bos()
        .filter(|_| tokenizer.add_bos())
        .into_iter()
        .collect()
}

/// A message whose text must stay text: what stands for it, and its words.
pub(crate) struct Hidden<'a> {
    stand_in: String,
    content: &'a str,
}

/// `messages` with stand-ins for those that contain markers.
pub(crate) fn hide_markers<'a>(
    tokenizer: &Tokenizer,
    messages: &'a [Message],
) -> Result<(Cow<'a, [Message]>, Vec<Hidden<'a>>)> {
    let mut changed = Cow::Borrowed(messages);
    let mut hidden = Vec::new();
    for (index, Message { content, .. }) in messages.iter().enumerate() {
        if tokenizer.encode(content, Special::Parse)? == tokenizer.encode(content, Special::Text)? {
            continue;
        }
        // A text that no message contains, so that it is found where it was put only.
        let mut stand_in = format!("[message {index}]");
        while messages
            .iter()
            .any(|message| message.content.contains(&stand_in))
        {
            stand_in = format!("[{stand_in}]");
        }
        changed.to_mut()[index].content.clone_from(&stand_in);
        hidden.push(Hidden { stand_in, content });
    }
    Ok((changed, hidden))
}

/// Appends the tokens of `text`, in which the stand-ins of `hidden` are
/// replaced by their words as plain text.
pub(crate) fn append(
    tokenizer: &Tokenizer,
    tokens: &mut Vec<u32>,
    text: &str,
    hidden: &[Hidden<'_>],
) -> Result<()> {
    let mut rest = text;
    loop {
        let found = hidden
            .iter()
            .filter_map(|hidden| Some((rest.find(&hidden.stand_in)?, hidden)))
            .min_by_key(|(at, _)| *at);
        let end = found.as_ref().map_or(rest.len(), |(at, _)| *at);
        let mut piece = tokenizer.encode(&rest[..end], Special::Parse)?;
        // Some templates write the first token themselves; it must not come twice.
        if tokens.len() == 1 && rest.len() == text.len() && piece.first() == tokens.first() {
            tokens.clear();
        }
        tokens.append(&mut piece);
        let Some((at, hidden)) = found else {
            return Ok(());
        };
        tokens.extend(tokenizer.encode(hidden.content, Special::Text)?);
        rest = &rest[at + hidden.stand_in.len()..];
    }
}
