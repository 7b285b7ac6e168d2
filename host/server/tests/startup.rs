//! What happens before the first request: finding and compiling the engine, taking the ports.

mod common;

use std::path::{Path, PathBuf};
use std::time::Instant;

use common::{Host, TempDir, command, component, folder, request, tiny};
use serde_json::json;

/// A copy of the component in a folder of its own, with no compiled form beside it.
fn copy(folder: &Path) -> PathBuf {
    let path = folder.join("meetara_component.wasm");
    std::fs::copy(component(), &path).unwrap();
    path
}

fn compiled(folder: &Path) -> PathBuf {
    let mut found = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "cwasm"));
    let path = found.next().expect("a compiled form");
    assert!(found.next().is_none(), "only one");
    path
}

/// Runs the host to its end and returns what it said on standard error.
fn refused(models: &TempDir, component: &Path, flags: &[&str]) -> String {
    let output = command(models, component, flags).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn the_compiled_engine_is_kept_and_a_damaged_one_is_replaced() {
    let folder = TempDir::new();
    let component = copy(folder.path());
    let start = || Host::start_in(common::folder(&[("tiny.gguf", &tiny())]), &component, &[]);

    let began = Instant::now();
    let host = start();
    let first = began.elapsed();
    host.logged("compiled the engine into").await;
    let reply = host.chat(&request(json!({}))).await;
    drop(host);
    let cache = compiled(folder.path());
    let sound = std::fs::read(&cache).unwrap();

    let began = Instant::now();
    let host = start();
    let second = began.elapsed();
    host.logged("took the compiled engine from").await;
    // Seconds against a tenth of one; the margin is for a busy machine.
    assert!(
        second < first / 2,
        "first start {first:?}, second {second:?}"
    );
    drop(host);

    for damage in ["empty", "cut", "flipped"] {
        let mut bytes = sound.clone();
        match damage {
            "empty" => bytes.clear(),
            "cut" => bytes.truncate(sound.len() / 2),
            _ => bytes[sound.len() / 2] ^= 0x40,
        }
        std::fs::write(&cache, bytes).unwrap();
        let host = start();
        host.logged("is damaged").await;
        let again = host.chat(&request(json!({}))).await;
        assert_eq!(again["choices"], reply["choices"], "{damage}");
        drop(host);
        assert_eq!(compiled(folder.path()), cache);
        assert_eq!(std::fs::metadata(&cache).unwrap().len(), sound.len() as u64);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_compiled_engine_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new();
    let component = copy(folder.path());
    drop(Host::start_in(common::folder(&[]), &component, &[]));
    let mode = std::fs::metadata(compiled(folder.path()))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o077, 0);
}

#[test]
fn a_component_that_is_missing_or_foreign_is_named_with_the_command_that_builds_it() {
    let models = folder(&[]);
    let place = TempDir::new();
    let missing = refused(&models, &place.path().join("none.wasm"), &[]);
    assert!(
        missing.contains("none.wasm") && missing.contains("cargo xtask wasm"),
        "{missing}"
    );

    let foreign = place.path().join("foreign.wasm");
    // The smallest module there is; then one that imports a function.
    let import = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x07\x01\x01a\x01b\0\0";
    for (bytes, words) in [
        (&b"\0asm\x01\0\0\0"[..], "is not the one for this host"),
        (import, "imports a.b"),
        (b"text", "is not the sandboxed engine"),
    ] {
        std::fs::write(&foreign, bytes).unwrap();
        let said = refused(&models, &foreign, &[]);
        assert!(
            said.contains(words) && said.contains("cargo xtask wasm"),
            "{said}"
        );
    }
}

#[test]
fn a_port_in_use_is_said_with_the_flag_that_chooses_another() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let models = folder(&[]);
    let said = refused(&models, component(), &["--rest-port", &port]);
    assert!(
        said.contains(&port) && said.contains("--rest-port"),
        "{said}"
    );
}

#[tokio::test]
async fn a_folder_without_models_is_no_reason_not_to_start() {
    let host = Host::start(&[], &[]);
    assert_eq!(host.health().await["models"], json!([]));
    let (status, _) = host.error(&request(json!({}))).await;
    assert_eq!(status, 404);
}
