//! Takes typed fields out of a JSON object; what is left over at the end is unknown.
//!
//! Each getter removes the field, so that an error can name the field at fault, and so that
//! [`Fields::finish`] finds the misspelt ones.

use crate::error::ApiError;
use serde_json::{Map, Value};

/// The fields not yet taken.
pub(crate) struct Fields(Map<String, Value>);

impl From<Map<String, Value>> for Fields {
    fn from(map: Map<String, Value>) -> Self {
        Self(map)
    }
}

impl Fields {
    /// Parses a request body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            // serde_json's own text may quote the input, so only the place is passed on.
            let (line, column) = (error.line(), error.column());
            ApiError::invalid_json(format!(
                "The body is not valid JSON (line {line}, column {column})."
            ))
        })?;
        match value {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(ApiError::invalid_json("The body must be a JSON object.")),
        }
    }

    /// Removes a field; `null` counts as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// A required string.
    pub(crate) fn required_string(&mut self, name: &str) -> Result<String, ApiError> {
        match self.take(name) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(ApiError::invalid_value(
                name,
                format!("'{name}' must be a string."),
            )),
            None => Err(ApiError::missing(name)),
        }
    }

    /// An optional boolean.
    pub(crate) fn bool(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(ApiError::invalid_value(
                name,
                format!("'{name}' must be true or false."),
            )),
        }
    }

    /// An optional number within `min..=max`.
    pub(crate) fn number(
        &mut self,
        name: &str,
        min: f64,
        max: f64,
    ) -> Result<Option<f32>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match value.as_f64().filter(|n| (min..=max).contains(n)) {
            Some(number) => Ok(Some(number as f32)),
            None => Err(ApiError::invalid_value(
                name,
                format!("'{name}' must be a number between {min} and {max}."),
            )),
        }
    }

    /// An optional whole number within `min..=max`.
    pub(crate) fn integer(
        &mut self,
        name: &str,
        min: u32,
        max: u32,
    ) -> Result<Option<u32>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
        match number.filter(|n| (min..=max).contains(n)) {
            Some(number) => Ok(Some(number)),
            None => {
                let message = format!("'{name}' must be a whole number between {min} and {max}.");
                Err(ApiError::invalid_value(name, message))
            }
        }
    }

    /// An optional 64-bit whole number; negative ones keep their bits.
    pub(crate) fn seed(&mut self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match value.as_u64().or_else(|| value.as_i64().map(|n| n as u64)) {
            Some(seed) => Ok(Some(seed)),
            None => Err(ApiError::invalid_value(
                name,
                format!("'{name}' must be a 64-bit whole number."),
            )),
        }
    }

    /// Succeeds when no field is left.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(ApiError::unknown_parameter(name)),
        }
    }
}
