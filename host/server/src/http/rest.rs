//! The REST API: OpenAI's routes, `/v1/choose`, `/v1/emotion/analyze`, `/health`, and `/healthz` and `/readyz` for orchestrators.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, MatchedPath, Path, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use meetara_api::{ApiError, BODY_BYTES_MAX, Model, ModelList};
use serde::Serialize;

use super::error::Failure;
use super::guard::{self, Guard};
use super::{adapters, ask, chat, read};
use crate::config::EmotionPolicy;
use crate::models::{ModelHealth, ReaderHealth, Registry};

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    /// The models.
    pub registry: Arc<Registry>,
    /// When the host started.
    pub began: Instant,
    /// When feelings are read.
    pub emotion: EmotionPolicy,
}

/// All routes.
pub fn router(app: App, guard: &Guard) -> Router {
    Router::new()
        .route("/health", get(health).fallback(only_get))
        .route("/healthz", get(alive).fallback(only_get))
        .route("/readyz", get(ready).fallback(only_get))
        .route("/v1/models", get(models).fallback(only_get))
        .route("/v1/models/{id}", get(model).fallback(only_get))
        .route(
            "/v1/chat/completions",
            post(chat::completions).fallback(only_post),
        )
        .route("/v1/completions", post(chat::texts).fallback(only_post))
        .route("/v1/embeddings", post(ask::embeddings).fallback(only_post))
        .route("/v1/choose", post(ask::choose).fallback(only_post))
        .route(
            "/v1/emotion/analyze",
            post(read::analyze).fallback(only_post),
        )
        .route("/v1/lora_adapters", get(adapters::list).fallback(only_get))
        .route(
            "/v1/load_lora_adapter",
            post(adapters::load).fallback(only_post),
        )
        .route(
            "/v1/unload_lora_adapter",
            post(adapters::unload).fallback(only_post),
        )
        .fallback(nothing_here)
        .with_state(app)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(guard.clone(), guard::origins))
        .layer(from_fn_with_state(guard.clone(), guard::hosts))
        .layer(from_fn(frame))
}

async fn nothing_here() -> Failure {
    ApiError::not_found().into()
}

async fn only_get() -> impl IntoResponse {
    (
        [(header::ALLOW, "GET")],
        Failure(ApiError::method_not_allowed("GET")),
    )
}

async fn only_post() -> impl IntoResponse {
    (
        [(header::ALLOW, "POST")],
        Failure(ApiError::method_not_allowed("POST")),
    )
}

async fn models(State(app): State<App>) -> Json<ModelList> {
    let models = app.registry.usable();
    let mut list: Vec<_> = models
        .map(|model| Model::new(&model.id, model.created))
        .collect();
    for adapter in app.registry.adapters() {
        if let Ok(base) = app.registry.get(&adapter.base_model) {
            list.push(Model::new(adapter.id, base.created));
        }
    }
    if let Some((id, base)) = app.registry.auto() {
        list.push(Model::new(id, base.created));
    }
    Json(ModelList::new(list))
}

async fn model(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Model>, Failure> {
    match app.registry.auto() {
        Some((auto, base)) if auto == id => Ok(Json(Model::new(auto, base.created))),
        _ => {
            let (model, _, id) = app.registry.get_with(&id, &[])?;
            Ok(Json(Model::new(id, model.created)))
        }
    }
}

#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    version: &'static str,
    uptime_s: u64,
    models: Vec<ModelHealth<'a>>,
    reader: ReaderHealth<'a>,
}

/// For an orchestrator: the process answers.
async fn alive() -> &'static str {
    "ok"
}

/// For an orchestrator: whether requests should come here, which needs a model that can be asked.
async fn ready(State(app): State<App>) -> Result<&'static str, Failure> {
    match app.registry.usable().next() {
        Some(_) => Ok("ok"),
        None => Err(ApiError::model_unavailable("No model can be served; see /health.").into()),
    }
}

/// `ok` as long as the host answers; each model tells its own state.
async fn health(State(app): State<App>) -> Response {
    Json(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: app.began.elapsed().as_secs(),
        models: app.registry.health(),
        reader: app.registry.reader_health(),
    })
    .into_response()
}

/// Gives every response an id and the headers all share, and every request a line in the log.
/// The log has the route, never the address that was asked for: it could hold anything.
async fn frame(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = format!("req_{:032x}", chat::random());
    let method = method_name(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let mut response = next.run(request).await;
    tracing::info!(
        id,
        method,
        route = route.as_deref().unwrap_or("none"),
        status = response.status().as_u16(),
        ms = began.elapsed().as_millis(),
        "rest"
    );
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "OPTIONS" => "OPTIONS",
        "HEAD" => "HEAD",
        _ => "other",
    }
}
