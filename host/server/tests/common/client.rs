//! A plain HTTP client over hyper, with just what the tests need.

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::{self, HeaderMap, HeaderName, Method, StatusCode, header};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// Keeps connections, as browsers and client libraries do.
#[derive(Clone)]
pub struct Client(legacy::Client<HttpConnector, Body>);

impl Client {
    pub fn new() -> Self {
        Self(legacy::Client::builder(TokioExecutor::new()).build_http())
    }

    pub fn get(&self, url: &str) -> Request {
        self.request(Method::GET, url)
    }

    pub fn post(&self, url: &str) -> Request {
        self.request(Method::POST, url)
    }

    pub fn request(&self, method: Method, url: &str) -> Request {
        Request {
            client: self.clone(),
            head: http::Request::builder().method(method).uri(url),
            body: Bytes::new(),
        }
    }
}

/// A request in the making.
pub struct Request {
    client: Client,
    head: http::request::Builder,
    body: Bytes,
}

impl Request {
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.head = self.head.header(name, value);
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.header(header::CONTENT_TYPE, "application/json")
            .body(body.to_string())
    }

    /// Dropping the future closes the connection.
    pub async fn send(self) -> Response {
        let request = self.head.body(Body::from(self.body)).expect("a request");
        let response = self.client.0.request(request).await.expect("a response");
        let (head, body) = response.into_parts();
        Response {
            head,
            body: Body::new(body),
        }
    }
}

/// Status and headers; the body is still to come.
pub struct Response {
    head: http::response::Parts,
    body: Body,
}

impl Response {
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    pub async fn bytes(self) -> Bytes {
        let body = axum::body::to_bytes(self.body, usize::MAX);
        body.await.expect("the body to its end")
    }

    pub async fn text(self) -> String {
        String::from_utf8(self.bytes().await.into()).expect("UTF-8")
    }

    pub async fn json(self) -> Value {
        serde_json::from_slice(&self.bytes().await).expect("JSON")
    }

    /// Dropping it before its end closes the connection.
    pub fn stream(self) -> BodyDataStream {
        self.body.into_data_stream()
    }
}
