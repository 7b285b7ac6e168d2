//! OpenAI's routes as a client meets them.

mod common;

use common::{Host, TINY, TINY_CONTEXT, error, events, request, text_of};
use serde_json::{Value, json};

#[tokio::test]
async fn models_are_listed_and_found() {
    let host = Host::tiny();
    let list: Value = host.get("/v1/models").send().await.json().await;
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    let model = &list["data"][0];
    assert_eq!(
        (&model["id"], &model["object"]),
        (&json!(TINY), &json!("model"))
    );
    assert!(model["created"].as_u64().unwrap() > 1_600_000_000);
    assert!(model["owned_by"].is_string());

    for id in [TINY, "tiny"] {
        let found = host.get(&format!("/v1/models/{id}")).send().await;
        assert_eq!(found.status(), 200);
        assert_eq!(&found.json().await, model);
    }
    let (status, error) = error(host.get("/v1/models/none").send().await).await;
    assert_eq!((status, &error["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn a_whole_reply_has_every_required_key() {
    let host = Host::tiny();
    let reply = host.chat(&request(json!({}))).await;
    assert_eq!(reply["object"], "chat.completion");
    assert_eq!(reply["model"], TINY);
    assert!(reply["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(
        reply["system_fingerprint"]
            .as_str()
            .unwrap()
            .starts_with("fp_")
    );
    let choice = &reply["choices"][0];
    assert_eq!(choice["index"], 0);
    assert_eq!(choice["finish_reason"], "length");
    assert!(choice.get("logprobs").is_some_and(Value::is_null));
    assert_eq!(choice["message"]["role"], "assistant");
    assert!(choice["message"].get("refusal").is_some_and(Value::is_null));
    assert!(!choice["message"]["content"].as_str().unwrap().is_empty());
    let usage = &reply["usage"];
    assert_eq!(usage["completion_tokens"], 16);
    let prompt = usage["prompt_tokens"].as_u64().unwrap();
    assert!(prompt > 12);
    assert_eq!(usage["total_tokens"], prompt + 16);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);

    // The same request again: the same greedy answer, and its prompt is known.
    let again = host.chat(&request(json!({}))).await;
    assert_eq!(again["choices"], reply["choices"]);
    assert_ne!(again["id"], reply["id"]);
    assert!(
        again["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
            > 0
    );
}

#[tokio::test]
async fn a_stream_says_what_the_whole_reply_says() {
    let host = Host::tiny();
    let whole = host.chat(&request(json!({}))).await;
    for include_usage in [false, true] {
        let body = request(json!({
            "stream": true,
            "stream_options": {"include_usage": include_usage},
        }));
        let (events, done) = events(host.post(&body).send().await).await;
        assert!(done);
        assert!(events.iter().all(|event| {
            event["object"] == "chat.completion.chunk"
                && event["id"] == events[0]["id"]
                && event["created"] == events[0]["created"]
                && event["model"] == TINY
                && event.get("usage").is_some() == include_usage
        }));
        let first = &events[0]["choices"][0];
        assert_eq!(
            first["delta"],
            json!({"role": "assistant", "content": "", "refusal": null})
        );
        assert_eq!(
            text_of(&events, 0),
            whole["choices"][0]["message"]["content"]
        );
        let mut rest = events.iter().rev();
        if include_usage {
            let last = rest.next().unwrap();
            assert_eq!(last["choices"], json!([]));
            assert_eq!(last["usage"]["completion_tokens"], 16);
            assert_eq!(
                last["usage"]["prompt_tokens"],
                whole["usage"]["prompt_tokens"]
            );
        }
        let finish = &rest.next().unwrap()["choices"][0];
        assert_eq!(
            (&finish["delta"], &finish["finish_reason"]),
            (&json!({}), &json!("length"))
        );
        assert!(rest.all(|event| event["choices"][0]["finish_reason"].is_null()));
    }
}

#[tokio::test]
async fn a_stop_string_ends_the_reply_and_is_not_part_of_it() {
    let host = Host::tiny();
    let whole = host.chat(&request(json!({"max_tokens": 64}))).await;
    let content = whole["choices"][0]["message"]["content"].as_str().unwrap();
    // Ten characters from the middle lie across the borders of tokens.
    let middle: String = content.chars().skip(20).take(10).collect();
    let before = &content[..content.find(&middle).unwrap()];

    let body = request(json!({"max_tokens": 64, "stop": [middle.as_str(), "never said"]}));
    let stopped = host.chat(&body).await;
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    assert_eq!(stopped["choices"][0]["message"]["content"], before);

    let body = request(json!({"max_tokens": 64, "stop": middle, "stream": true}));
    let (events, done) = events(host.post(&body).send().await).await;
    assert!(done);
    assert_eq!(text_of(&events, 0), before);
}

#[tokio::test]
async fn sampling_follows_its_seed_and_its_parameters() {
    let host = Host::tiny();
    let sampled = async |more: Value| {
        let mut body = request(json!({"temperature": 1.5, "max_tokens": 24}));
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        let reply = host.chat(&body).await;
        reply["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let one = sampled(json!({"seed": 1})).await;
    assert_eq!(one, sampled(json!({"seed": 1})).await);
    assert_ne!(one, sampled(json!({"seed": 2})).await);
    assert_ne!(
        sampled(json!({})).await,
        sampled(json!({})).await,
        "no seed: another each time"
    );

    // Only the likeliest token remains: the seed no longer matters.
    let greedy = host.chat(&request(json!({"max_tokens": 24}))).await;
    for only_best in [
        json!({"top_k": 1}),
        json!({"min_p": 1.0}),
        json!({"top_p": 1e-6}),
    ] {
        let text = sampled(only_best).await;
        assert_eq!(greedy["choices"][0]["message"]["content"], text);
    }
    // A penalty changes a greedy answer that repeats itself, as this model's do.
    for penalty in ["repeat_penalty", "presence_penalty", "frequency_penalty"] {
        let other = host
            .chat(&request(json!({"max_tokens": 64, penalty: 2.0})))
            .await;
        let plain = host.chat(&request(json!({"max_tokens": 64}))).await;
        assert_ne!(other["choices"], plain["choices"], "{penalty}");
    }
}

#[tokio::test]
async fn several_answers_to_one_prompt() {
    let host = Host::tiny();
    let more = json!({"n": 3, "temperature": 1.5, "seed": 7});
    let whole = host.chat(&request(more.clone())).await;
    let choices = whole["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3);
    assert_ne!(choices[0]["message"], choices[1]["message"]);
    assert_eq!(whole["usage"]["completion_tokens"], 48);

    let mut body = request(more);
    body["stream"] = json!(true);
    let (events, done) = events(host.post(&body).send().await).await;
    assert!(done);
    for index in 0..3 {
        let whole = &choices[index as usize]["message"]["content"];
        assert_eq!(whole, &text_of(&events, index), "answer {index}");
    }
}

#[tokio::test]
async fn the_context_ends_a_reply_and_refuses_a_prompt() {
    let host = Host::tiny();
    let mut body = request(json!({}));
    body.as_object_mut().unwrap().remove("max_tokens");
    let full = host.chat(&body).await;
    assert_eq!(full["choices"][0]["finish_reason"], "length");
    let total = full["usage"]["total_tokens"].as_u64().unwrap() as usize;
    assert!(
        (TINY_CONTEXT - 1..=TINY_CONTEXT + 1).contains(&total),
        "{total}"
    );

    for stream in [false, true] {
        let long = "far too long ".repeat(300);
        let body =
            request(json!({"messages": [{"role": "user", "content": long}], "stream": stream}));
        let (status, error) = host.error(&body).await;
        assert_eq!(
            (status, &error["code"]),
            (400, &json!("context_length_exceeded"))
        );
        assert_eq!(error["type"], "invalid_request_error");
    }
    // The session is of use afterwards.
    host.chat(&request(json!({}))).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said() {
    let host = Host::tiny();
    for body in ["", "{", "[]", "\"x\"", "{\"model\":\u{1}}"] {
        let sent = host.post(&json!(null)).body(body).send().await;
        let (status, error) = error(sent).await;
        assert_eq!(
            (status, &error["code"]),
            (400, &json!("invalid_json")),
            "{body}"
        );
    }
    for (more, status, code) in [
        (json!({"model": "meetara:none"}), 404, "model_not_found"),
        (json!({"temperature": 3}), 400, "invalid_value"),
        (json!({"messages": []}), 400, "invalid_value"),
        (json!({"temprature": 1}), 400, "unknown_parameter"),
        (
            json!({"tools": [{"type": "function"}]}),
            400,
            "unsupported_parameter",
        ),
        (json!({"stream_options": {}}), 400, "invalid_value"),
    ] {
        let (found, error) = host.error(&request(more.clone())).await;
        assert_eq!(
            (found, error["code"].as_str().unwrap()),
            (status, code),
            "{more}"
        );
    }

    let url = |path: &str| format!("{}{path}", host.rest);
    let (status, found) = error(host.client.post(&url("/v1/nothing")).send().await).await;
    assert_eq!((status, &found["code"]), (404, &json!("not_found")));
    let get = host.client.get(&url("/v1/chat/completions")).send().await;
    assert_eq!(get.headers()["allow"], "POST");
    assert_eq!(error(get).await.0, 405);
    assert_eq!(
        error(host.client.post(&url("/health")).send().await)
            .await
            .0,
        405
    );

    let huge = "x".repeat((1 << 20) + 1);
    let body = request(json!({"messages": [{"role": "user", "content": huge}]}));
    let (status, found) = host.error(&body).await;
    assert_eq!((status, &found["code"]), (413, &json!("payload_too_large")));
}

#[tokio::test]
async fn responses_carry_an_id_and_are_not_kept() {
    let host = Host::tiny();
    let one = host.get("/health").send().await;
    let two = host.post(&json!({})).send().await;
    for response in [&one, &two] {
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }
    assert_ne!(one.headers()["x-request-id"], two.headers()["x-request-id"]);
}

#[tokio::test]
async fn requests_in_parallel_are_all_answered_alike() {
    let host = Host::tiny();
    let alone = host.chat(&request(json!({}))).await;
    let body = request(json!({}));
    let (a, b, c, d) = tokio::join!(
        host.chat(&body),
        host.chat(&body),
        host.chat(&body),
        host.chat(&body)
    );
    for reply in [a, b, c, d] {
        assert_eq!(reply["choices"], alone["choices"]);
    }
}

#[tokio::test]
async fn the_log_never_holds_a_word_of_a_conversation() {
    let host = Host::tiny();
    let said = "xylophone-4711";
    let message = |text: &str| json!({"messages": [{"role": "user", "content": text}]});
    let reply = host.chat(&request(message(said))).await;
    host.error(&request(message(&said.repeat(200)))).await;
    host.error(&request(json!({"model": said}))).await;
    host.error(&request(json!({said: 1}))).await;
    host.post(&json!(null)).body(said).send().await;
    host.get(&format!("/{said}?{said}")).send().await;
    host.get(&format!("/v1/models/{said}")).send().await;
    host.page(&format!("/{said}")).send().await;
    host.logged("route=\"/v1/models/{id}\"").await;
    let log = host.log();
    assert!(log.contains("completion_tokens=16"), "{log}");
    assert!(!log.contains(said), "{log}");
    let answer = reply["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(!log.contains(answer), "{log}");
}
