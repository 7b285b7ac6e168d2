//! LoRA adapters over one resident base: listed, loaded, mixed, dropped to make room, refused.

mod common;

use common::{Host, Response, TINY, error, request, root, tiny};
use serde_json::{Value, json};

fn adapter(file: &str) -> Vec<u8> {
    let path = root().join("tests/vectors/adapters").join(file);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

async fn post(host: &Host, route: &str, body: Value) -> Response {
    let url = format!("{}{route}", host.rest);
    host.client.post(&url).json(&body).send().await
}

/// The text of a greedy reply.
async fn say(host: &Host, more: Value) -> String {
    let reply = host.chat(&request(more)).await;
    let text = reply["choices"][0]["message"]["content"].as_str();
    text.expect("a reply").to_owned()
}

async fn listed(host: &Host) -> Vec<Value> {
    let list: Value = host.get("/v1/lora_adapters").send().await.json().await;
    assert_eq!(list["object"], "list");
    list["data"].as_array().expect("an array").clone()
}

#[tokio::test]
async fn a_chat_names_adapters_alone_and_mixed() {
    let (all, some) = (adapter("tiny-all.gguf"), adapter("tiny-some.gguf"));
    let host = Host::start(
        &[
            ("tiny.gguf", &tiny()),
            ("nutrition.gguf", &all),
            ("experts/calm.gguf", &some),
        ],
        &[],
    );
    let before = listed(&host).await;
    assert_eq!(before.len(), 2);
    assert_eq!(before[0]["lora_name"], "calm");
    assert_eq!(before[0]["lora_path"], "experts/calm.gguf");
    assert_eq!(before[1]["id"], "meetara:nutrition");
    assert_eq!(before[1]["base_model"], TINY);
    assert_eq!(before[1]["resident"], false);

    let base = say(&host, json!({})).await;
    let reply = host
        .chat(&request(
            json!({"model": "meetara:nutrition", "meetara": {"disclaimer": false}}),
        ))
        .await;
    assert_eq!(reply["model"], "meetara:nutrition");
    let alone = reply["choices"][0]["message"]["content"].as_str().unwrap();
    assert_ne!(alone, base);
    let mixed = |list: Value| say(&host, json!({ "adapters": list }));
    assert_eq!(mixed(json!([{"name": "nutrition"}])).await, alone);
    assert_eq!(
        mixed(json!([{"name": "nutrition", "scale": 0}])).await,
        base
    );
    let both = json!([{"name": "nutrition", "scale": 0.6}, {"name": "meetara:calm", "scale": 1.2}]);
    let both = mixed(both).await;
    assert!(both != base && both != alone);
    assert_eq!(say(&host, json!({})).await, base, "nothing stays behind");
    for line in listed(&host).await {
        assert_eq!(line["resident"], true);
    }

    let (status, error) = host
        .error(&request(json!({"adapters": [{"name": "none"}]})))
        .await;
    assert_eq!((status, &error["code"]), (404, &json!("adapter_not_found")));
}

/// What each kind of task answers, with `more` in its request.
async fn every_task(host: &Host, more: &Value) -> Vec<Value> {
    let chat = json!([{"role": "user", "content": "good day"}]);
    let mut answers = Vec::new();
    for (route, body, answer) in [
        (
            "/v1/chat/completions",
            json!({"messages": chat, "temperature": 0, "max_tokens": 8, "seed": 1}),
            "/choices/0/message/content",
        ),
        (
            "/v1/completions",
            json!({"prompt": "once upon", "temperature": 0, "max_tokens": 8}),
            "/choices/0/text",
        ),
        ("/v1/embeddings", json!({"input": "a text"}), "/data"),
        (
            "/v1/choose",
            json!({"messages": chat, "labels": ["yes", "no", "may be"]}),
            "/data",
        ),
    ] {
        let mut body = body;
        body["model"] = json!(TINY);
        for (key, value) in more.as_object().expect("an object") {
            body[key] = value.clone();
        }
        let reply = post(host, route, body).await;
        assert_eq!(reply.status(), 200, "{route}");
        let reply: Value = reply.json().await;
        let answer = reply.pointer(answer);
        answers.push(answer.unwrap_or_else(|| panic!("{route}: {reply}")).clone());
    }
    answers
}

#[tokio::test]
async fn no_task_sees_the_adapters_of_another() {
    let all = adapter("tiny-all.gguf");
    let host = Host::start(&[("tiny.gguf", &tiny()), ("calm.gguf", &all)], &[]);
    let plain = every_task(&host, &json!({})).await;
    let calm = json!({"adapters": [{"name": "calm", "scale": 2}]});
    let adapted = every_task(&host, &calm).await;
    for (index, (plain, adapted)) in plain.iter().zip(&adapted).enumerate() {
        assert_ne!(plain, adapted, "task {index}");
    }
    // Each task after each with another mix: here all four, there none.
    assert_eq!(every_task(&host, &json!({})).await, plain);
    assert_eq!(every_task(&host, &calm).await, adapted);
    let with_id = every_task(&host, &json!({"model": "meetara:calm"})).await;
    for (with_id, (plain, adapted)) in with_id.iter().zip(plain.iter().zip(&adapted)) {
        assert!(with_id != plain && with_id != adapted);
    }
    // A request that is refused after its adapters were put on leaves none behind.
    let mut long = request(json!({"adapters": [{"name": "calm"}]}));
    long["messages"][0]["content"] = json!("word ".repeat(400));
    assert_eq!(host.error(&long).await.0, 400);
    assert_eq!(every_task(&host, &json!({})).await, plain);
}

#[tokio::test]
async fn adapters_are_loaded_and_unloaded_by_name() {
    let host = Host::start(&[("tiny.gguf", &tiny())], &[]);
    let models = host.folder().join("models");
    std::fs::create_dir(models.join("later")).unwrap();
    std::fs::write(models.join("later/one.gguf"), adapter("tiny-all.gguf")).unwrap();
    std::fs::write(models.join("later/wide.gguf"), adapter("wide-q8.gguf")).unwrap();
    std::fs::write(host.folder().join("secret.gguf"), adapter("tiny-all.gguf")).unwrap();
    let load = |name: &str, path: String| {
        let body = json!({"lora_name": name, "lora_path": path});
        post(&host, "/v1/load_lora_adapter", body)
    };

    let loaded = load("diet", "later/one.gguf".into()).await;
    assert_eq!(loaded.status(), 200);
    assert!(loaded.text().await.contains("'diet'"));
    assert_eq!(listed(&host).await[0]["resident"], true);
    let base = say(&host, json!({})).await;
    let diet = say(&host, json!({"model": "meetara:diet"})).await;
    assert_ne!(diet, base);
    let full = models.join("later/one.gguf").display().to_string();
    assert_eq!(load("again", full).await.status(), 200);
    assert_eq!(say(&host, json!({"model": "again"})).await, diet);

    for (name, path, param, words) in [
        ("diet", "later/one.gguf", "lora_name", "in use"),
        ("tiny", "later/one.gguf", "lora_name", "in use"),
        ("a/b", "later/one.gguf", "lora_name", "letters"),
        ("x", "../secret.gguf", "lora_path", "below the folder"),
        (
            "x",
            "later/../later/one.gguf",
            "lora_path",
            "below the folder",
        ),
        ("x", "/etc/passwd", "lora_path", "below the folder"),
        ("x", "none.gguf", "lora_path", "below the folder"),
    ] {
        let (status, error) = error(load(name, path.into()).await).await;
        assert_eq!((status, &error["param"]), (400, &json!(param)), "{error}");
        assert!(
            error["message"].as_str().unwrap().contains(words),
            "{error}"
        );
    }
    // Sound, but of another base; and no adapter at all. The base goes on.
    for (path, words) in [
        ("later/wide.gguf", "another base"),
        ("tiny.gguf", "general.type"),
    ] {
        let (status, error) = error(load("x", path.into()).await).await;
        let message = error["message"].as_str().unwrap();
        assert_eq!(status, 400, "{error}");
        assert!(
            message.contains("'x'") && message.contains(words),
            "{error}"
        );
    }
    assert_eq!(say(&host, json!({})).await, base);

    let unload = || {
        post(
            &host,
            "/v1/unload_lora_adapter",
            json!({"lora_name": "diet"}),
        )
    };
    assert_eq!(unload().await.status(), 200);
    assert_eq!(unload().await.status(), 404);
    let (status, _) = host.error(&request(json!({"model": "meetara:diet"}))).await;
    assert_eq!(status, 404);
    // The name is free for another file, whose weights are its own.
    std::fs::write(models.join("later/two.gguf"), adapter("tiny-some.gguf")).unwrap();
    assert_eq!(load("diet", "later/two.gguf".into()).await.status(), 200);
    assert_ne!(say(&host, json!({"model": "meetara:diet"})).await, diet);
}

#[tokio::test]
async fn sixty_two_are_listed_and_those_that_fit_stay() {
    let (all, base) = (adapter("tiny-all.gguf"), tiny());
    let names: Vec<String> = (0..62).map(|n| format!("domain{n:02}.gguf")).collect();
    let mut files: Vec<(&str, &[u8])> = vec![("tiny.gguf", &base)];
    files.extend(names.iter().map(|name| (name.as_str(), all.as_slice())));
    // Each takes about 110 kB: 51, and the pages that the engine wrote to while it read them.
    let host = Host::start(&files, &["--adapters-max-mib", "1"]);
    let list: Value = host.get("/v1/models").send().await.json().await;
    assert_eq!(list["data"].as_array().unwrap().len(), 63);
    let first = say(&host, json!({"model": "meetara:domain00", "max_tokens": 4})).await;
    for n in 1..62 {
        let model = format!("meetara:domain{n:02}");
        assert_eq!(
            say(&host, json!({"model": model, "max_tokens": 4})).await,
            first
        );
    }
    let resident = |lines: &[Value]| -> Vec<bool> {
        lines.iter().map(|line| line["resident"] == true).collect()
    };
    let held = resident(&listed(&host).await);
    let count = held.iter().filter(|&&held| held).count();
    assert!((6..15).contains(&count), "{count} are resident");
    assert!(held[62 - count..].iter().all(|&held| held), "the last used");
    // The first was dropped, and comes from disk again.
    assert_eq!(
        say(&host, json!({"model": "domain00", "max_tokens": 4})).await,
        first
    );
    assert!(resident(&listed(&host).await)[0]);
    // One that is held but used longest ago, and others that must be read: all are there together.
    let held = resident(&listed(&host).await);
    let oldest = (1..62).find(|&n| held[n]).expect("more than one is held");
    let mut names = vec![oldest];
    names.extend((1..62).filter(|&n| !held[n]).take(4));
    let mix: Vec<Value> = names
        .iter()
        .map(|n| json!({"name": format!("domain{n:02}"), "scale": 0.2}))
        .collect();
    say(&host, json!({"adapters": mix, "max_tokens": 4})).await;
    let held = resident(&listed(&host).await);
    assert!(names.iter().all(|&n| held[n]));
}
