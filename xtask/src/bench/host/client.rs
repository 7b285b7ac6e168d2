//! One user: sends a chat and reads the reply as it comes, over plain HTTP.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a server may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// What a reply took.
pub struct Reply {
    /// From the request to the first text, in seconds.
    pub first_s: f64,
    /// Tokens generated.
    pub tokens: u64,
}

/// Asks `model` at `server` one question.
pub fn ask(server: SocketAddr, model: &str, question: &str, tokens_max: u32) -> Result<Reply> {
    let body = json!({
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": tokens_max,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    let began = Instant::now();
    let body = body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut events = BufReader::new(send(server, &head, &body)?);
    let (mut first_s, mut tokens) = (None, None);
    let mut line = String::new();
    while events.read_line(&mut line)? > 0 {
        let event = line.strip_prefix("data: ").map(str::trim);
        let event = event.filter(|event| *event != "[DONE]");
        if let Some(event) = event {
            let event: Value = serde_json::from_str(event).context("an event is no JSON")?;
            if let Some(error) = event.get("error") {
                bail!("the server failed in mid-reply: {error}");
            }
            let text = event.pointer("/choices/0/delta/content");
            let has_text = text.and_then(Value::as_str).is_some_and(|t| !t.is_empty());
            if has_text && first_s.is_none() {
                first_s = Some(began.elapsed().as_secs_f64());
            }
            let count = event.pointer("/usage/completion_tokens");
            tokens = count.and_then(Value::as_u64).or(tokens);
        }
        line.clear();
    }
    let tokens = tokens.context("a stream without usage")?;
    // A reply may be empty; then its end is the first that is heard.
    let first_s = first_s.unwrap_or_else(|| began.elapsed().as_secs_f64());
    Ok(Reply { first_s, tokens })
}

/// Whether a GET of `path` is answered 200.
pub fn answers(server: SocketAddr, path: &str) -> bool {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    send(server, &head, "").is_ok()
}

/// Sends a request and reads the head of the response, whose status must be 200.
fn send(server: SocketAddr, head: &str, body: &str) -> Result<Body> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.write_all([head, body].concat().as_bytes())?;
    let mut stream = BufReader::new(stream);
    let mut status = String::new();
    stream.read_line(&mut status)?;
    let mut chunked = false;
    loop {
        let mut field = String::new();
        ensure!(stream.read_line(&mut field)? > 0, "the response has no end");
        let field = field.trim().to_ascii_lowercase();
        if field.is_empty() {
            break;
        }
        chunked |= field == "transfer-encoding: chunked";
    }
    if status.split(' ').nth(1) != Some("200") {
        let mut said = String::new();
        // Whatever it says is more than nothing.
        let _ = stream.take(500).read_to_string(&mut said);
        bail!("{} {said}", status.trim());
    }
    let left = if chunked { 0 } else { usize::MAX };
    Ok(Body {
        stream,
        left,
        chunked,
    })
}

/// The body of a response, as it is or in chunks.
struct Body {
    stream: BufReader<TcpStream>,
    /// Bytes left of the chunk.
    left: usize,
    chunked: bool,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 && self.chunked {
            let mut size = String::new();
            // The end of the chunk before is an empty line.
            while size.trim().is_empty() {
                size.clear();
                if self.stream.read_line(&mut size)? == 0 {
                    return Ok(0);
                }
            }
            self.left = usize::from_str_radix(size.trim(), 16)
                .map_err(|_| std::io::Error::other("a chunk without its length"))?;
            if self.left == 0 {
                self.chunked = false;
            }
        }
        let len = buffer.len().min(self.left);
        let read = self.stream.read(&mut buffer[..len])?;
        self.left -= read;
        Ok(read)
    }
}
