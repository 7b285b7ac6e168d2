//! `POST /v1/chat/completions`: one body, or a stream of server-sent events.
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
use futures_util::stream;
use meetara_api::{
    ApiError, BODY_BYTES_MAX, ChatRequest, Choice, Head, SSE_CONTENT_TYPE, SSE_DONE, Usage,
};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::error::Failure;
use super::rest::App;
use crate::models::{Event, Job};

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

/// The handler.
pub(super) async fn completions(
    State(app): State<App>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::payload_too_large(BODY_BYTES_MAX),
        _ => ApiError::invalid_json("The request body could not be read to its end."),
    })?;
    let request = ChatRequest::parse(&body)?;
    let model = app.registry.get(&request.model)?;
    let head = Head::new(
        random(),
        unix_s(),
        &model.id,
        &model.fingerprint,
        request.include_usage,
    );
    let seed = random() as u64;
    let samplings = (0..request.n)
        .map(|index| request.sampling_of(index, seed))
        .collect();
    let job = Job {
        messages: request.messages,
        samplings,
    };
    let mut events = app.registry.submit(model, job)?;
    match next(&mut events).await {
        Event::Failed(error) => Err(error.into()),
        Event::Started if request.stream => Ok(streamed(head, events, request.n)),
        _ => whole(head, events, request.n).await,
    }
}

/// The worker's next event; a worker that is gone has failed.
async fn next(events: &mut UnboundedReceiver<Event>) -> Event {
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
    n: u32,
) -> Result<Response, Failure> {
    let mut choices = Vec::new();
    let mut content = String::new();
    let mut total = None;
    for index in 0..n {
        loop {
            match next(&mut events).await {
                Event::Started => {}
                Event::Text(text) => content.push_str(&text),
                Event::Finished(reason, usage) => {
                    choices.push(Choice::new(index, std::mem::take(&mut content), reason));
                    total = Some(add(total, usage));
                    break;
                }
                Event::Failed(error) => return Err(error.into()),
            }
        }
    }
    Ok(Json(head.completion(choices, total.unwrap_or_default())).into_response())
}

/// A stream that is under way.
struct Streamed {
    head: Head,
    events: UnboundedReceiver<Event>,
    /// The answer that is being given, and how many there will be.
    index: u32,
    n: u32,
    total: Option<Usage>,
    ended: bool,
}

fn streamed(head: Head, events: UnboundedReceiver<Event>, n: u32) -> Response {
    let begin = head.sse_role(0);
    let state = Streamed {
        head,
        events,
        index: 0,
        n,
        total: None,
        ended: false,
    };
    let first = stream::iter([begin]);
    let rest = stream::unfold(state, Streamed::next);
    let body = futures_util::StreamExt::map(
        futures_util::StreamExt::chain(first, rest),
        Ok::<_, std::convert::Infallible>,
    );
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
            Event::Text(text) => self.head.sse_text(self.index, &text),
            Event::Finished(reason, usage) => {
                let mut bytes = self.head.sse_finish(self.index, reason);
                self.total = Some(add(self.total, usage));
                self.index += 1;
                if self.index == self.n {
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
