//! Finds the component, compiles it, and keeps the compiled form beside it.
//!
//! Compiling takes seconds, reading the compiled form milliseconds. The cache is one file,
//! `meetara_component.<key>.cwasm`:
//!
//! ```text
//! magic      8 bytes  "MTCWASM2"
//! key       32 bytes  SHA-256 of the component, wasmtime's version and its settings
//! checksum  32 bytes  SHA-256 of the code
//! code                what wasmtime serialised, of the component without its data (see `split`)
//! ```
//!
//! wasmtime checks that such code fits its version and settings, but not that it is undamaged,
//! hence the checksum. A file that does not match in every respect is compiled anew and
//! replaced. A checksum is no signature: whoever may write to this folder could replace the
//! component or the host as well.

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sha2::{Digest, Sha256};
use wasmtime::{Engine, Module};

use super::SandboxError;
use super::split::{Split, split};

/// The name of the component's file.
pub const COMPONENT_FILE: &str = "meetara_component.wasm";

const MAGIC: &[u8; 8] = b"MTCWASM2";
const HEADER_BYTES: usize = MAGIC.len() + 32 + 32;

/// Where the component is: `named` if given, else the first place where there is one.
///
/// # Errors
/// When there is none; the message lists the places and the command that builds it.
pub fn find(named: Option<&Path>) -> Result<PathBuf, SandboxError> {
    let places = match named {
        Some(path) => vec![path.to_owned()],
        None => places(),
    };
    if let Some(found) = places.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let list: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
    Err(SandboxError::Component(format!(
        "the sandboxed engine is not at {}; build it with `cargo xtask wasm`, or name it with --component",
        list.join(", nor at ")
    )))
}

/// Beside the program, in the folder `wasm` next to the program's, and where cargo builds.
fn places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    let program = std::env::current_exe().and_then(fs::canonicalize);
    if let Some(folder) = program.as_deref().ok().and_then(Path::parent) {
        places.push(folder.join(COMPONENT_FILE));
        if let Some(above) = folder.parent() {
            places.push(above.join("wasm").join(COMPONENT_FILE));
        }
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    places.push(Path::new(&target).join("wasm").join(COMPONENT_FILE));
    places
}

/// A component that was opened.
pub(super) struct Opened {
    /// Its code.
    pub(super) module: Module,
    /// The memory that a new instance has, whole pages.
    pub(super) memory: Vec<u8>,
    /// Of its source.
    pub(super) fingerprint: String,
}

/// Compiles the component at `path`, or takes its code from the cache.
pub(super) fn open(engine: &Engine, path: &Path) -> Result<Opened, SandboxError> {
    let began = Instant::now();
    let wasm = fs::read(path).map_err(|source| SandboxError::File {
        path: path.to_owned(),
        source,
    })?;
    let fingerprint = hex(&Sha256::digest(&wasm)[..8]);
    let key = key(engine, &wasm);
    let Split { code, memory } = split(&wasm).map_err(|e| {
        SandboxError::Component(format!(
            "{} is not the sandboxed engine: {e}; build it with `cargo xtask wasm`",
            path.display()
        ))
    })?;
    let opened = |module| Opened {
        module,
        memory,
        fingerprint,
    };
    let cache = path.with_extension(format!("{}.cwasm", hex(&key[..8])));

    if let Some(module) = read(engine, &cache, &key) {
        let open_ms = began.elapsed().as_millis();
        tracing::info!(open_ms, "took the compiled engine from {}", cache.display());
        return Ok(opened(module));
    }
    let compile_error = |e: wasmtime::Error| {
        SandboxError::Component(format!(
            "{} does not compile: {e:#}; build it with `cargo xtask wasm`",
            path.display()
        ))
    };
    let module = Module::from_binary(engine, &code).map_err(compile_error)?;
    let compile_ms = began.elapsed().as_millis();
    match module
        .serialize()
        .map_err(|e| format!("{e:#}"))
        .and_then(|code| write(&cache, &key, &code).map_err(|e| e.to_string()))
    {
        Ok(()) => tracing::info!(compile_ms, "compiled the engine into {}", cache.display()),
        Err(reason) => tracing::warn!(
            compile_ms,
            "compiled the engine, but cannot keep it in {}, so the next start compiles again: {reason}",
            cache.display()
        ),
    }
    Ok(opened(module))
}

/// Says for which component, wasmtime and settings compiled code is.
fn key(engine: &Engine, wasm: &[u8]) -> [u8; 32] {
    /// Feeds what wasmtime hashes into SHA-256, since std's hashers promise no stable result.
    struct Feed(Sha256);
    impl Hasher for Feed {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0 // Only the SHA-256 is asked for.
        }
    }
    let mut feed = Feed(Sha256::new());
    feed.0.update(Sha256::digest(wasm));
    engine.precompile_compatibility_hash().hash(&mut feed);
    feed.0.finalize().into()
}

/// The module in the cache, if it is there, sound, and for this key.
fn read(engine: &Engine, cache: &Path, key: &[u8; 32]) -> Option<Module> {
    let bytes = fs::read(cache).ok()?;
    let Some(code) = checked(&bytes, key) else {
        tracing::warn!("{} is damaged; compiling again", cache.display());
        return None;
    };
    #[expect(unsafe_code, reason = "the one way to take compiled code from a file")]
    // SAFETY: the code is what `Module::serialize` returned to an earlier run of this program:
    // `checked` compared its SHA-256 and the key, and the key covers wasmtime's version and
    // settings. The file lies in the folder of the program's own component and is written
    // for its owner alone, so whoever could forge it could replace the program.
    let module = unsafe { Module::deserialize(engine, code) };
    module
        .inspect_err(|e| tracing::warn!("{} is of no use: {e:#}", cache.display()))
        .ok()
}

/// The code in a cache file, if all else in it is right.
fn checked<'a>(bytes: &'a [u8], key: &[u8; 32]) -> Option<&'a [u8]> {
    let (header, code) = bytes.split_at_checked(HEADER_BYTES)?;
    let (magic, header) = header.split_at_checked(MAGIC.len())?;
    let (found_key, checksum) = header.split_at_checked(32)?;
    (magic == MAGIC && found_key == key && checksum == Sha256::digest(code).as_slice())
        .then_some(code)
}

/// Writes the cache under another name first, so that nobody ever reads half of it.
fn write(cache: &Path, key: &[u8; 32], code: &[u8]) -> std::io::Result<()> {
    let unfinished = cache.with_extension(format!("{}.tmp", std::process::id()));
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = (|| {
        let mut file = options.open(&unfinished)?;
        file.write_all(MAGIC)?;
        file.write_all(key)?;
        file.write_all(&Sha256::digest(code))?;
        file.write_all(code)?;
        file.sync_all()?;
        fs::rename(&unfinished, cache)
    })();
    if written.is_err() {
        // Nothing more can be done about it than to report the first error.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_file_is_believed_only_when_every_part_is_right() {
        let key = [7; 32];
        let mut file = Vec::from(*MAGIC);
        file.extend(key);
        file.extend(Sha256::digest(b"code"));
        file.extend(b"code");
        assert_eq!(checked(&file, &key), Some(&b"code"[..]));
        assert_eq!(checked(&file, &[8; 32]), None);
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert_eq!(checked(&damaged, &key), None, "byte {at}");
            assert_eq!(checked(&file[..at], &key), None, "cut at {at}");
        }
    }

    #[test]
    fn a_missing_component_names_the_command() {
        let message = find(Some(Path::new("/nowhere/x.wasm")))
            .unwrap_err()
            .to_string();
        assert!(message.contains("/nowhere/x.wasm") && message.contains("cargo xtask wasm"));
    }
}
