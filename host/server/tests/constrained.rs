//! Answers held to JSON, a schema or a grammar, as a client meets them.

mod common;

use common::{Host, events, request, text_of};
use serde_json::{Value, json};

/// A form that the fixture, whose words are drawn by lot, would never write by itself.
fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "mood": {"enum": ["calm", "sad"]},
            "ages": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 130}, "minItems": 1, "maxItems": 3}
        },
        "required": ["name", "mood", "ages"],
        "additionalProperties": false
    })
}

fn schema_format(schema: Value) -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "person", "strict": true, "schema": schema}})
}

fn assert_person(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let object = value.as_object().expect("an object");
    // In the order of the schema, which is not the alphabet's.
    assert_eq!(object.keys().collect::<Vec<_>>(), ["name", "mood", "ages"]);
    assert!(value["name"].as_str().unwrap().chars().count() <= 12);
    assert!(["calm", "sad"].contains(&value["mood"].as_str().unwrap()));
    let ages = value["ages"].as_array().unwrap();
    assert!((1..=3).contains(&ages.len()));
    assert!(
        ages.iter()
            .all(|age| (1..=130).contains(&age.as_u64().unwrap()))
    );
}

#[tokio::test]
async fn an_answer_follows_its_schema_whole_and_streamed_and_when_it_is_cut() {
    let host = Host::tiny();
    for (max_tokens, temperature) in [(100, 0.0), (100, 1.2), (1, 0.0), (9, 1.0), (12, 0.7)] {
        let body = request(json!({
            "max_tokens": max_tokens, "temperature": temperature, "seed": 5, "n": 2,
            "response_format": schema_format(person()),
        }));
        let whole = host.chat(&body).await;
        for choice in whole["choices"].as_array().unwrap() {
            assert_person(choice["message"]["content"].as_str().unwrap());
            let reason = choice["finish_reason"].as_str().unwrap();
            assert_eq!(reason == "length", max_tokens < 20, "{choice}");
        }
        assert!(whole["usage"]["completion_tokens"].as_u64().unwrap() <= 2 * max_tokens);
        let mut body = body;
        body["stream"] = json!(true);
        let (events, done) = events(host.post(&body).send().await).await;
        assert!(done);
        for index in 0..2 {
            let text = text_of(&events, index);
            assert_eq!(text, whole["choices"][index as usize]["message"]["content"]);
        }
    }
}

#[tokio::test]
async fn any_json_object_and_grammars() {
    let host = Host::tiny();
    let body = request(json!({"response_format": {"type": "json_object"}, "max_tokens": 40}));
    let reply = host.chat(&body).await;
    let text = reply["choices"][0]["message"]["content"].as_str().unwrap();
    match serde_json::from_str::<Value>(text) {
        Ok(value) => assert!(value.is_object(), "{text}"),
        // JSON's numbers have no largest; serde_json's have.
        Err(e) => assert!(
            e.to_string().starts_with("number out of range"),
            "{e}: {text}"
        ),
    }

    let grammar = "start: (\"yes\" | \"no\") \", \" /[a-f]{3}/ \".\"";
    let reply = host
        .chat(&request(json!({"grammar": grammar, "logprobs": true})))
        .await;
    let choice = &reply["choices"][0];
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(
        text.starts_with("yes, ") || text.starts_with("no, "),
        "{text}"
    );
    assert!(text.ends_with('.') && text.len() <= 9, "{text}");
    assert_eq!(choice["finish_reason"], "stop");
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    let joined: String = tokens
        .iter()
        .map(|t| t["token"].as_str().unwrap())
        .collect();
    assert_eq!(joined, text);
}

#[tokio::test]
async fn what_cannot_be_followed_is_a_400_that_says_where_and_quotes_nothing() {
    let host = Host::tiny();
    let deep = (0..70).fold(json!({"type": "null"}), |inner, _| json!({"items": inner}));
    let cases = [
        (
            schema_format(json!({"properties": {"a": {}, "secret": {"pattern": "(secret"}}})),
            "properties[1]",
        ),
        (
            schema_format(json!({"anyOf": [{}, {"not": {"const": "secret"}}]})),
            "anyOf[1]",
        ),
        (schema_format(json!({"$ref": "secret.json"})), "$ref"),
        (schema_format(deep), "deep"),
        (
            schema_format(json!({"enum": (0..30_000).collect::<Vec<_>>()})),
            "values",
        ),
    ];
    for (format, place) in cases {
        let (status, error) = host
            .error(&request(json!({"response_format": format})))
            .await;
        let message = error["message"].as_str().unwrap();
        assert_eq!(
            (status, &error["param"]),
            (400, &json!("response_format")),
            "{error}"
        );
        assert!(
            message.contains(place) && !message.contains("secret"),
            "{message}"
        );
    }
    let bad = request(json!({"grammar": "start: \"a\"\nother: secret("}));
    let (status, error) = host.error(&bad).await;
    assert_eq!(
        (status, &error["param"]),
        (400, &json!("grammar")),
        "{error}"
    );
    assert!(
        error["message"].as_str().unwrap().contains("line 2"),
        "{error}"
    );
    // Nothing of it is left behind, and no request went to the log.
    host.chat(&request(json!({}))).await;
    assert!(!host.log().contains("secret"));
}
