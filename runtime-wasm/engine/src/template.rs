//! The chat template of a model: messages to the text of a prompt.
//!
//! Templates are Jinja, written for Python's `transformers`. They run in
//! `minijinja`, set up as there (`jinja`), with `{% generation %}` as a block
//! without effect. The variables are `messages`, `add_generation_prompt`, `bos_token`,
//! `eos_token`, and `tools` and `documents`, which are none. `strftime_now` is
//! not defined, as the engine has no clock: templates that ask whether it is
//! defined take their other way, others end in an error that says so.
//!
//! Templates come with strangers' files. Fuel bounds their steps, one limit the
//! length of their tags (`tags`), another that of their output, and one how deep values are nested
//! (`bounded`). What is not bounded is the memory of a text that
//! a template doubles again and again: the sandbox around the engine ends that.

mod bounded;
pub(crate) mod case;
mod jinja;
mod python;
mod tags;

use std::io;

use meetara_format::Gguf;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind as Kind, context};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// The key of the template in a GGUF file.
const KEY: &str = "tokenizer.chat_template";
/// The name of the one template of the environment. No extension that would turn escaping on.
const NAME: &str = "chat";
/// Instructions for a template, and for each message more. The longest
/// templates in use take a few thousand and some hundreds.
const FUEL: u64 = 200_000;
const FUEL_PER_MESSAGE: u64 = 10_000;
/// The longest output: this, and so many times what the messages hold.
const OUTPUT_BYTES: usize = 1 << 20;
const OUTPUT_PER_CONTENT: usize = 4;
/// Whose messages they are. A template writes the role into the prompt, some between the
/// brackets of a marker: a role of `end` would become `<|end|>`.
const ROLES: [&str; 7] = [
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "function",
    "ipython",
];

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `developer`, `user`, `assistant`, `tool`, `function` or `ipython`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// A chat template, parsed.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: Option<String>,
    eos: Option<String>,
}

impl ChatTemplate {
    /// The template in `gguf`, or `None` when it has none.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidModel`](crate::ErrorKind::InvalidModel) when the key is not a string;
    /// [`ErrorKind::Template`](crate::ErrorKind::Template) when it cannot be parsed, with the line.
    pub fn from_gguf(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let source = gguf
            .get_str(KEY)
            .map_err(|error| Error::invalid_model(error.to_string()))?;
        source
            .map(|source| Self::new(source, tokenizer))
            .transpose()
    }

    /// The template with the text `source`, for the tokens of `tokenizer`.
    ///
    /// # Errors
    /// [`ErrorKind::Template`](crate::ErrorKind::Template) when it cannot be parsed, with the line.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let source = tags::prepare(source)
            .map_err(|why| Error::template(format!("the chat template cannot be run: {why}")))?;
        let mut environment = jinja::environment();
        environment
            .add_template_owned(NAME, source.clone())
            .map_err(|error| explain(&error, &source))?;
        let text = |id: Option<u32>| id.map(|id| tokenizer.token_text(id).to_owned());
        Ok(Self {
            environment,
            source,
            bos: text(tokenizer.bos()),
            eos: text(tokenizer.eos()),
        })
    }

    /// The prompt for `messages`; with `add_generation_prompt` it ends where the assistant's answer begins.
    ///
    /// The text of a marker in a message is not told from the template's own markers: who
    /// tokenizes the prompt with [`Special::Parse`](crate::tokenizer::Special::Parse) must keep
    /// such messages apart, as [`generate::prompt`](crate::generate::prompt) does.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) for a role that is not known;
    /// [`ErrorKind::Template`](crate::ErrorKind::Template) when the template refuses the messages, asks for
    /// something that is not there, or takes too many steps.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        if let Some(index) = messages
            .iter()
            .position(|message| !ROLES.contains(&message.role.as_str()))
        {
            return Err(Error::invalid_request(format!(
                "messages[{index}].role is not one of {}",
                ROLES.join(", ")
            )));
        }
        let mut environment = self.environment.clone();
        bounded::install(&mut environment);
        environment.set_fuel(Some(FUEL + FUEL_PER_MESSAGE * messages.len() as u64));
        let content: usize = messages.iter().map(|message| message.content.len()).sum();
        let mut output = Bounded {
            bytes: Vec::new(),
            left: OUTPUT_BYTES.saturating_add(content.saturating_mul(OUTPUT_PER_CONTENT)),
        };
        let variables = context! {
            messages => messages,
            add_generation_prompt => add_generation_prompt,
            tools => Value::from(()),
            documents => Value::from(()),
            ..self.token_variables()
        };
        let template = environment
            .get_template(NAME)
            .map_err(|error| explain(&error, &self.source))?;
        template
            .render_captured_to(variables, &mut output)
            .map_err(|error| explain(&error, &self.source))?;
        String::from_utf8(output.bytes)
            .map_err(|_| Error::internal("the chat template wrote bytes that are no UTF-8"))
    }

    /// `bos_token` and `eos_token`, where the model has them; else they are undefined.
    fn token_variables(&self) -> Value {
        let pairs = [("bos_token", &self.bos), ("eos_token", &self.eos)];
        pairs
            .into_iter()
            .filter_map(|(name, text)| Some((name, Value::from(text.as_deref()?))))
            .collect()
    }
}

/// Collects output up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    left: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        self.left = left;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The engine's error for one of a template. Details that could repeat what a
/// person said are left out: only names and words that the template itself holds stay.
fn explain(error: &minijinja::Error, source: &str) -> Error {
    let place = error
        .line()
        .map_or(String::new(), |line| format!(" (line {line} of {KEY})"));
    let detail = error.detail().unwrap_or_default();
    let what = match error.kind() {
        Kind::BadInclude if !detail.is_empty() && source.contains(detail) => {
            format!("the chat template refuses these messages: {detail}")
        }
        Kind::BadInclude => {
            "the chat template refuses these messages, or includes another template".to_owned()
        }
        Kind::OutOfFuel => {
            "the chat template takes too many steps; it may loop for ever".to_owned()
        }
        Kind::WriteFailure => "the chat template writes far more than the messages hold".to_owned(),
        Kind::UnknownFunction if detail.contains("strftime_now") => {
            "the chat template calls strftime_now, but this runtime has no clock".to_owned()
        }
        kind @ (Kind::SyntaxError
        | Kind::UnknownFunction
        | Kind::UnknownFilter
        | Kind::UnknownTest
        | Kind::UnknownMethod) => {
            format!("the chat template cannot be run: {kind}: {detail}")
        }
        kind => format!("the chat template failed: {kind}"),
    };
    Error::template(format!("{what}{place}"))
}
