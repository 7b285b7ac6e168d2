//! JSON schemas: limits, the form of the JSON that is written, and where a schema is at fault.
//!
//! llguidance says what it cannot do in words that quote the schema. So its words stay here: what is
//! told is a path to the innermost part that does not compile by itself, in which names of properties
//! and definitions are replaced by their numbers.

use llguidance::api::TopLevelGrammar;
use llguidance::{JsonCompileOptions, Matcher};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

/// The longest schema.
pub const SCHEMA_BYTES_MAX: usize = 256 << 10;
/// The deepest nesting of objects and arrays in a schema: it is compiled by recursion.
pub const SCHEMA_DEPTH_MAX: usize = 64;
/// The most objects, arrays, texts and numbers of a schema.
pub const SCHEMA_NODES_MAX: usize = 20_000;
/// Parts that are compiled by themselves to find the one at fault.
const PARTS_TRIED_MAX: usize = 64;

/// Whose values are schemas by name, one schema, or a list of them.
const BY_NAME: [&str; 4] = ["$defs", "definitions", "properties", "patternProperties"];
const ONE: [&str; 3] = ["items", "additionalItems", "additionalProperties"];
const LIST: [&str; 4] = ["anyOf", "oneOf", "allOf", "prefixItems"];

/// Standard keywords that say something of a value and that no grammar is made of.
const UNSUPPORTED: [&str; 16] = [
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$recursiveRef",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];

/// Compiles the schema `text`.
pub(crate) fn compile(vocabulary: &Vocabulary, text: &str) -> Result<Matcher> {
    if text.len() > SCHEMA_BYTES_MAX {
        return Err(Error::rule(format!(
            "the schema has {} bytes, at most {SCHEMA_BYTES_MAX} are allowed",
            text.len()
        )));
    }
    let schema: Value = serde_json::from_str(text).map_err(|e| {
        // serde_json's own message may quote.
        Error::rule(format!(
            "the schema is not valid JSON, or nested too deep (line {}, column {})",
            e.line(),
            e.column()
        ))
    })?;
    let Value::Object(mut root) = schema else {
        return Err(Error::rule("the schema must be a JSON object"));
    };
    let mut nodes = 0;
    measure(&root, 1, &mut nodes)?;
    // llguidance's own extension would change the form that is asked for here.
    root.remove("x-guidance");
    build(vocabulary, root.clone()).map_err(|error| {
        let mut tried = 0;
        let (path, error) = fault(vocabulary, &root, &root, String::new(), error, &mut tried);
        let place = if path.is_empty() {
            "the schema".to_owned()
        } else {
            format!("the schema at {path}")
        };
        Error::rule(format!("{place} {}", reason(&error)))
    })
}

/// Counts what `object` holds, down to the limits.
fn measure(object: &Map<String, Value>, depth: usize, nodes: &mut usize) -> Result<()> {
    object
        .values()
        .try_for_each(|value| measure_value(value, depth, nodes))
}

fn measure_value(value: &Value, depth: usize, nodes: &mut usize) -> Result<()> {
    *nodes += 1;
    if *nodes > SCHEMA_NODES_MAX {
        return Err(Error::rule(format!(
            "the schema holds more than {SCHEMA_NODES_MAX} values; make it smaller"
        )));
    }
    if depth >= SCHEMA_DEPTH_MAX && (value.is_object() || value.is_array()) {
        return Err(Error::rule(format!(
            "the schema is nested more than {SCHEMA_DEPTH_MAX} deep; use `$defs` and `$ref`"
        )));
    }
    match value {
        Value::Object(object) => measure(object, depth + 1, nodes),
        Value::Array(list) => list
            .iter()
            .try_for_each(|value| measure_value(value, depth + 1, nodes)),
        _ => Ok(()),
    }
}

/// Compiles `schema`, an object. The error may quote it.
fn build(vocabulary: &Vocabulary, schema: Map<String, Value>) -> Result<Matcher, String> {
    let options = JsonCompileOptions {
        // As most JSON that models have read is written. A small model that may write spaces anywhere
        // often goes on writing spaces.
        item_separator: ", ".to_owned(),
        key_separator: ": ".to_owned(),
        whitespace_flexible: false,
        ..JsonCompileOptions::default()
    };
    let mut schema = Value::Object(schema);
    options.apply_to(&mut schema);
    vocabulary.compile(TopLevelGrammar::from_json_schema(schema))
}

/// The path to the innermost part of `part` that fails by itself, beside `root`'s definitions, and
/// how. `error` is how `part` fails.
fn fault(
    vocabulary: &Vocabulary,
    root: &Map<String, Value>,
    part: &Map<String, Value>,
    path: String,
    error: String,
    tried: &mut usize,
) -> (String, String) {
    for (step, child) in children(part) {
        let Value::Object(child) = child else {
            continue;
        };
        if *tried == PARTS_TRIED_MAX {
            break;
        }
        *tried += 1;
        let mut alone = child.clone();
        for name in ["$defs", "definitions"] {
            if let Some(definitions) = root.get(name) {
                alone.entry(name).or_insert_with(|| definitions.clone());
            }
        }
        if let Err(error) = build(vocabulary, alone) {
            let dot = if path.is_empty() { "" } else { "." };
            let path = format!("{path}{dot}{step}");
            return fault(vocabulary, root, child, path, error, tried);
        }
    }
    (path, error)
}

/// The schemas within `schema`, and how to say where each is.
fn children(schema: &Map<String, Value>) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (keyword, value) in schema {
        let keyword = keyword.as_str();
        match value {
            Value::Object(named) if BY_NAME.contains(&keyword) => {
                let numbered = named.values().enumerate();
                found.extend(numbered.map(|(i, child)| (format!("{keyword}[{i}]"), child)));
            }
            Value::Array(list) if LIST.contains(&keyword) => {
                let numbered = list.iter().enumerate();
                found.extend(numbered.map(|(i, child)| (format!("{keyword}[{i}]"), child)));
            }
            Value::Object(_) if ONE.contains(&keyword) => found.push((keyword.to_owned(), value)),
            _ => {}
        }
    }
    found
}

/// One of llguidance's messages in words that quote nothing.
fn reason(error: &str) -> String {
    let says = |words: &str| error.contains(words);
    if says("Unimplemented keys") {
        let named = UNSUPPORTED.iter().filter(|k| says(&format!("\"{k}\"")));
        let named: Vec<String> = named.map(|keyword| format!("`{keyword}`")).collect();
        return format!(
            "has a keyword that cannot be turned into a grammar: {}",
            if named.is_empty() {
                "one of another draft".to_owned()
            } else {
                named.join(", ")
            }
        );
    }
    if says("oneOf constraints") {
        return "has `oneOf` with alternatives that may overlap; use `anyOf`".to_owned();
    }
    if says("Unsatisfiable") {
        return "accepts no value at all".to_owned();
    }
    if says("too large") || says("too complex") || says("fuel") || says("too many") {
        return "needs a grammar beyond the limits; lower its bounds and lengths".to_owned();
    }
    if says("egex") || says("pattern") {
        return "has a `pattern` that cannot be used".to_owned();
    }
    if says("format") {
        return "has a `format` that is not known".to_owned();
    }
    if says("$ref") || says("eference") {
        return "has a `$ref` that does not point into the schema (`#/$defs/...`)".to_owned();
    }
    "is no schema that can be compiled; check the types of its keywords' values".to_owned()
}
