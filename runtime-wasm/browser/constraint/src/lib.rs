//! Masks of schemas for browsers: `pkg/dist/constraint`, fetched when a reply is first to follow one.
//!
//! It is a module of its own, with a memory of its own, beside whichever build of the engine runs:
//!
//! ```text
//! engine       model.vocabulary() ──> Vocabulary
//! engine       session.allow(mask) <── constraint.mask()
//! engine       step -> token      ──> constraint.accept(id)
//! ```

use js_sys::Reflect;
use meetara_constraint as constraint;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// The engine's word for a schema that is of no use, which JavaScript finds in `code`.
const CODE: &str = "invalid_constraint";

#[allow(
    clippy::needless_pass_by_value,
    reason = "taken by value so that it fits `map_err`"
)]
fn to_js(error: constraint::Error) -> JsValue {
    let value = js_sys::Error::new(&error.to_string());
    // Setting a property of an object made on the line above cannot fail.
    let _ = Reflect::set(&value, &"code".into(), &CODE.into());
    value.into()
}

/// The tokens of a model.
#[wasm_bindgen]
pub struct Vocabulary(constraint::Vocabulary);

#[wasm_bindgen]
impl Vocabulary {
    /// The tokens that the engine's `Model.vocabulary` gives.
    ///
    /// # Errors
    /// `invalid_constraint` when no token ends a reply.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: &[u8]) -> Result<Vocabulary, JsValue> {
        let vocabulary = constraint::Vocabulary::read(bytes).map_err(to_js)?;
        Ok(Self(vocabulary))
    }

    /// A reply that is to be a JSON value which `schema`, the text of a JSON schema, accepts.
    ///
    /// # Errors
    /// `invalid_constraint`, saying where in the schema.
    pub fn json_schema(&self, schema: &str) -> Result<Constraint, JsValue> {
        let rule = constraint::Rule::JsonSchema(schema);
        let inner = constraint::Constraint::new(&self.0, rule).map_err(to_js)?;
        Ok(Constraint {
            inner,
            tail: Vec::new(),
        })
    }
}

/// One reply.
#[wasm_bindgen]
pub struct Constraint {
    inner: constraint::Constraint,
    /// The character that the reply's last token left unfinished.
    tail: Vec<u8>,
}

#[wasm_bindgen]
impl Constraint {
    /// Bits of the tokens that may come next.
    ///
    /// # Errors
    /// `invalid_constraint` when the schema is too ambiguous to go on.
    pub fn mask(&mut self) -> Result<Vec<u32>, JsValue> {
        Ok(self.inner.mask().map_err(to_js)?.to_vec())
    }

    /// Goes on by one token.
    ///
    /// # Errors
    /// `invalid_constraint` when the schema is too ambiguous to go on.
    pub fn accept(&mut self, token: u32) -> Result<(), JsValue> {
        self.inner.accept(token).map_err(to_js)?;
        self.tail.extend(self.inner.bytes_of(token));
        let whole = match std::str::from_utf8(&self.tail) {
            Ok(_) => self.tail.len(),
            Err(error) => error.valid_up_to(),
        };
        self.tail.drain(..whole);
        Ok(())
    }

    /// Whether the reply ends within a character, for which the engine shows U+FFFD if it stops there.
    #[must_use]
    pub fn inside_character(&self) -> bool {
        !self.tail.is_empty()
    }

    /// The text after which the reply is valid, from the character on that is unfinished.
    ///
    /// # Errors
    /// `invalid_constraint` when there is none nearby.
    pub fn close(&self) -> Result<String, JsValue> {
        let end = self.inner.close().map_err(to_js)?;
        let bytes = [self.tail.as_slice(), end.as_slice()].concat();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
