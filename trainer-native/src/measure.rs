//! Bits per byte of the assistant's turns, computed by the runtime's own engine.
//!
//! Every token of what the assistant says is scored given all that came before it in the model's own
//! template; markers and the end of a turn are not. The sum of `-log2 p` is divided by the UTF-8 bytes
//! of these turns, so that models with different vocabularies can be compared. A dialogue longer than
//! the context is scored in windows: when one is full, its last half is the next one's history.

use std::sync::Arc;

use anyhow::Result;
use meetara_engine::generate::Session;
use meetara_engine::model::Model;
use meetara_engine::template::Message;
use meetara_engine::tokenizer::Special;
use rayon::prelude::*;

use crate::data::encode::ChatFormat;
use crate::data::template::chat_format;

/// What a measurement came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct BitsPerByte {
    /// Sum of `-log2 p` over the assistant's tokens.
    pub bits: f64,
    /// UTF-8 bytes of the assistant's turns.
    pub bytes: u64,
    /// `bits / bytes`
    pub bits_per_byte: f64,
}

/// A dialogue as tokens; `scored[i]` says whether token `i` is the assistant's own words.
struct Dialogue {
    ids: Vec<u32>,
    scored: Vec<bool>,
    bytes: u64,
}

/// Measures `model` on dialogues; threads share the work, the result does not depend on their number.
pub fn bits_per_byte(model: &Arc<Model>, chats: &[Vec<Message>]) -> Result<BitsPerByte> {
    let format = chat_format(model)?;
    let parts: Vec<(f64, u64)> = chats
        .par_iter()
        .map_init(
            || Session::new(model.clone(), None),
            |session, chat| {
                let session = session
                    .as_mut()
                    .map_err(|error| anyhow::anyhow!("{error}"))?;
                let dialogue = Dialogue::new(model, &format, chat)?;
                Ok((bits(session, &dialogue)?, dialogue.bytes))
            },
        )
        .collect::<Result<_>>()?;
    let bits: f64 = parts.iter().map(|part| part.0).sum();
    let bytes: u64 = parts.iter().map(|part| part.1).sum();
    Ok(BitsPerByte {
        bits,
        bytes,
        bits_per_byte: bits / bytes.max(1) as f64,
    })
}

impl Dialogue {
    fn new(model: &Model, format: &ChatFormat, chat: &[Message]) -> Result<Self> {
        let mut ids = format.start.clone();
        let mut scored = vec![false; ids.len()];
        let mut bytes = 0;
        for message in chat {
            let [system, user, assistant] = &format.open;
            let speaks = message.role == "assistant";
            ids.extend(match message.role.as_str() {
                "assistant" => assistant,
                "system" => system,
                _ => user,
            });
            scored.resize(ids.len(), false);
            ids.extend(model.tokenizer().encode(&message.content, Special::Text)?);
            scored.resize(ids.len(), speaks);
            bytes += if speaks {
                message.content.len() as u64
            } else {
                0
            };
            ids.extend(format.close.iter().chain(&format.after));
            scored.resize(ids.len(), false);
        }
        Ok(Self { ids, scored, bytes })
    }
}

fn bits(session: &mut Session, dialogue: &Dialogue) -> Result<f64> {
    let Some(last) = dialogue.scored.iter().rposition(|scored| *scored) else {
        return Ok(0.0);
    };
    let context = session.context_max() as usize;
    let mut bits = 0.0;
    let (mut from, mut done) = (0, 0);
    while done < last {
        let to = (from + context).min(last);
        session.score(&dialogue.ids[from..to], |row, logits| {
            let target = from + row + 1;
            if target > done && dialogue.scored[target] {
                bits += surprise(logits, dialogue.ids[target] as usize);
            }
        })?;
        done = to;
        from = to.saturating_sub(context / 2);
    }
    Ok(bits)
}

/// `-log2 softmax(logits)[target]`
fn surprise(logits: &[f32], target: usize) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(logit - max).exp())
        .sum();
    (sum.ln() - f64::from(logits[target] - max)) / std::f64::consts::LN_2
}
