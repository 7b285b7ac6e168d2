//! The page: static files with the headers that a private, offline page wants.
//!
//! | header | why |
//! |---|---|
//! | `Content-Security-Policy` | nothing from elsewhere, WebAssembly may compile, the REST API may be called |
//! | `Cross-Origin-Opener-Policy`, `-Embedder-Policy`, `-Resource-Policy` | the page is isolated, so it may use threads and fine timers |
//! | `X-Content-Type-Options`, `X-Frame-Options`, `Referrer-Policy`, `Permissions-Policy` | the usual care |
//! | `ETag`, `Cache-Control` | files with a hash in their name are kept for good, all others are asked for again and mostly answered 304 |

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use tower_http::services::ServeDir;

use super::guard::{self, Guard};

/// The page in `web_dir` and, below `/models/`, the model files in `models`.
///
/// `rest` is the API that the page may call.
pub fn router(web_dir: &Path, models: &Path, rest: SocketAddr, guard: &Guard) -> Router {
    let policy = policy(rest);
    let with_headers = from_fn(move |request: Request, next: Next| {
        let policy = policy.clone();
        async move { security_headers(next.run(request).await, policy) }
    });
    let models = Router::new()
        .fallback_service(ServeDir::new(models).append_index_html_on_directories(false))
        .layer(from_fn(only_models));
    let page = if web_dir.join("index.html").is_file() {
        Router::new().fallback_service(ServeDir::new(web_dir))
    } else {
        tracing::warn!(
            "{} has no index.html, so there is no page; build it, or name another folder with --web-dir",
            web_dir.display()
        );
        Router::new().fallback(any(no_page))
    };
    Router::new()
        .nest("/models", models)
        .fallback_service(page)
        .layer(from_fn(caching))
        .layer(with_headers)
        .layer(from_fn_with_state(guard.clone(), guard::hosts))
}

async fn no_page() -> impl IntoResponse {
    (
        StatusCode::NOT_FOUND,
        "The page is not built. Build the folder `web`, or start meetara-host with --web-dir DIR.\n",
    )
}

/// Of the folder of models, only models and their cards are public.
async fn only_models(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // A dot needs no escape, so whoever writes one as %2e has something in mind.
    let is_hidden = path.contains("/.") || path.to_ascii_lowercase().contains("%2e");
    let is_public = [".gguf", ".json", ".md"]
        .iter()
        .any(|end| path.ends_with(end));
    if is_public && !is_hidden {
        next.run(request).await
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}

/// The `Content-Security-Policy`. `wasm-unsafe-eval` lets WebAssembly compile, and nothing else.
fn policy(rest: SocketAddr) -> HeaderValue {
    let port = rest.port();
    let policy = format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; \
         style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; \
         font-src 'self'; connect-src 'self' http://localhost:{port} http://127.0.0.1:{port}; \
         manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
         object-src 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'self'"))
}

fn security_headers(mut response: Response, policy: HeaderValue) -> Response {
    const FIXED: [(HeaderName, &str); 7] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-embedder-policy"),
            "require-corp",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(self), microphone=(self), geolocation=(), payment=(), usb=()",
        ),
    ];
    let headers = response.headers_mut();
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// Adds an `ETag`, answers 304 to those who have the file, and says how long to keep it.
///
/// The tag is weak and made of time and length, as common servers do. A weak tag cannot vouch
/// for parts, so a range that depends on one (`If-Range`) is answered with the whole file.
async fn caching(mut request: Request, next: Next) -> Response {
    let is_hashed = request.uri().path().starts_with("/assets/");
    let headers = request.headers_mut();
    if headers.contains_key(header::IF_RANGE) {
        headers.remove(header::RANGE);
    }
    let known = headers.remove(header::IF_NONE_MATCH);
    if known.is_some() {
        headers.remove(header::IF_MODIFIED_SINCE);
    }
    let mut response = next.run(request).await;
    if !response.status().is_success() && response.status() != StatusCode::NOT_MODIFIED {
        return response;
    }
    let keep = if is_hashed {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let tag = tag(response.headers());
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    let Some(tag) = tag else { return response };
    let is_known = known.is_some_and(|known| matches(&known, &tag));
    headers.insert(header::ETAG, tag);
    if is_known && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response
}

/// The tag of the file that a response carries, in whole or in part.
fn tag(headers: &HeaderMap) -> Option<HeaderValue> {
    let modified = headers.get(header::LAST_MODIFIED)?.to_str().ok()?;
    let len = match headers.get(header::CONTENT_RANGE) {
        Some(range) => range.to_str().ok()?.rsplit('/').next()?,
        None => headers.get(header::CONTENT_LENGTH)?.to_str().ok()?,
    };
    let modified: String = modified
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    HeaderValue::try_from(format!("W/\"{modified}-{len}\"")).ok()
}

/// Whether `If-None-Match` names `tag`; weak comparison.
fn matches(known: &HeaderValue, tag: &HeaderValue) -> bool {
    let strip = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let (Ok(known), Ok(tag)) = (known.to_str(), tag.to_str()) else {
        return false;
    };
    known.trim() == "*" || known.split(',').any(|known| strip(known) == strip(tag))
}
