//! The page's server, and who may call either server.

mod common;

use common::{Host, Method, StatusCode, component, error, folder, header, request, tiny};
use serde_json::json;

fn with_page() -> Host {
    let folder = folder(&[
        ("tiny.gguf", &tiny()),
        ("tiny.md", b"# A card"),
        (".secret.gguf", b"hidden"),
        ("key.pem", b"private"),
    ]);
    let web = folder.path().join("web");
    std::fs::create_dir(web.join("assets")).unwrap();
    for (name, text) in [
        ("index.html", "<!doctype html><title>t</title>"),
        ("assets/engine-1a2b.wasm", "\0asm\u{1}\0\0\0"),
        ("assets/page-1a2b.js", "export {}"),
        ("sw.js", "// worker"),
    ] {
        std::fs::write(web.join(name), text).unwrap();
    }
    std::fs::write(folder.path().join("outside.txt"), "outside").unwrap();
    Host::start_in(
        folder,
        component(),
        &["--allow-origin", "https://app.example"],
    )
}

#[tokio::test]
async fn files_have_their_types_and_the_headers_of_an_isolated_page() {
    let host = with_page();
    for (path, kind, keep) in [
        ("/", "text/html", "no-cache"),
        ("/index.html", "text/html", "no-cache"),
        (
            "/assets/engine-1a2b.wasm",
            "application/wasm",
            "public, max-age=31536000, immutable",
        ),
        (
            "/assets/page-1a2b.js",
            "text/javascript",
            "public, max-age=31536000, immutable",
        ),
        ("/sw.js", "text/javascript", "no-cache"),
        ("/models/tiny.gguf", "application/octet-stream", "no-cache"),
        ("/models/tiny.md", "text/markdown", "no-cache"),
    ] {
        let response = host.page(path).send().await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let headers = response.headers();
        assert!(
            headers["content-type"].to_str().unwrap().starts_with(kind),
            "{path}: {headers:?}"
        );
        assert_eq!(headers["cache-control"], keep, "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cross-origin-opener-policy"], "same-origin");
        assert_eq!(headers["cross-origin-embedder-policy"], "require-corp");
        assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("'wasm-unsafe-eval'"));
        assert!(!policy.contains("'unsafe-eval'"));
        let port = host.rest.rsplit(':').next().unwrap();
        assert!(
            policy.contains(&format!("http://localhost:{port}")),
            "{policy}"
        );
    }
    let model = host.page("/models/tiny.gguf").send().await;
    assert_eq!(model.bytes().await, tiny());
}

#[tokio::test]
async fn nothing_else_is_served() {
    let host = with_page();
    for path in [
        "/none.js",
        "/models/",
        "/models/none.gguf",
        "/models/key.pem",
        "/models/.secret.gguf",
        "/models/%2esecret.gguf",
        "/models/%2Esecret.gguf",
        "/models/..%2foutside.txt",
        "/..%2foutside.txt",
        "/%2e%2e/outside.txt",
    ] {
        let response = host.page(path).send().await;
        assert!(
            response.status().is_client_error(),
            "{path}: {}",
            response.status()
        );
        assert_eq!(
            response.headers()["x-content-type-options"],
            "nosniff",
            "{path}"
        );
        assert!(!response.text().await.contains("outside"), "{path}");
    }
    let post = host.client.post(&format!("{}/", host.web)).send().await;
    assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_file_is_sent_once_and_in_parts() {
    let host = with_page();
    let path = "/models/tiny.gguf";
    let first = host.page(path).send().await;
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(first.headers()["accept-ranges"], "bytes");

    let again = host
        .page(path)
        .header(header::IF_NONE_MATCH, &tag)
        .send()
        .await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(again.headers()["etag"], tag);
    assert!(again.bytes().await.is_empty());
    let other = host
        .page(path)
        .header(header::IF_NONE_MATCH, "W/\"x\"")
        .send()
        .await;
    assert_eq!(other.status(), StatusCode::OK);

    let part = host
        .page(path)
        .header(header::RANGE, "bytes=4-7")
        .send()
        .await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(
        part.headers()["etag"],
        tag,
        "a part has the tag of the whole"
    );
    assert_eq!(part.bytes().await, tiny()[4..8]);
    let changed = host
        .page(path)
        .header(header::RANGE, "bytes=4-7")
        .header(header::IF_RANGE, "\"of another file\"");
    assert_eq!(changed.send().await.status(), StatusCode::OK);
    let beyond = host.page(path).header(header::RANGE, "bytes=99999999-");
    assert_eq!(
        beyond.send().await.status(),
        StatusCode::RANGE_NOT_SATISFIABLE
    );
}

#[tokio::test]
async fn a_missing_page_is_said_and_the_api_works() {
    let host = Host::tiny();
    let response = host.page("/").send().await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(response.text().await.contains("--web-dir"));
    host.chat(&request(json!({}))).await;
}

#[tokio::test]
async fn foreign_names_and_foreign_pages_are_refused() {
    let host = with_page();
    for address in [
        host.page("/"),
        host.get("/health"),
        host.post(&request(json!({}))),
    ] {
        let rebound = address
            .header(header::HOST, "evil.example:8766")
            .send()
            .await;
        let (status, error) = error(rebound).await;
        assert_eq!((status, &error["code"]), (403, &json!("host_not_allowed")));
    }
    for origin in ["https://evil.example", "null"] {
        let foreign = host
            .post(&request(json!({})))
            .header(header::ORIGIN, origin);
        let response = foreign.send().await;
        assert!(
            !response
                .headers()
                .contains_key("access-control-allow-origin")
        );
        let (status, error) = error(response).await;
        assert_eq!(
            (status, &error["code"]),
            (403, &json!("origin_not_allowed"))
        );
    }
    host.logged_times("status=403", 4).await;
    assert!(!host.log().contains("outcome="), "no model was asked");

    let port = host.web.rsplit(':').next().unwrap();
    for origin in [
        &host.web,
        &format!("http://localhost:{port}"),
        "https://app.example",
    ] {
        let preflight = host
            .client
            .request(
                Method::OPTIONS,
                &format!("{}/v1/chat/completions", host.rest),
            )
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(
                header::ACCESS_CONTROL_REQUEST_HEADERS,
                "authorization,content-type",
            )
            .send()
            .await;
        assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
        let headers = preflight.headers();
        assert_eq!(headers["access-control-allow-origin"], *origin);
        assert_eq!(
            headers["access-control-allow-headers"],
            "authorization,content-type"
        );
        let own = host
            .post(&request(json!({})))
            .header(header::ORIGIN, origin);
        let response = own.send().await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["access-control-allow-origin"], *origin);
        assert_eq!(response.headers()["vary"], "Origin");
    }
    assert!(
        !host
            .get("/health")
            .send()
            .await
            .headers()
            .contains_key("access-control-allow-origin")
    );
}
