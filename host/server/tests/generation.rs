//! Log-probabilities, bias, guesses, a shortened conversation, embeddings and choices over REST.

mod common;

use common::{Host, TINY, error, events, request, text_of};
use serde_json::{Value, json};

async fn post(host: &Host, path: &str, body: &Value) -> (u16, Value) {
    let url = format!("{}{path}", host.rest);
    let response = host.client.post(&url).json(body).send().await;
    let status = response.status().as_u16();
    (status, response.json().await)
}

#[tokio::test]
async fn log_probabilities_are_given_for_every_token() {
    let host = Host::tiny();
    let body = request(json!({"logprobs": true, "top_logprobs": 3}));
    let reply = host.chat(&body).await;
    let choice = &reply["choices"][0];
    let content = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 16);
    let mut bytes = Vec::new();
    for token in content {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        // Greedy: the token is the likeliest one.
        assert_eq!(top[0]["logprob"], token["logprob"]);
        assert!(top[0]["logprob"].as_f64() >= top[1]["logprob"].as_f64());
        assert!(token["logprob"].as_f64().unwrap() < 0.0);
        bytes.extend(
            token["bytes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|b| b.as_u64().unwrap() as u8),
        );
    }
    let text = choice["message"]["content"].as_str().unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), text);

    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let (events, done) = events(host.post(&streamed).send().await).await;
    assert!(done);
    let pieces = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array());
    let tokens: Vec<Value> = pieces.flatten().cloned().collect();
    assert_eq!(&tokens, content);
    assert_eq!(text_of(&events, 0), text);
    // A reply by tokens without text of their own is not cut short by them.
    let plain = host.chat(&request(json!({}))).await;
    assert_eq!(plain["choices"][0]["message"], choice["message"]);
    assert!(plain["choices"][0]["logprobs"].is_null());
}

#[tokio::test]
async fn a_bias_changes_the_reply_and_a_token_that_is_none_is_refused() {
    let host = Host::tiny();
    let only =
        |id: u32| json!({"logit_bias": {id.to_string(): 100}, "max_tokens": 5, "logprobs": true});
    let reply = host.chat(&request(only(300))).await;
    let tokens = reply["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert!(
        tokens.len() == 5
            && tokens
                .iter()
                .all(|token| token["token"] == tokens[0]["token"])
    );
    let (status, error) = host.error(&request(only(512))).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_value")));
    assert!(
        error["message"].as_str().unwrap().contains("512"),
        "{error}"
    );
}

#[tokio::test]
async fn guesses_leave_the_reply_as_it_is_and_are_counted() {
    let host = Host::tiny();
    let more = json!({"max_tokens": 120, "temperature": 0.4, "seed": 5});
    let plain = host.chat(&request(more.clone())).await;
    let mut body = request(more);
    body["draft_max"] = json!(8);
    body["lookup_ngram"] = json!(1);
    let guessed = host.chat(&body).await;
    assert_eq!(guessed["choices"], plain["choices"]);
    let details = &guessed["usage"]["completion_tokens_details"];
    let count = |key: &str| details[key].as_u64().unwrap();
    assert!(
        count("accepted_prediction_tokens") + count("rejected_prediction_tokens") > 0,
        "{details}"
    );
}

#[tokio::test]
async fn a_long_conversation_is_shortened_when_asked() {
    let host = Host::tiny();
    let mut messages = vec![json!({"role": "system", "content": "be brief"})];
    for n in 0..30 {
        messages.push(json!({"role": "user", "content": format!("question number {n}, please")}));
        messages.push(json!({"role": "assistant", "content": "an answer"}));
    }
    messages.push(json!({"role": "user", "content": "and now?"}));
    let body = request(json!({"messages": messages}));
    let (status, error) = host.error(&body).await;
    assert_eq!(
        (status, &error["code"]),
        (400, &json!("context_length_exceeded"))
    );
    let mut body = body.clone();
    body["context_shift"] = json!(true);
    body["max_tokens"] = json!(200);
    let reply = host.chat(&body).await;
    assert_eq!(reply["usage"]["completion_tokens"], 200);
    assert!(
        reply["usage"]["dropped_messages"].as_u64().unwrap() > 20,
        "{}",
        reply["usage"]
    );
}

#[tokio::test]
async fn embeddings_are_the_same_in_both_encodings_and_leave_the_conversation_alone() {
    let host = Host::tiny();
    host.chat(&request(json!({}))).await;
    let body = json!({"model": TINY, "input": ["a first text", "and a second"]});
    let (status, reply) = post(&host, "/v1/embeddings", &body).await;
    assert_eq!(status, 200, "{reply}");
    assert_eq!(
        (&reply["object"], &reply["model"]),
        (&json!("list"), &json!(TINY))
    );
    let vector = |index: usize| -> Vec<f32> {
        let list = reply["data"][index]["embedding"].as_array().unwrap();
        list.iter().map(|x| x.as_f64().unwrap() as f32).collect()
    };
    let norm: f32 = vector(0).iter().map(|x| x * x).sum();
    assert!((norm - 1.0).abs() < 1e-5 && vector(0) != vector(1));
    assert!(reply["usage"]["prompt_tokens"].as_u64().unwrap() > 4);

    let body = json!({"model": TINY, "input": "a first text", "encoding_format": "base64"});
    let (_, coded) = post(&host, "/v1/embeddings", &body).await;
    let text = coded["data"][0]["embedding"].as_str().unwrap();
    assert_eq!(text.len(), (vector(0).len() * 4).div_ceil(3) * 4);

    let again = host.chat(&request(json!({}))).await;
    let usage = &again["usage"];
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
    assert_eq!(
        cached.unwrap() + 1,
        usage["prompt_tokens"].as_u64().unwrap()
    );

    for (body, status) in [
        (json!({"model": TINY, "input": "x".repeat(4000)}), 400),
        (json!({"model": TINY, "input": []}), 400),
        (json!({"model": "none", "input": "x"}), 404),
    ] {
        let url = format!("{}/v1/embeddings", host.rest);
        let sent = host.client.post(&url).json(&body).send().await;
        assert_eq!(error(sent).await.0, status);
    }
}

#[tokio::test]
async fn a_choice_among_labels_has_probabilities() {
    let host = Host::tiny();
    let body = json!({
        "model": TINY,
        "messages": [{"role": "user", "content": "Is it so?"}],
        "labels": ["yes", "no", "perhaps"],
    });
    let (status, reply) = post(&host, "/v1/choose", &body).await;
    assert_eq!(status, 200, "{reply}");
    let data = reply["data"].as_array().unwrap();
    let labels: Vec<&Value> = data.iter().map(|choice| &choice["label"]).collect();
    assert_eq!(labels, ["yes", "no", "perhaps"]);
    let sum: f64 = data
        .iter()
        .map(|choice| choice["probability"].as_f64().unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-5);
    for (key, value) in [
        ("labels", json!(["a", "a"])),
        ("labels", json!([""])),
        ("labels", json!([])),
    ] {
        let mut wrong = body.clone();
        wrong[key] = value;
        let (status, reply) = post(&host, "/v1/choose", &wrong).await;
        assert_eq!(
            (status, &reply["error"]["code"]),
            (400, &json!("invalid_value"))
        );
        assert!(
            reply["error"]["message"]
                .as_str()
                .unwrap()
                .contains("labels")
        );
    }
}

#[tokio::test]
async fn a_text_is_continued() {
    let host = Host::tiny();
    let body =
        json!({"model": TINY, "prompt": "Once upon a time", "temperature": 0, "max_tokens": 12});
    let (status, whole) = post(&host, "/v1/completions", &body).await;
    assert_eq!(status, 200, "{whole}");
    assert_eq!(whole["object"], "text_completion");
    assert!(whole["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(whole["usage"]["completion_tokens"], 12);
    let text = whole["choices"][0]["text"].as_str().unwrap();
    assert!(!text.is_empty());

    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let url = format!("{}/v1/completions", host.rest);
    let (events, done) = events(host.client.post(&url).json(&streamed).send().await).await;
    assert!(done);
    let pieces = events
        .iter()
        .map(|event| event["choices"][0]["text"].as_str().unwrap());
    assert_eq!(pieces.collect::<String>(), text);
    assert_eq!(
        events.last().unwrap()["choices"][0]["finish_reason"],
        "length"
    );
    let mut wrong = body.clone();
    wrong["echo"] = json!(true);
    assert_eq!(post(&host, "/v1/completions", &wrong).await.0, 400);
}

#[tokio::test]
async fn orchestrators_are_answered() {
    let host = Host::tiny();
    assert_eq!(host.get("/healthz").send().await.text().await, "ok");
    assert_eq!(host.get("/readyz").send().await.status(), 200);
    let none = Host::start(&[("bad.gguf", b"not a model")], &[]);
    assert_eq!(none.get("/healthz").send().await.status(), 200);
    assert_eq!(error(none.get("/readyz").send().await).await.0, 503);
}
