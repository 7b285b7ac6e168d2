//! Bits per byte of the assistant's turns in many chats, computed by the runtime's own engine.

use std::sync::Arc;

use anyhow::Result;
use meetara_engine::eval::{Bits, assistant_bits};
use meetara_engine::generate::Session;
use meetara_engine::model::Model;
use meetara_engine::template::Message;
use rayon::prelude::*;

/// Measures `model` on chats; threads share the work, the result does not depend on their number.
///
/// # Errors
/// When the model has no chat template, or one that cannot be scored.
pub fn bits_per_byte(model: &Arc<Model>, chats: &[Vec<Message>]) -> Result<Bits> {
    let parts: Vec<Bits> = chats
        .par_iter()
        .map_init(
            || Session::new(model.clone(), None),
            |session, chat| {
                let session = session
                    .as_mut()
                    .map_err(|error| anyhow::anyhow!("{error}"))?;
                Ok(assistant_bits(session, chat)?)
            },
        )
        .collect::<Result<_>>()?;
    let mut total = Bits::default();
    parts.into_iter().for_each(|part| total += part);
    Ok(total)
}
