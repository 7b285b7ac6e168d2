//! Starts the real program on free ports, with models made from the tiny random-weight fixture.
//!
//! The component is built here by cargo, with the flags and in the folder of `cargo xtask wasm`,
//! so a test never runs against an old one.

#![allow(
    dead_code,
    unused_imports,
    reason = "every test file uses another part of this"
)]

mod client;
mod folder;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::{Duration, Instant};

use meetara_format::{Gguf, Writer};
use serde_json::{Value, json};

pub use axum::http::{Method, StatusCode, header};
pub use client::{Client, Request, Response};
pub use folder::TempDir;

/// The id of the model in `tiny.gguf`.
pub const TINY: &str = "meetara:tiny";
/// The context of the fixture in tokens.
pub const TINY_CONTEXT: usize = 256;

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The built component.
pub fn component() -> &'static Path {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .expect("cargo's folder for tests lies in the target folder")
            .join("wasm/relaxed");
        let status = Command::new(env!("CARGO"))
            .current_dir(root())
            .args(["build", "--quiet", "--profile", "component"])
            .args([
                "--target",
                "wasm32-unknown-unknown",
                "--package",
                "meetara-component",
            ])
            .env("CARGO_TARGET_DIR", &target)
            .env("RUSTFLAGS", "-C target-feature=+simd128,+relaxed-simd")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status()
            .expect("cargo starts");
        assert!(
            status.success(),
            "the component does not build; `rustup target add wasm32-unknown-unknown`, then see `cargo xtask wasm component`"
        );
        target.join("wasm32-unknown-unknown/component/meetara_component.wasm")
    });
    &BUILT
}

/// The bytes of a random-weight llama with 512 tokens and a context of 256.
pub fn tiny() -> Vec<u8> {
    let path = root().join("tests/vectors/tiny/tiny-q8_0.gguf");
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The fixture with a context so long that a reply of it takes minutes.
pub fn endless() -> Vec<u8> {
    with_context(100_000)
}

/// The fixture with another context length.
pub fn with_context(tokens: u32) -> Vec<u8> {
    changed(|writer| {
        writer.set("llama.context_length", tokens);
    })
}

/// The fixture with other metadata.
pub fn changed(change: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let file = tiny();
    let gguf = Gguf::parse(&file, file.len() as u64).expect("the fixture is sound");
    let mut writer = Writer::from_gguf(&gguf, &file).expect("the fixture is whole");
    change(&mut writer);
    writer.finish().expect("it can be written again")
}

/// A running host. It ends with this value.
pub struct Host {
    child: Child,
    /// `http://127.0.0.1:PORT` of the page.
    pub web: String,
    /// The same of the API.
    pub rest: String,
    log: Arc<Mutex<String>>,
    /// Talks to it.
    pub client: Client,
    folder: TempDir,
}

/// A folder with these files below `models`, and an empty `web`.
pub fn folder(models: &[(&str, &[u8])]) -> TempDir {
    let folder = TempDir::new();
    std::fs::create_dir(folder.path().join("web")).expect("web");
    std::fs::create_dir(folder.path().join("models")).expect("models");
    for (name, bytes) in models {
        let path = folder.path().join("models").join(name);
        std::fs::create_dir_all(path.parent().expect("models")).expect("its folder");
        std::fs::write(path, bytes).expect("a model");
    }
    folder
}

/// The program, told to use `folder` and free ports.
pub fn command(folder: &TempDir, component: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meetara-host"));
    command
        .args(["--web-port", "0", "--rest-port", "0"])
        .arg("--component")
        .arg(component)
        .arg("--models")
        .arg(folder.path().join("models"))
        .arg("--web-dir")
        .arg(folder.path().join("web"))
        .args(flags)
        .env("MEETARA_LOG", "debug")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Host {
    /// Starts it with one model, the fixture.
    pub fn tiny() -> Self {
        Self::start(&[("tiny.gguf", &tiny())], &[])
    }

    /// Starts it with these models and further flags.
    pub fn start(models: &[(&str, &[u8])], flags: &[&str]) -> Self {
        Self::start_in(folder(models), component(), flags)
    }

    /// Starts it in a folder that was made before.
    pub fn start_in(folder: TempDir, component: &Path, flags: &[&str]) -> Self {
        let mut child = command(&folder, component, flags)
            .spawn()
            .expect("the host starts");
        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stderr.take().expect("piped"), Arc::clone(&log));
        let (lines, said) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        let address = |name: &str| {
            let line = said
                .recv_timeout(Duration::from_secs(120))
                .unwrap_or_else(|e| panic!("no line for {name}: {e}\n{}", text(&log)));
            line.strip_prefix(name)
                .unwrap_or_else(|| panic!("{line:?} is not about {name}"))
                .trim()
                .to_owned()
        };
        Self {
            web: address("web"),
            rest: address("rest"),
            child,
            log,
            client: Client::new(),
            folder,
        }
    }

    /// All that was logged so far.
    pub fn log(&self) -> String {
        text(&self.log)
    }

    /// Waits until the log holds `words`.
    pub async fn logged(&self, words: &str) {
        self.logged_times(words, 1).await;
    }

    /// Waits until the log holds `words` so many times.
    pub async fn logged_times(&self, words: &str, times: usize) {
        let began = Instant::now();
        while self.log().matches(words).count() < times {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{words:?} was not logged {times} times:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The folder with `models` and `web`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the program to end by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return status;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn get(&self, path: &str) -> Request {
        self.client.get(&format!("{}{path}", self.rest))
    }

    pub fn page(&self, path: &str) -> Request {
        self.client.get(&format!("{}{path}", self.web))
    }

    /// `POST /v1/chat/completions`.
    pub fn post(&self, body: &Value) -> Request {
        self.client
            .post(&format!("{}/v1/chat/completions", self.rest))
            .json(body)
    }

    /// A whole reply.
    pub async fn chat(&self, body: &Value) -> Value {
        let response = self.post(body).send().await;
        let status = response.status();
        let reply: Value = response.json().await;
        assert_eq!(status, StatusCode::OK, "{reply}");
        reply
    }

    /// The error that a request must give: status, and the `error` object.
    pub async fn error(&self, body: &Value) -> (u16, Value) {
        error(self.post(body).send().await).await
    }

    /// `/health`.
    pub async fn health(&self) -> Value {
        let response = self.get("/health").send().await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stderr: std::process::ChildStderr, log: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut log = log.lock().expect("no thread panics with it");
            log.push_str(&line);
            log.push('\n');
        }
    });
}

fn text(log: &Mutex<String>) -> String {
    log.lock().expect("no thread panics with it").clone()
}

/// A short greedy request to the fixture.
pub fn request(more: Value) -> Value {
    let mut body = json!({
        "model": TINY,
        "messages": [{"role": "user", "content": "What is the best way to learn a thing?"}],
        "temperature": 0,
        "max_tokens": 16,
    });
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

/// Checks the shape of an error response; gives its status and its `error` object.
pub async fn error(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body: Value = response.json().await;
    let error = body["error"].clone();
    for key in ["message", "type", "param", "code"] {
        assert!(error.get(key).is_some(), "{key} is missing in {body}");
    }
    (status, error)
}

/// The payloads of a stream: every event but the final `[DONE]`, and whether that was there.
pub async fn events(response: Response) -> (Vec<Value>, bool) {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await;
    let mut payloads: Vec<&str> = text
        .split_terminator("\n\n")
        .filter(|event| !event.starts_with(':'))
        .map(|event| event.strip_prefix("data: ").expect("data"))
        .collect();
    let done = payloads.last() == Some(&"[DONE]");
    if done {
        payloads.pop();
    }
    let parse = |json: &str| serde_json::from_str(json).expect("JSON");
    (payloads.into_iter().map(parse).collect(), done)
}

/// The text of choice `index` in the events of a stream.
pub fn text_of(events: &[Value], index: u64) -> String {
    events
        .iter()
        .filter_map(|event| event["choices"].get(0))
        .filter(|choice| choice["index"] == index)
        .filter_map(|choice| choice["delta"]["content"].as_str())
        .collect()
}
