//! How a model's own chat template surrounds what people say, found by asking the template.
//!
//! A few dialogues of sentinel texts are rendered, and what stands between the sentinels is read off:
//!
//! ```text
//! [user U, assistant A]           ->  start open_user U close open_assistant A close
//! [user U, assistant A, user U]   ->  ... A close open_user U ...
//! [system S, user U]              ->  open_system S close open_user U ...
//! ```

use anyhow::{Context, Result, ensure};
use meetara_engine::model::Model;
use meetara_engine::template::{ChatTemplate, Message};
use meetara_engine::tokenizer::{Special, Tokenizer};

use super::encode::{ChatFormat, TextEncoder};

/// Sentinels that no template contains.
const S: &str = "\u{e000}system\u{e001}";
const U: &str = "\u{e000}user\u{e001}";
const A: &str = "\u{e000}assistant\u{e001}";

/// A model's tokenizer for data preparation.
#[derive(Clone)]
pub struct ModelEncoder(pub std::sync::Arc<Model>);

impl TextEncoder for ModelEncoder {
    fn encode(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        ids.extend(self.0.tokenizer().encode(text, Special::Text)?);
        Ok(())
    }
}

/// Reads the format off a model's template.
///
/// # Errors
/// When the model has no template, or one whose turns are not simply prefixed and closed.
pub fn chat_format(model: &Model) -> Result<ChatFormat> {
    let template = model
        .chat_template()
        .context("this base has no chat template; use one made for chat")?;
    let surroundings = Surroundings::read(template)?;
    let tokenizer = model.tokenizer();
    let ids = |text: &str| -> Result<Vec<u32>> { Ok(tokenizer.encode(text, Special::Parse)?) };
    let (close, after) = split_close(tokenizer, ids(&surroundings.close)?);
    let mut start: Vec<u32> = tokenizer
        .bos()
        .filter(|_| tokenizer.add_bos())
        .into_iter()
        .collect();
    start.extend(ids(&surroundings.start)?);
    Ok(ChatFormat {
        start,
        open: [
            ids(&surroundings.open_system)?,
            ids(&surroundings.open_user)?,
            ids(&surroundings.open_assistant)?,
        ],
        close,
        after,
    })
}

/// The learnt part of a turn's end goes up to the token that ends generation.
fn split_close(tokenizer: &Tokenizer, mut close: Vec<u32>) -> (Vec<u32>, Vec<u32>) {
    let end = close
        .iter()
        .position(|id| tokenizer.is_end_of_generation(*id))
        .map_or(close.len(), |at| at + 1);
    let after = close.split_off(end);
    (close, after)
}

/// The texts around turns.
struct Surroundings {
    start: String,
    open_system: String,
    open_user: String,
    open_assistant: String,
    close: String,
}

impl Surroundings {
    fn read(template: &ChatTemplate) -> Result<Self> {
        let user = || Message::new("user", U);
        let assistant = || Message::new("assistant", A);
        let odd = "this base's chat template does not simply open and close its turns";

        let two = template.render(&[user(), assistant()], false)?;
        let (prefix, rest) = two.split_once(U).context(odd)?;
        let (between, close) = rest.split_once(A).context(odd)?;
        let three = template.render(&[user(), assistant(), user()], false)?;
        let (_, tail) = three.split_once(A).context(odd)?;
        let (reopen, _) = tail.split_once(U).context(odd)?;
        let open_user = reopen.strip_prefix(close).context(odd)?;
        let open_assistant = between.strip_prefix(close).context(odd)?;
        let start = prefix.strip_suffix(open_user).context(odd)?;
        let with_system = template.render(&[Message::new("system", S), user()], false)?;
        let open_system = with_system
            .split_once(S)
            .map(|(before, _)| before)
            .context(odd)?;

        let replies = template.render(&[user()], true)?;
        ensure!(replies.ends_with(open_assistant), odd);
        Ok(Self {
            start: start.into(),
            open_system: open_system.into(),
            open_user: open_user.into(),
            open_assistant: open_assistant.into(),
            close: close.into(),
        })
    }
}
