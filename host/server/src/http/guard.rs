//! Who may call: the names that a request may address, and the pages that may send it.
//!
//! A page anywhere on the web can make a browser send requests to 127.0.0.1. Two checks keep it
//! from using this host:
//!
//! - **Host**: with DNS rebinding, a foreign name suddenly points to this machine, and the
//!   browser believes that page and host are one. The `Host` header still holds the foreign name.
//! - **Origin**: browsers name the page that sends a request. Only our own page, and those that
//!   were allowed, may; programs send no `Origin` at all.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::Failure;
use crate::config::Config;

/// The names and origins that are allowed.
#[derive(Clone, Debug)]
pub struct Guard {
    hosts: Arc<HashSet<String>>,
    any_host: bool,
    origins: Arc<HashSet<String>>,
    any_origin: bool,
}

impl Guard {
    /// Allows loopback, the bound address, `--allow-host`, and the page at `web` under all of
    /// these names, and `--allow-origin`.
    pub fn new(config: &Config, web: SocketAddr) -> Self {
        let mut hosts: HashSet<String> = ["localhost", "127.0.0.1", "[::1]"]
            .map(str::to_owned)
            .into();
        if !config.bind.is_unspecified() {
            hosts.insert(match config.bind {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            });
        }
        hosts.extend(
            config
                .allow_host
                .iter()
                .map(|name| name.to_ascii_lowercase()),
        );
        let mut origins: HashSet<String> = hosts
            .iter()
            .map(|host| format!("http://{host}:{}", web.port()))
            .collect();
        origins.extend(
            config
                .allow_origin
                .iter()
                .map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()),
        );
        Self {
            any_host: hosts.contains("*"),
            any_origin: origins.contains("*"),
            hosts: Arc::new(hosts),
            origins: Arc::new(origins),
        }
    }

    fn check_host(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .map(name_of);
        if self.any_host || host.is_some_and(|host| self.hosts.contains(&host)) {
            return Ok(());
        }
        Err(Failure::forbidden(
            "host_not_allowed",
            "This server does not answer to the name in the Host header. Use localhost, or start it with --allow-host NAME.",
        ))
    }

    /// The origin if it is allowed, `None` if there is none.
    fn check_origin(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Failure> {
        let Some(value) = headers.get(header::ORIGIN) else {
            return Ok(None);
        };
        let allowed = value.to_str().is_ok_and(|origin| {
            let same = headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
                .is_some_and(|host| origin.strip_prefix("http://") == Some(host));
            same || self.any_origin || self.origins.contains(&origin.to_ascii_lowercase())
        });
        if allowed {
            return Ok(Some(value.clone()));
        }
        Err(Failure::forbidden(
            "origin_not_allowed",
            "Pages of this origin may not call this server. Start it with --allow-origin ORIGIN to let them.",
        ))
    }
}

/// The name in a `Host` header: no port, no final dot, small letters.
fn name_of(host: &str) -> String {
    let name = match host.rfind(']') {
        Some(end) => &host[..=end],
        None => host.split(':').next().unwrap_or_default(),
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Refuses requests that address a foreign name.
pub(super) async fn hosts(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    guard.check_host(request.headers())?;
    Ok(next.run(request).await)
}

/// Refuses requests of foreign pages, and answers and marks those of allowed ones (CORS).
pub(super) async fn origins(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let Some(origin) = guard.check_origin(request.headers())? else {
        return Ok(next.run(request).await);
    };
    let asked = request
        .headers()
        .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
        .cloned();
    let is_preflight = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("x-request-id, retry-after"),
    );
    if is_preflight {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST"),
        );
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("600"),
        );
        // Client libraries send headers of their own; the origin is trusted, so they may.
        if let Some(asked) = asked {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn guard(flags: &[&str]) -> Guard {
        let config = Config::parse_from([&["meetara-host"], flags].concat());
        Guard::new(&config, "127.0.0.1:2025".parse().unwrap())
    }

    fn headers(host: &str, origin: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        headers.insert(header::ORIGIN, origin.parse().unwrap());
        headers
    }

    #[test]
    fn only_known_names_are_answered() {
        let guard = guard(&["--allow-host", "chat.example,Other.example"]);
        for host in [
            "localhost",
            "LOCALHOST:8766",
            "127.0.0.1:1",
            "[::1]:8766",
            "localhost.:1",
            "other.example",
        ] {
            assert!(guard.check_host(&headers(host, "x")).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:8766",
            "",
            "10.0.0.1",
            "[::2]",
            "]",
        ] {
            assert!(guard.check_host(&headers(host, "x")).is_err(), "{host}");
        }
        assert!(guard.check_host(&HeaderMap::new()).is_err());
    }

    #[test]
    fn only_the_own_page_and_allowed_ones_may_call() {
        let guard = guard(&["--allow-origin", "https://app.example/"]);
        for origin in [
            "http://localhost:2025",
            "http://127.0.0.1:2025",
            "https://app.example",
            "http://127.0.0.1:8766",
        ] {
            let headers = headers("127.0.0.1:8766", origin);
            assert!(guard.check_origin(&headers).is_ok(), "{origin}");
        }
        for origin in [
            "http://evil.example",
            "null",
            "https://localhost:2025",
            "http://localhost:3000",
        ] {
            let headers = headers("127.0.0.1:8766", origin);
            assert!(guard.check_origin(&headers).is_err(), "{origin}");
        }
    }
}
