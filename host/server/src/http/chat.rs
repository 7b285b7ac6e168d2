//! `POST /v1/chat/completions` and `/v1/completions`: one body, or a stream of server-sent events.
//!
//! A stream's status is decided by the first event of the worker: what is wrong with a request
//! gives a status and a JSON body; only what goes wrong later becomes an event of the stream.
//!
//! Before a model is asked, [`read`](super::read) reads what the person wrote. When somebody may need help at once, the
//! answer is a fixed text, and the model is not asked. A disclaimer ends the text of the first answer that needs it.
//!
//! When the client goes away, hyper drops the handler or the body, with it the receiver of the
//! worker's events, and the worker stops before its next step.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use meetara_api::{
    AdapterUse, ApiError, BODY_BYTES_MAX, ChatRequest, Choice, ChoiceLogprobs, FinishReason, Head,
    MeetaraOptions, Message, Prompt, SSE_CONTENT_TYPE, SSE_DONE, Sampling, TextRequest,
    TokenLogprob, Usage, turns_of,
};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::error::Failure;
use super::read::{Before, before};
use super::rest::App;
use crate::models::{Event, Job, Task};

/// A comment is sent when a stream was silent for so long, so that nothing on the way gives up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// 128 random bits.
pub(super) fn random() -> u128 {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Ids must differ and seeds should; neither is a secret, so the clock will do.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        return now.map_or(0, |since| since.as_nanos());
    }
    u128::from_le_bytes(bytes)
}

fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The request's body, or why it cannot be had.
pub(super) fn whole_body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, ApiError> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::payload_too_large(BODY_BYTES_MAX),
        _ => ApiError::invalid_json("The request body could not be read to its end."),
    })
}

/// The handler of `/v1/chat/completions`.
pub(super) async fn completions(
    State(app): State<App>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let request = ChatRequest::parse(&whole_body(body)?)?;
    let asked = Asked {
        model: request.model,
        adapters: request.adapters,
        turns: turns_of(&request.messages),
        meetara: request.meetara,
        prompt: Prompt::Chat(request.messages),
        sampling: request.sampling,
        n: request.n,
        stream: request.stream,
        include_usage: request.include_usage,
    };
    answer(&app, asked).await
}

/// The handler of `/v1/completions`.
pub(super) async fn texts(
    State(app): State<App>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let request = TextRequest::parse(&whole_body(body)?)?;
    let asked = Asked {
        model: request.model,
        adapters: request.adapters,
        turns: vec![request.prompt.clone()],
        meetara: MeetaraOptions::default(),
        prompt: Prompt::Text(request.prompt),
        sampling: request.sampling,
        n: request.n,
        stream: request.stream,
        include_usage: request.include_usage,
    };
    answer(&app, asked).await
}

/// What the two routes have in common.
struct Asked {
    model: String,
    adapters: Vec<AdapterUse>,
    /// What the person wrote.
    turns: Vec<String>,
    meetara: MeetaraOptions,
    prompt: Prompt,
    sampling: Sampling,
    n: u32,
    stream: bool,
    include_usage: bool,
}

async fn answer(app: &App, asked: Asked) -> Result<Response, Failure> {
    let mut target = app.registry.target(&asked.model, &asked.adapters)?;
    let no_disclaimer_text = asked.meetara.no_disclaimer_text;
    let Before { meetara, help } = before(app, &mut target, asked.turns, asked.meetara).await?;
    let model = target.model;
    let mut head = Head::new(
        random(),
        unix_s(),
        &target.id,
        &model.fingerprint,
        asked.include_usage,
    )
    .with_meetara(&meetara);
    if matches!(asked.prompt, Prompt::Text(_)) {
        head = head.into_text();
    }
    if let Some(help) = help {
        return Ok(instead(head, &help, asked.n, asked.stream));
    }
    let is_plain = asked.sampling.constraint.is_none() && asked.sampling.top_logprobs.is_none();
    let postscript = match (&asked.prompt, meetara.disclaimer) {
        (Prompt::Chat(messages), Some(disclaimer))
            if is_plain && !no_disclaimer_text && !was_said(messages, &disclaimer) =>
        {
            format!("\n\n{disclaimer}")
        }
        _ => String::new(),
    };
    let seed = random() as u64;
    let samplings = (0..asked.n)
        .map(|index| asked.sampling.of_answer(index, seed))
        .collect();
    let task = Task::Reply {
        prompt: asked.prompt,
        samplings,
    };
    let adapters = target.mix;
    let mut events = app.registry.submit(model, Job { task, adapters })?;
    let shape = Shape {
        n: asked.n,
        logprobs: asked.sampling.top_logprobs.is_some(),
        postscript,
    };
    match next(&mut events).await {
        Event::Failed(error) => Err(error
            .of_constraint(asked.sampling.constraint.as_ref())
            .into()),
        Event::Started if asked.stream => Ok(streamed(head, events, shape)),
        _ => whole(head, events, shape).await,
    }
}

/// Whether an earlier answer ends in the disclaimer.
fn was_said(messages: &[Message], disclaimer: &str) -> bool {
    let mut answers = messages
        .iter()
        .filter(|message| message.role == "assistant");
    answers.any(|message| message.content.ends_with(disclaimer))
}

/// A fixed text in the place of each answer.
fn instead(head: Head, text: &str, n: u32, stream: bool) -> Response {
    let reason = FinishReason::ContentFilter;
    let usage = Usage::default();
    if !stream {
        let choice = |index| Choice::new(index, text.to_owned(), reason);
        let choices = (0..n).map(choice).collect();
        return if head.is_text() {
            Json(head.text_completion(choices, usage)).into_response()
        } else {
            Json(head.completion(choices, usage)).into_response()
        };
    }
    let mut events = String::new();
    for index in 0..n {
        events.push_str(&head.sse_role(index));
        events.push_str(&head.sse_text(index, text, None));
        events.push_str(&head.sse_finish(index, reason));
    }
    events.push_str(&head.sse_usage(&usage));
    events.push_str(SSE_DONE);
    (sse_headers(), events).into_response()
}

/// Headers of a stream.
fn sse_headers() -> [(header::HeaderName, &'static str); 2] {
    [
        (header::CONTENT_TYPE, SSE_CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-cache"),
    ]
}

/// What a reply consists of.
#[derive(Clone)]
struct Shape {
    /// Answers.
    n: u32,
    /// Whether log-probabilities were asked for.
    logprobs: bool,
    /// Ends the text of each answer; empty: nothing does.
    postscript: String,
}

impl Shape {
    fn logprobs(&self, content: impl IntoIterator<Item = TokenLogprob>) -> Option<ChoiceLogprobs> {
        let all = || ChoiceLogprobs::new(content.into_iter().collect());
        self.logprobs.then(all)
    }
}

/// The worker's next event; a worker that is gone has failed.
pub(super) async fn next(events: &mut UnboundedReceiver<Event>) -> Event {
    let gone = || ApiError::internal("The model's worker stopped. Try again.");
    let event = events.recv().await;
    event.unwrap_or_else(|| Event::Failed(gone()))
}

/// Adds the cost of one more answer.
fn add(total: Option<Usage>, usage: Usage) -> Usage {
    match total {
        None => usage,
        Some(mut total) => {
            total.add_choice(&usage);
            total
        }
    }
}

async fn whole(
    head: Head,
    mut events: UnboundedReceiver<Event>,
    shape: Shape,
) -> Result<Response, Failure> {
    let mut choices = Vec::new();
    let (mut content, mut tokens) = (String::new(), Vec::new());
    let mut total = None;
    for index in 0..shape.n {
        loop {
            match next(&mut events).await {
                Event::Started | Event::Embedded(..) | Event::Chosen(..) | Event::Loaded => {}
                Event::Piece { text, logprobs } => {
                    content.push_str(&text);
                    tokens.extend(logprobs);
                }
                Event::Finished(reason, usage) => {
                    content.push_str(&shape.postscript);
                    let choice = Choice::new(index, std::mem::take(&mut content), reason);
                    choices.push(choice.with_logprobs(shape.logprobs(tokens.drain(..))));
                    total = Some(add(total, usage));
                    break;
                }
                Event::Failed(error) => return Err(error.into()),
            }
        }
    }
    let total = total.unwrap_or_default();
    Ok(if head.is_text() {
        Json(head.text_completion(choices, total)).into_response()
    } else {
        Json(head.completion(choices, total)).into_response()
    })
}

/// A stream that is under way.
struct Streamed {
    head: Head,
    events: UnboundedReceiver<Event>,
    /// The answer that is being given.
    index: u32,
    shape: Shape,
    total: Option<Usage>,
    ended: bool,
}

fn streamed(head: Head, events: UnboundedReceiver<Event>, shape: Shape) -> Response {
    let begin = head.sse_role(0);
    let state = Streamed {
        head,
        events,
        index: 0,
        shape,
        total: None,
        ended: false,
    };
    let first = stream::iter([begin]);
    let rest = stream::unfold(state, Streamed::next);
    // A text has no event for the role, and an empty piece is none.
    let body = first
        .chain(rest)
        .filter(|bytes| std::future::ready(!bytes.is_empty()))
        .map(Ok::<_, std::convert::Infallible>);
    (sse_headers(), Body::from_stream(body)).into_response()
}

impl Streamed {
    /// The next bytes of the stream, one or more events; `None` after the last.
    async fn next(mut self) -> Option<(String, Self)> {
        if self.ended {
            return None;
        }
        let Ok(event) = timeout(KEEP_ALIVE, next(&mut self.events)).await else {
            return Some((": ping\n\n".to_owned(), self));
        };
        let bytes = match event {
            Event::Started => self.head.sse_role(self.index),
            Event::Embedded(..) | Event::Chosen(..) | Event::Loaded => String::new(),
            Event::Piece { text, logprobs } => {
                let logprobs = self.shape.logprobs(logprobs);
                self.head.sse_text(self.index, &text, logprobs)
            }
            Event::Finished(reason, usage) => {
                let mut bytes = String::new();
                if !self.shape.postscript.is_empty() {
                    let postscript = &self.shape.postscript;
                    bytes = self.head.sse_text(self.index, postscript, None);
                }
                bytes.push_str(&self.head.sse_finish(self.index, reason));
                self.total = Some(add(self.total, usage));
                self.index += 1;
                if self.index == self.shape.n {
                    self.ended = true;
                    bytes.push_str(&self.head.sse_usage(&self.total.unwrap_or_default()));
                    bytes.push_str(SSE_DONE);
                }
                bytes
            }
            Event::Failed(error) => {
                self.ended = true;
                error.to_sse()
            }
        };
        Some((bytes, self))
    }
}
