//! What a text says beside its words: feelings, domain, danger. An encoder with the heads of `models/emotion`.

use meetara_engine::emotion::{EmotionState, Empathy, Feeling, system_line};
use meetara_engine::encoder::Encoder;
use meetara_engine::reader::{Feelings, Reader};
use meetara_engine::safety::{self, Category};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::buffer::ModelBuffer;
use crate::encoder::info;
use crate::error::{JsResult, to_js, to_value};

/// A turn as [`TextReader::follow`] takes it: seven scores, and how many words it has.
const TURN_LEN: usize = 8;

/// A text model in memory, with the rules and tables that are compiled in.
#[wasm_bindgen]
pub struct TextReader {
    inner: Reader,
}

#[wasm_bindgen]
impl ModelBuffer {
    /// Turns the filled bytes into a reader; they stay where they are.
    ///
    /// # Errors
    /// As `into_encoder`, and `unsupported_model` for an encoder without the heads that a reader needs.
    pub fn into_reader(self) -> JsResult<TextReader> {
        let encoder = Encoder::load(self.bytes).map_err(to_js)?;
        let inner = Reader::new(encoder).map_err(to_js)?;
        Ok(TextReader { inner })
    }
}

#[wasm_bindgen]
impl TextReader {
    /// What the file says of itself, as `Encoder.info` has it.
    ///
    /// # Errors
    /// None in practice.
    pub fn info(&self) -> JsResult<JsValue> {
        info(self.inner.encoder())
    }

    /// Reads the last of somebody's turns, oldest first: `{ text, domain, safety, read }`, see the engine's `Reading`.
    ///
    /// # Errors
    /// `out_of_memory`.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "wasm-bindgen hands over a list of strings by value only"
    )]
    pub fn read(&self, turns: Vec<String>) -> JsResult<JsValue> {
        to_value(&self.inner.read_turns(&turns).map_err(to_js)?)
    }
}

/// How somebody feels after the last of several turns, oldest first: see the engine's `Feelings`. A turn is eight
/// numbers, the scores in the order of the classes' names and how many words it has; scores that are no numbers stand for
/// a turn that could not be read.
///
/// # Errors
/// None in practice.
#[wasm_bindgen]
pub fn follow_feelings(turns: &[f32]) -> JsResult<JsValue> {
    to_value(&followed(turns).map_or_else(Feelings::abstained, Feelings::from))
}

/// What a model is told of it before it replies, at a domain's level of empathy (`low`, `medium`, `high`).
#[wasm_bindgen]
#[must_use]
pub fn feelings_line(turns: &[f32], empathy_level: &str) -> Option<String> {
    system_line(&followed(turns)?, Empathy::from_name(empathy_level)?)
}

/// `None` when the last turn could not be read.
fn followed(turns: &[f32]) -> Option<Feeling> {
    let mut state = EmotionState::new();
    let mut last = None;
    for turn in turns.chunks_exact(TURN_LEN) {
        last = match *turn {
            [a, b, c, d, e, f, g, words] if !a.is_nan() => {
                Some(state.observe([a, b, c, d, e, f, g], words as usize))
            }
            _ => None,
        };
    }
    last
}

/// What is said, and whom it names, when somebody may need help at once: `{ text, region, checked }`; `null` for a
/// category that calls for none. `region` is a country's code, such as `DE`.
///
/// # Errors
/// None in practice.
#[wasm_bindgen]
#[allow(
    clippy::needless_pass_by_value,
    reason = "wasm-bindgen hands over an optional string by value only"
)]
pub fn help(category: &str, region: Option<String>) -> JsResult<JsValue> {
    let category = Category::ALL.into_iter().find(|c| c.name() == category);
    let help = category.and_then(|category| safety::help(category, region.as_deref()));
    to_value(&help)
}

/// Codes of the countries whose help lines are known.
#[wasm_bindgen]
#[must_use]
pub fn help_regions() -> Vec<String> {
    safety::regions().map(str::to_owned).collect()
}
