//! `POST /v1/embeddings` and `POST /v1/choose`: what a model says of a text without writing one.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use meetara_api::{AdapterUse, ApiError, ChooseRequest, EmbeddingsRequest};
use serde_json::Value;

use super::chat::{next, whole_body};
use super::error::Failure;
use super::rest::App;
use crate::models::{Event, Job, Task};

/// The handler of `/v1/embeddings`.
pub(super) async fn embeddings(
    State(app): State<App>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Failure> {
    let request = EmbeddingsRequest::parse(&whole_body(body)?)?;
    let task = Task::Embed(request.inputs.clone());
    let (id, event) = ask(&app, &request.model, &request.adapters, task).await?;
    match event {
        Event::Embedded(vectors, tokens) => Ok(Json(request.reply(&id, &vectors, tokens))),
        _ => Err(unexpected()),
    }
}

/// The handler of `/v1/choose`.
pub(super) async fn choose(
    State(app): State<App>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Failure> {
    let ChooseRequest {
        model,
        prompt,
        labels,
        adapters,
    } = ChooseRequest::parse(&whole_body(body)?)?;
    let (id, event) = ask(&app, &model, &adapters, Task::Choose { prompt, labels }).await?;
    match event {
        Event::Chosen(choices, tokens) => Ok(Json(ChooseRequest::reply(&id, &choices, tokens))),
        _ => Err(unexpected()),
    }
}

/// The model's id, or the adapter's that was named as one, and its worker's one event.
async fn ask(
    app: &App,
    model: &str,
    adapters: &[AdapterUse],
    task: Task,
) -> Result<(String, Event), Failure> {
    let (model, adapters, id) = app.registry.get_with(model, adapters)?;
    let mut events = app.registry.submit(model, Job { task, adapters })?;
    match next(&mut events).await {
        Event::Failed(error) => Err(error.into()),
        event => Ok((id, event)),
    }
}

fn unexpected() -> Failure {
    ApiError::internal("The model's worker answered another question.").into()
}
