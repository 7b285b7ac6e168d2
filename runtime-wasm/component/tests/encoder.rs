//! The encoder's part of the C ABI, called natively as a host calls it.

use meetara_component as abi;
use serde_json::{Value, json};

/// Lends a buffer and fills it.
fn put(bytes: &[u8]) -> usize {
    let at = abi::meetara_alloc(bytes.len());
    assert_ne!(at, 0);
    let place = std::ptr::with_exposed_provenance_mut::<u8>(at);
    // SAFETY: `meetara_alloc` lent so many bytes at this address, and nobody else writes to them.
    unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    at
}

fn result() -> Value {
    let (at, len) = (abi::meetara_result_ptr(), abi::meetara_result_len());
    let place = std::ptr::with_exposed_provenance::<u8>(at);
    // SAFETY: the result lies there until the next call.
    let bytes = unsafe { std::slice::from_raw_parts(place, len) };
    serde_json::from_slice(bytes).unwrap()
}

fn encode(request: &Value) -> i32 {
    abi::meetara_encode(put(request.to_string().as_bytes()))
}

fn fails(status: i32, code: &str) {
    assert_eq!(status, abi::FAILED);
    assert_eq!(result()["code"], code, "{}", result());
}

fn read(request: &Value) -> i32 {
    abi::meetara_read(put(request.to_string().as_bytes()))
}

/// Each test has a thread, and so an instance, of its own.
#[test]
fn rules_look_for_danger_in_every_instance() {
    assert_eq!(
        read(&json!({"turns": ["I want to kill myself"], "region": "GB"})),
        0
    );
    let found = result();
    assert_eq!(found["safety"]["category"], "mental_health");
    assert!(found["text"].is_null() && found["domain"].is_null());
    assert_eq!(found["help"]["region"], "GB");
    assert_eq!(read(&json!({"turns": ["a cake, please"]})), 0);
    assert_eq!(
        result()["safety"]["abstained"],
        true,
        "rules alone know little"
    );
    assert_eq!(read(&json!({"turns": []})), 0);
    fails(read(&json!({"turns": "x"})), "invalid_request");
    fails(
        read(&json!({"turns": [], "safety": false})),
        "invalid_request",
    );
    assert_eq!(abi::meetara_domains(), 0);
    assert_eq!(result().as_array().unwrap().len(), 62);
}

#[test]
fn a_reader_reads_turns() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    let other = std::fs::read(format!("{root}tests/vectors/encoders/bert-q8_0.gguf")).unwrap();
    fails(abi::meetara_reader_load(put(&other)), "unsupported_model");
    let bytes = std::fs::read(format!("{root}models/emotion/text-emotion.gguf")).unwrap();
    assert_eq!(abi::meetara_inspect(put(&bytes), bytes.len() as u64), 0);
    let heads = result()["heads"].as_array().unwrap().clone();
    for head in ["emotion", "goemotions", "domain", "safety"] {
        assert!(heads.contains(&json!(head)));
    }
    assert_eq!(abi::meetara_reader_load(put(&bytes)), 0);
    let turns = [
        "I miss my dad so much, it hurts every day.",
        "Thank you so much, I'm happy now!",
    ];
    assert_eq!(read(&json!({"turns": turns, "feelings": true})), 0);
    let found = result();
    assert_eq!(found["text"]["primary_emotion"], "joy");
    assert_eq!(found["feelings"]["trajectory"], "improving");
    assert!(found["help"].is_null() && found["domain"]["name"].is_string());
    assert_eq!(read(&json!({"turns": turns})), 0);
    assert!(result()["feelings"].is_null(), "not asked for");
    assert_eq!(read(&json!({"turns": ["My mother isn't breathing"]})), 0);
    assert_eq!(result()["safety"]["category"], "medical");
    assert!(
        result()["help"]["text"]
            .as_str()
            .unwrap()
            .contains("local emergency number")
    );
    fails(abi::meetara_reader_load(put(&bytes)), "invalid_request");
}

/// One instance, one state, one test: as a host has it.
#[test]
fn an_encoder_is_loaded_and_reads_texts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/encoders/");
    let file = |name: &str| std::fs::read(format!("{folder}{name}")).unwrap();
    let expected: Value = serde_json::from_slice(&file("expected.json")).unwrap();

    fails(encode(&json!({"text": "x"})), "invalid_request");
    fails(abi::meetara_encoder_load(1), "invalid_request");
    let half = file("bert-q8_0.gguf");
    fails(
        abi::meetara_encoder_load(put(&half[..half.len() / 2])),
        "invalid_model",
    );
    let chat = file("../tiny/tiny-q8_0.gguf");
    fails(abi::meetara_encoder_load(put(&chat)), "unsupported_model");

    let bytes = file("bert-q8_0.gguf");
    assert_eq!(abi::meetara_inspect(put(&bytes), bytes.len() as u64), 0);
    assert_eq!(result()["architecture"], "bert");
    assert_eq!(abi::meetara_encoder_load(put(&bytes)), 0);
    let loaded = result();
    assert_eq!(loaded["tokens_max"], 256);
    assert_eq!(loaded["heads"][0]["name"], "classifier");
    assert_eq!(loaded["heads"][0]["labels"], expected["bert"]["labels"]);
    assert_eq!(loaded["heads"][0]["several"], true);

    for wanted in expected["bert"]["texts"].as_array().unwrap() {
        assert_eq!(encode(&json!({"text": wanted["text"]})), 0);
        let found = result();
        assert_eq!(found["tokens"], wanted["ids"].as_array().unwrap().len());
        assert_eq!(found["tokens_cut"], wanted["tokens_cut"]);
        assert_eq!(
            found["embedding"].as_array().unwrap().len(),
            loaded["width"]
        );
        let pairs = found["probabilities"][0].as_array().unwrap().iter();
        for (found, wanted) in pairs.zip(wanted["probabilities"].as_array().unwrap()) {
            // Q8_0 of a random network against F32.
            let distance = found.as_f64().unwrap() - wanted.as_f64().unwrap();
            assert!(distance.abs() < 0.03, "{distance}");
        }
    }

    fails(encode(&json!({"text": " "})), "invalid_request");
    fails(encode(&json!({"text": "x", "more": 1})), "invalid_request");
    fails(abi::meetara_encoder_load(put(&bytes)), "invalid_request");
    fails(abi::meetara_model_load(put(&chat)), "invalid_request");
    fails(abi::meetara_session_open(0, abi::KV_F16), "invalid_request");
}
