//! `response_format` and `grammar`: what an answer must be.
//!
//! Whether a schema or a grammar is of use is for the engine to say; here it is only taken out of the
//! request, a schema as JSON text whose properties stand in the client's order.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::fields::Fields;

/// What an answer must be, as the engine's `constraint` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// A JSON object of any shape.
    JsonObject,
    /// A JSON value that this schema accepts, which is JSON itself.
    JsonSchema(String),
    /// A text of this grammar, in llguidance's dialect of Lark. An extension.
    Lark(String),
}

impl Constraint {
    /// The field of a request that asks for it.
    pub fn param(&self) -> &'static str {
        match self {
            Self::JsonObject | Self::JsonSchema(_) => "response_format",
            Self::Lark(_) => "grammar",
        }
    }

    /// The constraint that the fields ask for.
    pub(crate) fn take(fields: &mut Fields) -> Result<Option<Self>, ApiError> {
        let format = match fields.take("response_format") {
            None => None,
            Some(Value::Object(format)) => of_format(format)?,
            Some(_) => return Err(wrong("response_format", "must be an object.")),
        };
        match (format, fields.take("grammar")) {
            (format, None) => Ok(format),
            (None, Some(Value::String(grammar))) => Ok(Some(Self::Lark(grammar))),
            (None, Some(_)) => Err(wrong("grammar", "must be a string.")),
            (Some(_), Some(_)) => Err(wrong(
                "grammar",
                "and 'response_format' exclude each other.",
            )),
        }
    }
}

fn wrong(param: &str, what: &str) -> ApiError {
    ApiError::invalid_value(param, format!("'{param}' {what}"))
}

fn of_format(mut format: Map<String, Value>) -> Result<Option<Constraint>, ApiError> {
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Constraint::JsonObject)),
        Some("json_schema") => match format.remove("json_schema") {
            Some(Value::Object(given)) => of_schema(&given).map(Some),
            Some(_) => Err(wrong("response_format.json_schema", "must be an object.")),
            None => Err(ApiError::missing("response_format.json_schema")),
        },
        _ => Err(wrong(
            "response_format.type",
            "must be 'text', 'json_object' or 'json_schema'.",
        )),
    }
}

/// `{"name", "schema", "description"?, "strict"?}`. Every schema is followed strictly, asked or not.
fn of_schema(given: &Map<String, Value>) -> Result<Constraint, ApiError> {
    let param = |name: &str| format!("response_format.json_schema.{name}");
    let known = ["name", "schema", "description", "strict"];
    if given.keys().any(|key| !known.contains(&key.as_str())) {
        return Err(wrong(
            "response_format.json_schema",
            "has only the fields 'name', 'description', 'schema' and 'strict'.",
        ));
    }
    match given.get("name") {
        None => return Err(ApiError::missing(&param("name"))),
        Some(Value::String(name)) if is_name(name) => {}
        Some(_) => {
            return Err(wrong(
                &param("name"),
                "must be a string of 1 to 64 letters, digits, '_' and '-'.",
            ));
        }
    }
    match given.get("schema") {
        None | Some(Value::Null) => Err(ApiError::missing(&param("schema"))),
        Some(schema @ Value::Object(_)) => Ok(Constraint::JsonSchema(schema.to_string())),
        Some(_) => Err(wrong(&param("schema"), "must be an object.")),
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (1..=64).contains(&name.len()) && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChatRequest;

    fn ask(more: &str) -> Result<ChatRequest, ApiError> {
        let body =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{more}}}"#);
        ChatRequest::parse(body.as_bytes())
    }

    #[test]
    fn what_is_asked_for_reaches_the_engine_in_its_order() {
        let asked = |more: &str| ask(more).unwrap().sampling.constraint;
        assert_eq!(asked(r#""response_format":{"type":"text"}"#), None);
        assert_eq!(asked(r#""grammar":null"#), None);
        assert_eq!(
            asked(r#""response_format":{"type":"json_object"}"#),
            Some(Constraint::JsonObject)
        );
        assert_eq!(
            asked(r#""grammar":"start: \"a\"""#),
            Some(Constraint::Lark("start: \"a\"".to_owned()))
        );
        let schema = r#"{"properties":{"z":{"type":"null"},"a":{"type":"null"}},"a":1}"#;
        let request = ask(&format!(
            r#""response_format":{{"type":"json_schema","json_schema":{{"name":"n-1","strict":true,"schema":{schema}}}}}"#
        ))
        .unwrap();
        let expected = Constraint::JsonSchema(schema.to_owned());
        assert_eq!(request.sampling.constraint, Some(expected));
        let engine = serde_json::to_value(&request.sampling).unwrap();
        assert_eq!(engine["constraint"]["json_schema"], schema);
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let format = |more: &str| format!(r#""response_format":{more}"#);
        let schema =
            |more: &str| format(&format!(r#"{{"type":"json_schema","json_schema":{more}}}"#));
        let cases = [
            (format("7"), "response_format"),
            (format("{}"), "response_format.type"),
            (format(r#"{"type":"xml"}"#), "response_format.type"),
            (
                format(r#"{"type":"json_schema"}"#),
                "response_format.json_schema",
            ),
            (schema("7"), "response_format.json_schema"),
            (schema("{}"), "response_format.json_schema.name"),
            (
                schema(r#"{"name":"a b"}"#),
                "response_format.json_schema.name",
            ),
            (
                schema(r#"{"name":"a"}"#),
                "response_format.json_schema.schema",
            ),
            (
                schema(r#"{"name":"a","schema":[]}"#),
                "response_format.json_schema.schema",
            ),
            (
                schema(r#"{"name":"a","schema":{},"x":1}"#),
                "response_format.json_schema",
            ),
            (r#""grammar":7"#.to_owned(), "grammar"),
            (
                r#""grammar":"x","response_format":{"type":"json_object"}"#.to_owned(),
                "grammar",
            ),
            (r#""grammar":"x","stop":"y""#.to_owned(), "stop"),
        ];
        for (more, param) in cases {
            let error = ask(&more).unwrap_err();
            assert_eq!(
                (error.status, error.error.param.as_deref()),
                (400, Some(param)),
                "{more}"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_said_of_the_field_it_came_in() {
        for (more, param) in [
            (
                r#""response_format":{"type":"json_object"}"#,
                "response_format",
            ),
            (r#""grammar":"x""#, "grammar"),
        ] {
            let constraint = ask(more).unwrap().sampling.constraint;
            let said = |code| {
                let error = ApiError::from_engine(code, "").of_constraint(constraint.as_ref());
                error.error.param
            };
            assert_eq!(said("invalid_constraint").as_deref(), Some(param));
            assert_eq!(said("template").as_deref(), Some("messages"));
        }
    }
}
