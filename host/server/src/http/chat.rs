//! `POST /v1/chat/completions` and `/v1/completions`: one body, or a stream of server-sent events.
//!
//! A stream's status is decided by the first event of the worker: what is wrong with a request
//! gives a status and a JSON body; only what goes wrong later becomes an event of the stream.
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
    AdapterUse, ApiError, BODY_BYTES_MAX, ChatRequest, Choice, ChoiceLogprobs, Head, Prompt,
    SSE_CONTENT_TYPE, SSE_DONE, Sampling, TextRequest, TokenLogprob, Usage,
};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::error::Failure;
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
    prompt: Prompt,
    sampling: Sampling,
    n: u32,
    stream: bool,
    include_usage: bool,
}

async fn answer(app: &App, asked: Asked) -> Result<Response, Failure> {
    let (model, adapters, id) = app.registry.get_with(&asked.model, &asked.adapters)?;
    let mut head = Head::new(
        random(),
        unix_s(),
        &id,
        &model.fingerprint,
        asked.include_usage,
    );
    if matches!(asked.prompt, Prompt::Text(_)) {
        head = head.into_text();
    }
    let seed = random() as u64;
    let samplings = (0..asked.n)
        .map(|index| asked.sampling.of_answer(index, seed))
        .collect();
    let task = Task::Reply {
        prompt: asked.prompt,
        samplings,
    };
    let mut events = app.registry.submit(model, Job { task, adapters })?;
    let shape = Shape {
        n: asked.n,
        logprobs: asked.sampling.top_logprobs.is_some(),
    };
    match next(&mut events).await {
        Event::Failed(mut error) => {
            // The engine knows what is wrong with a rule, not which field it came in.
            if let Some(constraint) = &asked.sampling.constraint
                && error.error.param.as_deref() == Some("response_format")
            {
                error.error.param = Some(constraint.param().to_owned());
            }
            Err(error.into())
        }
        Event::Started if asked.stream => Ok(streamed(head, events, shape)),
        _ => whole(head, events, shape).await,
    }
}

/// What a reply consists of.
#[derive(Clone, Copy)]
struct Shape {
    /// Answers.
    n: u32,
    /// Whether log-probabilities were asked for.
    logprobs: bool,
}

impl Shape {
    fn logprobs(self, content: impl IntoIterator<Item = TokenLogprob>) -> Option<ChoiceLogprobs> {
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
    let headers = [
        (header::CONTENT_TYPE, SSE_CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Body::from_stream(body)).into_response()
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
                let mut bytes = self.head.sse_finish(self.index, reason);
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
