//! Conversations side by side: each in an instance of its own, a token each in turn.

mod common;

use std::time::{Duration, Instant};

use common::{Host, endless, error, events, request, text_of, tiny};
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::{Value, json};

const ENDLESS: &str = "meetara:endless";
const ENDLESS_FLAGS: &[&str] = &["--context-max", "100000"];

fn endless_request(more: Value) -> Value {
    let mut body = request(more);
    body["model"] = json!(ENDLESS);
    body["stream"] = json!(true);
    body.as_object_mut().unwrap().remove("max_tokens");
    body
}

fn ask(content: &str) -> Value {
    request(json!({"messages": [{"role": "user", "content": content}]}))
}

fn said(reply: &Value) -> &str {
    reply["choices"][0]["message"]["content"].as_str().unwrap()
}

fn cached(reply: &Value) -> u64 {
    let usage = &reply["usage"]["prompt_tokens_details"];
    usage["cached_tokens"].as_u64().unwrap()
}

#[tokio::test]
async fn many_at_once_hear_what_each_would_hear_alone() {
    let questions: Vec<String> = (0..12)
        .map(|n| {
            format!(
                "{n} reasons to learn about {}",
                ["birds", "trees", "rain"][n % 3]
            )
        })
        .collect();
    let host = Host::start(&[("tiny.gguf", &tiny())], &["--threads", "1"]);
    let mut alone = Vec::new();
    for question in &questions {
        alone.push(said(&host.chat(&ask(question)).await).to_owned());
    }
    assert!(alone.windows(2).any(|pair| pair[0] != pair[1]));
    for threads in ["1", "3"] {
        let host = Host::start(&[("tiny.gguf", &tiny())], &["--threads", threads]);
        let bodies: Vec<Value> = questions.iter().map(|question| ask(question)).collect();
        let replies = join_all(bodies.iter().map(|body| host.chat(body))).await;
        let together: Vec<&str> = replies.iter().map(said).collect();
        assert_eq!(together, alone, "{threads} threads");
    }
}

#[tokio::test]
async fn a_long_reply_holds_nobody_up() {
    let models: [(&str, &[u8]); 1] = [("endless.gguf", &endless())];
    let host = Host::start(&models, &[ENDLESS_FLAGS, &["--threads", "1"]].concat());
    let mut long = host.post(&endless_request(json!({}))).send().await.stream();
    long.next().await.unwrap().unwrap();
    let began = Instant::now();
    host.chat(&request(json!({"model": ENDLESS, "max_tokens": 8})))
        .await;
    assert!(began.elapsed() < Duration::from_secs(10));
    // The long one goes on.
    for _ in 0..5 {
        let next = tokio::time::timeout(Duration::from_secs(10), long.next());
        next.await.expect("in time").unwrap().unwrap();
    }
}

#[tokio::test]
async fn each_conversation_finds_its_own_beginning() {
    let host = Host::tiny();
    let first = ["apples are red and green", "where do rivers begin"];
    let mut chats: Vec<Vec<Value>> = Vec::new();
    for content in first {
        let messages = vec![json!({"role": "user", "content": content})];
        let reply = host.chat(&request(json!({"messages": messages}))).await;
        assert_eq!(cached(&reply), 0, "it is nobody else's");
        let answer = json!({"role": "assistant", "content": said(&reply)});
        chats.push([messages, vec![answer]].concat());
    }
    for mut messages in chats {
        let known = messages.len();
        messages.push(json!({"role": "user", "content": "go on"}));
        let body = request(json!({"messages": messages, "max_tokens": 4}));
        let reply = host.chat(&body).await;
        // The turns before, at least up to the reply, whose text may have other tokens when read.
        assert!(cached(&reply) > 8, "{known} messages, {reply}");
        // And what is cached changes nothing.
        let fresh = Host::tiny().chat(&body).await;
        assert_eq!(said(&fresh), said(&reply));
    }
}

#[tokio::test]
async fn conversations_that_are_kept_have_a_budget() {
    let host = Host::start(&[("tiny.gguf", &tiny())], &["--kept-max-mib", "0"]);
    for _ in 0..2 {
        let reply = host.chat(&request(json!({}))).await;
        assert_eq!(cached(&reply), 0, "none is kept");
    }
}

#[tokio::test]
async fn a_conversation_that_takes_too_much_memory_ends_alone() {
    let models: [(&str, &[u8]); 1] = [("endless.gguf", &endless())];
    let flags = [ENDLESS_FLAGS, &["--conversation-max-mib", "1"]].concat();
    let host = Host::start(&models, &flags);
    let short = request(json!({"model": ENDLESS}));
    let before = host.chat(&short).await;
    let (events, done) = events(host.post(&endless_request(json!({}))).send().await).await;
    assert!(!done);
    let (last, before_it) = events.split_last().unwrap();
    assert_eq!(last["error"]["code"], "overloaded", "{last}");
    let message = last["error"]["message"].as_str().unwrap();
    assert!(message.contains("--conversation-max-mib"), "{message}");
    assert!(!text_of(before_it, 0).is_empty());
    let after = host.chat(&short).await;
    assert_eq!(said(&after), said(&before));
    assert_eq!(host.health().await["models"][0]["state"], "ready");
}

#[tokio::test]
async fn keys_and_values_as_bytes_leave_room_for_almost_twice_as_many_tokens() {
    let models: [(&str, &[u8]); 1] = [("endless.gguf", &endless())];
    let mut tokens = Vec::new();
    for kv_type in ["f16", "q8"] {
        let limits = ["--conversation-max-mib", "1", "--kv-type", kv_type];
        let host = Host::start(&models, &[ENDLESS_FLAGS, &limits].concat());
        let (events, done) = events(host.post(&endless_request(json!({}))).send().await).await;
        let last = events.last().unwrap();
        assert!(!done && last["error"]["code"] == "overloaded", "{last}");
        tokens.push(events.len());
    }
    let ratio = tokens[1] as f64 / tokens[0] as f64;
    assert!(ratio > 1.5 && ratio < 2.2, "{tokens:?} tokens");
}

#[tokio::test]
async fn who_goes_away_while_the_prompt_is_read_frees_the_thread() {
    let models: [(&str, &[u8]); 2] = [("endless.gguf", &endless()), ("tiny.gguf", &tiny())];
    let host = Host::start(&models, &[ENDLESS_FLAGS, &["--threads", "1"]].concat());
    host.chat(&request(json!({}))).await;
    // Tens of thousands of tokens, each of which looks at all before it; labels take one call alone.
    let text = "a b c d e f g h ".repeat(3000);
    let messages = json!([{"role": "user", "content": text}]);
    let choose = json!({"model": ENDLESS, "messages": messages, "labels": ["yes", "no"]});
    let mut chat = endless_request(json!({"messages": messages}));
    // The head of a stream would come at once.
    chat["stream"] = json!(false);
    for (route, body) in [("/v1/choose", choose), ("/v1/chat/completions", chat)] {
        let url = format!("{}{route}", host.rest);
        let request_sent = host.client.post(&url).json(&body).send();
        let gave_up = tokio::time::timeout(Duration::from_millis(400), request_sent).await;
        assert!(gave_up.is_err(), "{route} was too quick to be given up");
        let began = Instant::now();
        host.chat(&request(json!({"max_tokens": 1}))).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{route}");
    }
    host.logged_times("outcome=\"cancelled\"", 2).await;
}

#[tokio::test]
async fn more_than_are_allowed_wait_and_more_than_these_are_refused() {
    let models: [(&str, &[u8]); 1] = [("endless.gguf", &endless())];
    let limits = ["--active-max", "2", "--queue-max", "1"];
    let host = Host::start(&models, &[ENDLESS_FLAGS, &limits].concat());
    let first = host.post(&endless_request(json!({}))).send().await;
    let second = host.post(&endless_request(json!({}))).send().await;
    let body = request(json!({"model": ENDLESS, "max_tokens": 2}));
    let waiting = host.post(&body).send();
    tokio::pin!(waiting);
    let wait = tokio::time::timeout(Duration::from_millis(300), &mut waiting);
    assert!(wait.await.is_err(), "two are served");
    let (status, refused) = error(host.post(&body).send().await).await;
    assert_eq!((status, &refused["code"]), (503, &json!("overloaded")));
    drop(first);
    assert_eq!(waiting.await.status(), 200);
    drop(second);
    assert_eq!(host.chat(&body).await["model"], ENDLESS);
}
