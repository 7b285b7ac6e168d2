//! Whatever a model draws, and wherever it is cut off, the reply is what the rule asks for.

mod support;

use meetara_constraint::{Constraint, Rule};
use serde_json::{Value, json};
use support::{draw, vocabulary};

/// Schemas of every kind that users write.
fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("enum", json!({"enum": ["red", "green", "blue é", 7, null]})),
        (
            "nested object",
            json!({
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "address": {
                        "type": "object",
                        "properties": {"street": {"type": "string"}, "number": {"type": "integer"}},
                        "required": ["street", "number"],
                        "additionalProperties": false
                    },
                    "happy": {"type": "boolean"}
                },
                "required": ["name", "address"],
                "additionalProperties": false
            }),
        ),
        (
            "array with bounds",
            json!({"type": "array", "items": {"type": "integer", "minimum": 3, "maximum": 1200}, "minItems": 2, "maxItems": 5}),
        ),
        (
            "string pattern",
            json!({"type": "object", "properties": {"code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3,5}$"}},
                   "required": ["code"], "additionalProperties": false}),
        ),
        (
            "string lengths",
            json!({"type": "array", "items": {"type": "string", "minLength": 4, "maxLength": 9}, "minItems": 1, "maxItems": 3}),
        ),
        (
            "number",
            json!({"type": "number", "exclusiveMinimum": -1.5, "maximum": 20}),
        ),
        (
            "tree",
            json!({
                "$ref": "#/$defs/node",
                "$defs": {"node": {
                    "type": "object",
                    "properties": {
                        "value": {"type": ["integer", "null"]},
                        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}
                    },
                    "required": ["value", "children"],
                    "additionalProperties": false
                }}
            }),
        ),
        (
            "any of",
            json!({"anyOf": [
                {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"], "additionalProperties": false},
                {"type": "array", "items": {"type": "boolean"}, "minItems": 1}
            ]}),
        ),
        ("format", json!({"type": "string", "format": "date"})),
        ("anything", json!({})),
    ]
}

#[test]
fn a_reply_of_any_length_validates() {
    let vocabulary = vocabulary();
    let mut closed = 0;
    for (name, schema) in schemas() {
        let validator = jsonschema::validator_for(&schema).unwrap();
        let text = schema.to_string();
        for seed in 0..30 {
            let tokens_max = seed as usize * 3;
            let (reply, cut) = draw(&vocabulary, Rule::JsonSchema(&text), tokens_max, seed);
            closed += usize::from(cut);
            let value: Value = match serde_json::from_str(&reply) {
                Ok(value) => value,
                // JSON's numbers have no largest; serde_json's have.
                Err(e) if e.to_string().starts_with("number out of range") => continue,
                Err(e) => panic!("{name}, {tokens_max} tokens: {e}: {reply}"),
            };
            assert!(validator.is_valid(&value), "{name}: {reply}");
        }
    }
    assert!(closed > 50, "only {closed} replies were cut off");
}

#[test]
fn an_object_is_an_object() {
    let vocabulary = vocabulary();
    for seed in 0..40 {
        let (reply, _) = draw(&vocabulary, Rule::JsonObject, seed as usize, seed);
        let value: Value = serde_json::from_str(&reply).unwrap();
        assert!(value.is_object(), "{reply}");
    }
}

#[test]
fn properties_come_in_the_schemas_order() {
    let vocabulary = vocabulary();
    let schema = r#"{"type":"object","properties":{"z":{"const":1},"a":{"const":2}},"required":["z","a"],"additionalProperties":false}"#;
    let (reply, _) = draw(&vocabulary, Rule::JsonSchema(schema), 100, 1);
    assert_eq!(reply, r#"{"z": 1, "a": 2}"#);
}

#[test]
fn grammars_hold_and_end_too() {
    let vocabulary = vocabulary();
    // In the second, going on with what comes first in the alphabet never ends.
    type Holds = fn(&str) -> bool;
    let grammars: [(&str, Holds); 3] = [
        ("start: (\"yes\" | \"no\") \"!\"", |s| {
            ["yes!", "no!"].contains(&s)
        }),
        ("start: \"a\" start \"b\" | \"c\"", |s| {
            let n = s.find('c').unwrap();
            s == format!("{}c{}", "a".repeat(n), "b".repeat(n))
        }),
        ("start: WORD (\" \" WORD)*\nWORD: /[a-z]{3}/", |s| {
            s.split(' ').all(|word| word.len() == 3)
        }),
    ];
    for (grammar, holds) in grammars {
        for seed in 0..20 {
            let (reply, _) = draw(&vocabulary, Rule::Lark(grammar), seed as usize, seed);
            assert!(holds(&reply), "{grammar}: {reply}");
        }
    }
}

#[test]
fn to_close_changes_nothing() {
    let vocabulary = vocabulary();
    let mut constraint = Constraint::new(&vocabulary, Rule::JsonObject).unwrap();
    constraint.accept(u32::from(b'{')).unwrap();
    let before = constraint.mask().unwrap().to_vec();
    assert_eq!(constraint.close().unwrap(), b"}");
    assert_eq!(constraint.close().unwrap(), b"}");
    assert_eq!(constraint.mask().unwrap(), before);
}
