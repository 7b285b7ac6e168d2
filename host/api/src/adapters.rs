//! LoRA adapters: which of them a chat uses, and the routes that list, load and unload them.
//!
//! `POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter` take vLLM's bodies. A chat names one
//! adapter by the model id `meetara:NAME`, or mixes several over a base with the extra field
//! `adapters: [{"name": "...", "scale": 1.0}]`.

use crate::error::ApiError;
use crate::fields::Fields;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most adapters in one request.
pub const ADAPTERS_MAX: usize = 8;
/// The largest size of a scale.
pub const SCALE_MAX: f64 = 100.0;
/// The longest name.
const NAME_LEN_MAX: usize = 64;

/// An adapter of a chat request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterUse {
    /// Its name, with or without `meetara:`.
    pub name: String,
    /// What its part is multiplied by; 1 when the client gave none.
    pub scale: f32,
}

/// The field `adapters` of a chat request.
pub(crate) fn parse_adapters(value: Option<Value>) -> Result<Vec<AdapterUse>, ApiError> {
    let wrong = |at: &str, what: String| Err(ApiError::invalid_value(at, what));
    let list = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= ADAPTERS_MAX => list,
        Some(_) => {
            return wrong(
                "adapters",
                format!("'adapters' must be an array of at most {ADAPTERS_MAX} objects."),
            );
        }
    };
    let mut adapters = Vec::with_capacity(list.len());
    for (index, value) in list.into_iter().enumerate() {
        let at = format!("adapters[{index}]");
        let Value::Object(map) = value else {
            return wrong(
                &at,
                format!("'{at}' must be an object with 'name' and 'scale'."),
            );
        };
        let mut fields = Fields::from(map);
        let name = fields.required_string("name")?;
        let scale = fields
            .number("scale", -SCALE_MAX, SCALE_MAX)?
            .unwrap_or(1.0);
        fields.finish()?;
        adapters.push(AdapterUse { name, scale });
    }
    Ok(adapters)
}

/// The body of `POST /v1/load_lora_adapter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadAdapter {
    /// What clients will call it.
    pub lora_name: String,
    /// Its file; the host says which paths it allows.
    pub lora_path: String,
    /// The model id of its base; the host chooses when it is left out.
    pub base_model_name: Option<String>,
}

impl LoadAdapter {
    /// Reads a request body.
    ///
    /// # Errors
    /// A 400 that names the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let lora_name = name(&mut fields)?;
        let lora_path = fields.required_string("lora_path")?;
        let base_model_name = match fields.take("base_model_name") {
            None => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                let message = "'base_model_name' must be a string.";
                return Err(ApiError::invalid_value("base_model_name", message));
            }
        };
        fields.finish()?;
        Ok(Self {
            lora_name,
            lora_path,
            base_model_name,
        })
    }
}

/// The body of `POST /v1/unload_lora_adapter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnloadAdapter {
    /// The adapter to forget.
    pub lora_name: String,
}

impl UnloadAdapter {
    /// Reads a request body. vLLM's `lora_int_id` is let pass.
    ///
    /// # Errors
    /// A 400 that names the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let lora_name = name(&mut fields)?;
        fields.take("lora_int_id");
        fields.finish()?;
        Ok(Self { lora_name })
    }
}

/// The field `lora_name`, without `meetara:`.
fn name(fields: &mut Fields) -> Result<String, ApiError> {
    let name = fields.required_string("lora_name")?;
    let name = name.strip_prefix("meetara:").unwrap_or(&name);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(name.to_owned());
    }
    Err(ApiError::invalid_value(
        "lora_name",
        format!("'lora_name' must have 1 to {NAME_LEN_MAX} letters, digits, '.', '_' or '-'."),
    ))
}

/// One line of `GET /v1/lora_adapters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoraAdapter {
    /// What clients put into `model` to use it alone: `meetara:NAME`.
    pub id: String,
    /// Always `lora_adapter`.
    pub object: String,
    /// What clients put into `adapters`.
    pub lora_name: String,
    /// Its file below the folder of models.
    pub lora_path: String,
    /// The id of the model that it is used over.
    pub base_model: String,
    /// The file's length; a Worker says 0 until it has fetched it.
    pub bytes: u64,
    /// Whether its weights are in memory now.
    pub resident: bool,
}

/// `GET /v1/lora_adapters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoraAdapterList {
    /// Always `list`.
    pub object: String,
    /// In the order of their names.
    pub data: Vec<LoraAdapter>,
}

impl LoraAdapterList {
    /// Wraps a list of adapters.
    pub fn new(data: Vec<LoraAdapter>) -> Self {
        Self {
            object: "list".to_owned(),
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mix_is_read_and_what_is_wrong_is_named() {
        let parse = |value: Value| parse_adapters(Some(value));
        let mix = parse(json!([{"name": "a", "scale": 0.5}, {"name": "b"}])).unwrap();
        assert_eq!((mix[0].scale, mix[1].scale), (0.5, 1.0));
        assert_eq!(parse_adapters(None).unwrap(), []);
        for (wrong, param) in [
            (json!("a"), "adapters"),
            (json!(vec![json!({"name": "a"}); 9]), "adapters"),
            (json!(["a"]), "adapters[0]"),
            (json!([{"scale": 1}]), "name"),
            (json!([{"name": "a", "scale": 1e9}]), "scale"),
            (json!([{"name": "a", "weight": 1}]), "weight"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.error.param.as_deref(), Some(param));
        }
    }

    #[test]
    fn names_are_plain() {
        let load = |name: &str| {
            let body = json!({"lora_name": name, "lora_path": "a.gguf"}).to_string();
            LoadAdapter::parse(body.as_bytes())
        };
        assert_eq!(load("meetara:nutrition").unwrap().lora_name, "nutrition");
        for name in ["", "a b", "../a", "a/b", &"a".repeat(65)] {
            assert_eq!(load(name).unwrap_err().error.param.unwrap(), "lora_name");
        }
        let body = br#"{"lora_name": "a", "lora_int_id": 3}"#;
        assert_eq!(UnloadAdapter::parse(body).unwrap().lora_name, "a");
    }
}
