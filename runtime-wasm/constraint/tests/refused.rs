//! Rules that cannot be used are refused soon, in words that say where and quote nothing.

mod support;

use std::time::{Duration, Instant};

use meetara_constraint::{
    Constraint, Error, GRAMMAR_BYTES_MAX, Rule, SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, Token,
    Vocabulary,
};
use serde_json::{Value, json};
use support::vocabulary;

/// Far above what one rule takes, far below what a person would call a hang.
const TIME_MAX: Duration = Duration::from_secs(10);

fn refusal(vocabulary: &Vocabulary, rule: Rule<'_>) -> String {
    let start = Instant::now();
    let error = Constraint::new(vocabulary, rule).expect_err("it was accepted");
    assert!(start.elapsed() < TIME_MAX, "{:?}", start.elapsed());
    assert!(matches!(error, Error::Rule(_)), "{error:?}");
    error.to_string()
}

#[test]
fn the_place_is_named_and_no_word_of_the_schema() {
    let vocabulary = vocabulary();
    let cases: [(Value, &str, &str); 9] = [
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}, "secret": {"type": "string", "pattern": "(secret"}}}),
            "properties[1]",
            "pattern",
        ),
        (
            json!({"properties": {"a": {"items": {"if": {"const": "secret"}, "type": "array"}}}}),
            "properties[0].items",
            "`if`",
        ),
        (
            json!({"anyOf": [{"type": "null"}, {"type": "secret"}]}),
            "anyOf[1]",
            "compiled",
        ),
        (
            json!({"$ref": "https://secret.example/schema"}),
            "the schema",
            "$ref",
        ),
        (json!({"$ref": "#/$defs/secret"}), "the schema", "$ref"),
        (
            json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
            "the schema",
            "oneOf",
        ),
        (
            json!({"$defs": {"a": {}, "b": {"uniqueItems": true, "type": "array"}}, "$ref": "#/$defs/b"}),
            "$defs[1]",
            "`uniqueItems`",
        ),
        (
            json!({"type": "integer", "minimum": 3, "maximum": 2}),
            "the schema",
            "no value",
        ),
        (
            json!({"type": "string", "format": "secret"}),
            "the schema",
            "format",
        ),
    ];
    for (schema, place, why) in cases {
        let message = refusal(&vocabulary, Rule::JsonSchema(&schema.to_string()));
        assert!(message.contains(place), "{message}");
        assert!(message.contains(why), "{schema}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }
    for not_a_schema in ["", "{", "3", "\"secret\"", "[]", "true"] {
        let message = refusal(&vocabulary, Rule::JsonSchema(not_a_schema));
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn grammars_are_refused_with_their_line() {
    let vocabulary = vocabulary();
    for (grammar, place) in [
        ("start: \"a\"\nsecret: (\"b\"", "line 2"),
        ("start: secret", "grammar"),
        ("start: /secret(/", "line 1"),
        ("", "empty"),
        ("secret", "grammar"),
    ] {
        let message = refusal(&vocabulary, Rule::Lark(grammar));
        assert!(message.contains(place), "{grammar}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn deep_and_huge_ones_are_refused_within_limits() {
    let vocabulary = vocabulary();
    let nested = |depth: usize| {
        format!(
            "{}{}{}",
            r#"{"type":"array","items":"#.repeat(depth),
            r#"{"type":"null"}"#,
            "}".repeat(depth)
        )
    };
    // As deep as is allowed is compiled, one deeper and far deeper not.
    let text = nested(SCHEMA_DEPTH_MAX - 1);
    Constraint::new(&vocabulary, Rule::JsonSchema(&text)).unwrap();
    for depth in [SCHEMA_DEPTH_MAX, 127, 100_000] {
        let message = refusal(&vocabulary, Rule::JsonSchema(&nested(depth)));
        assert!(
            message.contains("deep") || message.contains("bytes"),
            "{message}"
        );
    }
    let long = format!(r#"{{"const":"{}"}}"#, "x".repeat(SCHEMA_BYTES_MAX));
    assert!(refusal(&vocabulary, Rule::JsonSchema(&long)).contains("bytes"));
    let many = json!({"enum": (0..30_000).collect::<Vec<_>>()}).to_string();
    assert!(refusal(&vocabulary, Rule::JsonSchema(&many)).contains("values"));

    let long = format!("start: \"{}\"", "x".repeat(GRAMMAR_BYTES_MAX));
    assert!(refusal(&vocabulary, Rule::Lark(&long)).contains("bytes"));
    let deep = format!("start: {}\"a\"{}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(refusal(&vocabulary, Rule::Lark(&deep)).contains("deep"));
}

/// Small texts that ask for much: refused, or compiled soon and with masks that come soon.
#[test]
fn small_hostile_rules_end_soon() {
    let vocabulary = vocabulary();
    let doubled: String = (0..14).fold("a".to_owned(), |s, _| format!("(?:{s}|{s}b)"));
    let mut definitions = serde_json::Map::new();
    for i in 0..40 {
        let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
        definitions.insert(format!("d{i}"), json!({"allOf": [next, next]}));
    }
    definitions.insert("d40".to_owned(), json!({"type": "string"}));
    let schemas = [
        json!({"type": "string", "pattern": "(a{1000}){1000}"}),
        json!({"type": "string", "pattern": "^(a*)*(a*)*(a*)*b$"}),
        json!({"type": "string", "pattern": ".*a.{30}.*b.{30}"}),
        json!({"type": "string", "pattern": doubled}),
        json!({"type": "string", "minLength": 1_000_000_000, "maxLength": 2_000_000_000}),
        json!({"type": "array", "minItems": 1_000_000_000, "items": {"type": "null"}}),
        json!({"type": "array", "maxItems": u64::MAX, "items": {"type": "null"}}),
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        json!({"$ref": "#/$defs/d0", "$defs": definitions}),
        json!({"type": "number", "multipleOf": 1e-300}),
        json!({"type": "integer", "minimum": -1e300, "maximum": 1e300}),
    ];
    let grammars = [
        "start: start start | \"a\"",
        "start: start",
        "start: (\"a\"?)~1000",
        "start: a~1000\na: b~1000\nb: \"x\"~1000",
        "start: A A A A A\nA: /(a|b|ab)*/",
    ];
    let schemas: Vec<String> = schemas.iter().map(Value::to_string).collect();
    let rules = schemas.iter().map(|s| Rule::JsonSchema(s));
    for rule in rules.chain(grammars.map(Rule::Lark)) {
        let start = Instant::now();
        let mut outcome = "refused";
        if let Ok(mut constraint) = Constraint::new(&vocabulary, rule) {
            outcome = "compiled";
            for _ in 0..20 {
                let Ok(mask) = constraint.mask() else {
                    outcome = "given up";
                    break;
                };
                let first = mask.iter().position(|&word| word != 0).unwrap();
                let id = 32 * first as u32 + mask[first].trailing_zeros();
                if id >= support::END || constraint.accept(id).is_err() {
                    break;
                }
            }
            let _ = constraint.close();
        }
        let took = start.elapsed();
        let shown = format!("{rule:?}");
        println!("{outcome} in {took:?}: {}", &shown[..shown.len().min(70)]);
        assert!(took < TIME_MAX, "{took:?}: {shown}");
    }
}

#[test]
fn what_no_text_can_meet_is_refused() {
    let vocabulary = vocabulary();
    for rule in [
        Rule::JsonSchema(r##"{"$ref":"#"}"##),
        Rule::Lark("start: start"),
    ] {
        assert!(refusal(&vocabulary, rule).contains("no text"));
    }
}

#[test]
fn a_vocabulary_without_an_end_or_sense_is_refused() {
    for tokens in [&[][..], &[Token::Bytes(b"a"), Token::Marker(b"<|user|>")]] {
        let error = Vocabulary::new(tokens).unwrap_err();
        assert!(matches!(error, Error::Vocabulary(_)));
    }
    for damaged in [&b"\x01"[..], b"\x03\x00ab", b"\x01\x07a", b"\x01\x02e\x01"] {
        let error = Vocabulary::read(damaged).unwrap_err();
        assert_eq!(error, Error::Vocabulary("the list of tokens is damaged"));
    }
    assert!(Vocabulary::read(b"\x01\x00a\x03\x02end").is_ok());
}
