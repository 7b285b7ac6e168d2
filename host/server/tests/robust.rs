//! Bad days: clients that go away, files that lie, queues that are full, limits that are met.

mod common;

use std::time::{Duration, Instant};

use common::{Host, TINY, changed, endless, error, events, request, tiny, with_context};
use futures_util::StreamExt;
use serde_json::{Value, json};

const ENDLESS: &str = "meetara:endless";
const ENDLESS_FLAGS: &[&str] = &["--context-max", "100000"];

/// A request whose reply takes minutes.
fn endless_request(stream: bool) -> Value {
    let mut body = request(json!({"model": ENDLESS, "stream": stream}));
    body.as_object_mut().unwrap().remove("max_tokens");
    body
}

#[tokio::test]
async fn a_client_that_goes_away_mid_reply_frees_the_model() {
    let host = Host::start(&[("endless.gguf", &endless())], ENDLESS_FLAGS);

    let response = host.post(&endless_request(true)).send().await;
    let mut body = response.stream();
    for _ in 0..3 {
        body.next().await.unwrap().unwrap();
    }
    drop(body);
    let began = Instant::now();
    host.chat(&request(json!({"model": ENDLESS}))).await;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    host.logged("outcome=\"cancelled\"").await;

    // Without a stream there is nothing to write to, yet the closed connection is noticed.
    let patience = Duration::from_millis(300);
    let gave_up = tokio::time::timeout(patience, host.post(&endless_request(false)).send());
    assert!(gave_up.await.is_err());
    let began = Instant::now();
    host.chat(&request(json!({"model": ENDLESS}))).await;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    host.logged_times("outcome=\"cancelled\"", 2).await;
}

#[tokio::test]
async fn a_full_queue_is_said_and_other_models_go_on() {
    let models: [(&str, &[u8]); 2] = [("endless.gguf", &endless()), ("tiny.gguf", &tiny())];
    let host = Host::start(
        &models,
        &[ENDLESS_FLAGS, &["--active-max", "1", "--queue-max", "1"]].concat(),
    );
    let running = host.post(&endless_request(true)).send().await;
    let waiting = host.post(&endless_request(true)).send();
    let refused = async {
        // The waiting request must be there first.
        tokio::time::sleep(Duration::from_millis(300)).await;
        host.post(&endless_request(true)).send().await
    };
    let refused = tokio::select! {
        _ = waiting => panic!("one request at a time"),
        refused = refused => refused,
    };
    assert!(
        refused.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 0
    );
    let (status, error) = error(refused).await;
    assert_eq!((status, &error["code"]), (503, &json!("overloaded")));

    host.chat(&request(json!({}))).await;
    drop(running);
    host.chat(&request(json!({"model": ENDLESS}))).await;
}

#[tokio::test]
async fn files_that_lie_are_reported_and_stop_nobody() {
    let good = tiny();
    let cut = &good[..good.len() / 2];
    let mut no_end = good.clone();
    // The count of tensors, then of metadata, after magic and version.
    no_end[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut other_version = good.clone();
    other_version[4] = 99;
    // Headers that are sound, but contradict the tensors or ask for what is not there.
    let no_heads = changed(|w| {
        w.set("llama.attention.head_count", 0_u32);
    });
    let deep = changed(|w| {
        w.set("llama.block_count", 4_000_000_000_u32);
    });
    let foreign = changed(|w| {
        w.set("general.architecture", "mamba");
    });
    let no_template = changed(|w| {
        w.remove("tokenizer.chat_template");
    });
    let host = Host::start(
        &[
            ("a/tiny.gguf", &good),
            ("empty.gguf", b""),
            ("short.gguf", b"GGUF"),
            ("text.gguf", b"this is no model, but a text of some length"),
            ("cut.gguf", cut),
            ("no-end.gguf", &no_end),
            ("other-version.gguf", &other_version),
            ("no-heads.gguf", &no_heads),
            ("deep.gguf", &deep),
            ("foreign.gguf", &foreign),
            ("no-template.gguf", &no_template),
            ("notes.txt", b"not even named like one"),
        ],
        &[],
    );
    let state = async |name: &str| {
        let health = host.health().await;
        let models = health["models"].as_array().unwrap().clone();
        let id = format!("meetara:{name}");
        models
            .into_iter()
            .find(|m| m["id"] == id)
            .unwrap_or_else(|| panic!("{name}: {health}"))
    };

    for name in ["empty", "short", "text", "cut", "no-end", "other-version"] {
        let model = state(name).await;
        assert_eq!(model["state"], "failed", "{model}");
        assert!(model["reason"].as_str().unwrap().len() > 10, "{model}");
        let (status, error) = host.error(&request(json!({"model": model["id"]}))).await;
        assert_eq!(
            (status, &error["code"]),
            (503, &json!("model_unavailable")),
            "{name}"
        );
    }
    // These are found out when they are loaded.
    for name in ["no-heads", "deep", "foreign", "no-template"] {
        let id = format!("meetara:{name}");
        for _ in 0..2 {
            let (status, error) = host.error(&request(json!({"model": id}))).await;
            assert_eq!(
                (status, &error["code"]),
                (503, &json!("model_unavailable")),
                "{name}"
            );
        }
        let model = state(name).await;
        assert_eq!(model["state"], "failed", "{model}");
    }

    let list: Value = host.get("/v1/models").send().await.json().await;
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(state("tiny").await["state"], "idle");
    host.chat(&request(json!({}))).await;
    let model = state("tiny").await;
    assert_eq!(model["state"], "ready");
    assert_eq!(model["context_max"], 256);
    assert!(model["memory_bytes"].as_u64().unwrap() > good.len() as u64);
}

#[tokio::test]
async fn a_model_that_needs_more_memory_than_allowed_is_an_error_and_not_a_crash() {
    let long = with_context(5_000_000);
    let models: [(&str, &[u8]); 2] = [("tiny.gguf", &tiny()), ("long.gguf", &long)];
    let limit = ["--memory-max-mib", "64"];
    let host = Host::start(
        &models,
        &[&limit[..], &["--context-max", "5000000"]].concat(),
    );
    let body = request(json!({"model": "meetara:long"}));
    let (status, error) = host.error(&body).await;
    assert_eq!(
        (status, &error["code"]),
        (503, &json!("overloaded")),
        "{error}"
    );
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("--memory-max-mib"),
        "{error}"
    );
    host.chat(&request(json!({}))).await;

    // A shorter context makes it fit.
    let host = Host::start(&models, &[&limit[..], &["--context-max", "512"]].concat());
    host.chat(&body).await;
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_stopped() {
    // Clearing 320 MB for a context of this length takes longer than the limit.
    let slow = with_context(16_000_000);
    let models: [(&str, &[u8]); 1] = [("slow.gguf", &slow)];
    let flags = [
        "--call-max-ms",
        "60",
        "--memory-max-mib",
        "4096",
        "--context-max",
        "16000000",
    ];
    let host = Host::start(&models, &flags);
    let (status, error) = host.error(&request(json!({"model": "meetara:slow"}))).await;
    assert_eq!(status, 500, "{error}");
    assert!(
        error["message"].as_str().unwrap().contains("--call-max-ms"),
        "{error}"
    );
    assert_eq!(
        host.health().await["models"][0]["state"],
        "idle",
        "another try may succeed"
    );
}

#[tokio::test]
async fn an_unused_model_gives_its_memory_back() {
    let host = Host::start(&[("tiny.gguf", &tiny())], &["--idle-s", "1"]);
    let first = host.chat(&request(json!({}))).await;
    host.logged("unused").await;
    assert_eq!(host.health().await["models"][0]["state"], "idle");
    let second = host.chat(&request(json!({}))).await;
    assert_eq!(first["choices"], second["choices"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_request_to_stop_lets_replies_end_and_then_ends_them() {
    let models: [(&str, &[u8]); 2] = [("endless.gguf", &endless()), ("tiny.gguf", &tiny())];
    let mut host = Host::start(&models, &[ENDLESS_FLAGS, &["--grace-s", "1"]].concat());
    host.chat(&request(json!({}))).await;
    let response = host.post(&endless_request(true)).send().await;
    let terminated = std::process::Command::new("kill")
        .args(["-TERM", &host.process_id().to_string()])
        .status()
        .unwrap();
    assert!(terminated.success());
    // The stream ends with one error event, and without [DONE].
    let (events, done) = events(response).await;
    assert!(!done);
    let (last, before) = events.split_last().unwrap();
    assert_eq!(last["error"]["code"], "overloaded", "{last}");
    assert!(before.len() > 2 && before.iter().all(|event| event.get("error").is_none()));
    assert!(host.ended().await.success());
}

#[tokio::test]
async fn ids_follow_the_names_of_files() {
    let bytes = tiny();
    let adapter = changed(|w| {
        w.set("general.type", "adapter");
    });
    let host = Host::start(
        &[
            ("Tiny.gguf", &bytes),
            ("other/tiny.gguf", &bytes),
            ("lora.gguf", &adapter),
        ],
        &[],
    );
    let list: Value = host.get("/v1/models").send().await.json().await;
    let ids: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["id"])
        .collect();
    assert_eq!(ids, ["meetara:other-tiny", TINY, "meetara:lora"]);
}
