//! Finds the models below a folder and reads their headers, inside the sandbox.
//!
//! The files may come from anywhere, so not even a header is parsed outside. A file that is of
//! no use is kept with its reason, so that `/health` can tell; it never stops the others.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use walkdir::WalkDir;

use super::ID_PREFIX;
use crate::sandbox::wire::{Inspected, NeedMore};
use crate::sandbox::{Instance, Sandbox, SandboxError};

/// How deep folders may be nested.
const DEPTH_MAX: usize = 8;

/// How much of a file is read at first to find its header. A vocabulary of 8,192 tokens needs
/// about 0.3 MiB, one of 250,000 about 12.
const HEAD_BYTES: u64 = 1 << 20;

/// The longest header that is read.
const HEAD_BYTES_MAX: u64 = 128 << 20;

/// A file named like a model.
pub struct Found {
    /// What clients call it.
    pub id: String,
    /// Where it is.
    pub path: PathBuf,
    /// The path below the folder of models, for people.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// When it was last changed, in Unix seconds.
    pub modified_s: u64,
    /// Why it is of no use, if it is not.
    pub fault: Option<String>,
}

/// A file named like a model that is an adapter.
pub struct FoundAdapter {
    /// What clients call it, `meetara:` left out.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// The path below the folder of models.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// An encoder that reads feelings, domains and danger.
pub struct FoundReader {
    /// Where it is.
    pub path: PathBuf,
    /// The path below the folder of models, for people.
    pub file: String,
}

/// The classifiers that make an encoder a reader.
const READER_HEADS: [&str; 4] = ["emotion", "goemotions", "domain", "safety"];

/// What is below a folder.
#[derive(Default)]
pub struct Scanned {
    /// Models, in the order of their ids.
    pub models: Vec<Found>,
    /// Adapters.
    pub adapters: Vec<FoundAdapter>,
    /// The first reader.
    pub reader: Option<FoundReader>,
}

/// All models and adapters below `folder`.
pub fn scan(folder: &Path, sandbox: &Sandbox) -> Scanned {
    let (mut models, mut adapters, mut reader) = (Vec::new(), Vec::new(), None);
    let mut ids = HashSet::new();
    for (path, relative) in files(folder) {
        let id = id(&relative, &mut ids);
        let (bytes, modified_s) = length_and_time(&path);
        let fault = match inspect(sandbox, &path, bytes) {
            // An adapter is used through its base model, and is none by itself.
            Ok(header) if header.kind == "adapter" => {
                tracing::info!("found the adapter {id}");
                let name = id.strip_prefix(ID_PREFIX).unwrap_or(&id).to_owned();
                adapters.push(FoundAdapter {
                    name,
                    path,
                    file: relative,
                    bytes,
                });
                continue;
            }
            // An encoder writes nothing, so it is no model that can be asked.
            Ok(header) if header.architecture.as_deref() == Some("bert") => {
                let file = relative.display().to_string();
                let has = |head: &&str| header.heads.iter().any(|name| name == head);
                if !READER_HEADS.iter().all(has) {
                    tracing::info!("{file} is an encoder that no route needs; left alone");
                } else if reader.is_some() {
                    tracing::warn!("{file} is a second reader; left alone");
                } else {
                    tracing::info!("found the reader {file}");
                    reader = Some(FoundReader { path, file });
                }
                continue;
            }
            Ok(header) => {
                let name = header.name.as_deref().unwrap_or_default();
                let architecture = header.architecture.as_deref().unwrap_or_default();
                tracing::info!("found {id}: name {name:?}, architecture {architecture:?}");
                None
            }
            Err(error) => {
                tracing::warn!("{} is of no use: {error}", relative.display());
                Some(error.to_string())
            }
        };
        models.push(Found {
            id,
            path,
            file: relative.display().to_string(),
            bytes,
            modified_s,
            fault,
        });
    }
    models.sort_by(|a, b| a.id.cmp(&b.id));
    Scanned {
        models,
        adapters,
        reader,
    }
}

/// A file's length, and its last change in Unix seconds; 0 for what cannot be had.
fn length_and_time(path: &Path) -> (u64, u64) {
    let Ok(metadata) = std::fs::metadata(path) else {
        return (0, 0);
    };
    let modified = metadata.modified().ok();
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    (metadata.len(), since.map_or(0, |since| since.as_secs()))
}

/// Every `*.gguf` below `folder` and its path below it, in a fixed order.
fn files(folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    let walk = WalkDir::new(folder)
        .max_depth(DEPTH_MAX)
        .follow_links(true)
        .sort_by_file_name();
    for entry in walk {
        match entry {
            Ok(entry) if entry.file_type().is_file() && is_gguf(entry.path()) => {
                let path = entry.into_path();
                let relative = path.strip_prefix(folder).unwrap_or(&path).to_owned();
                found.push((path, relative));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("models: {error}"),
        }
    }
    // A file nearer to the top has the plain id.
    found.sort_by_key(|(_, relative)| relative.components().count());
    found
}

fn is_gguf(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// An id that no other file has; see the module `models`.
fn id(relative: &Path, taken: &mut HashSet<String>) -> String {
    let stem = slug(relative.file_stem().unwrap_or_else(|| OsStr::new("model")));
    let whole = slug(relative.with_extension("").as_os_str());
    let numbered = (2_u32..).map(|n| format!("{whole}-{n}"));
    let id = [short(&stem).to_owned(), stem, whole.clone()]
        .into_iter()
        .chain(numbered)
        .map(|name| format!("{ID_PREFIX}{name}"))
        .find(|id| !taken.contains(id))
        .unwrap_or_default();
    taken.insert(id.clone());
    id
}

/// The part of a file's name that says what the model is: without `meetara-` before it and the
/// quantisation after it. `meetara-pocket-q4_k_m` is `pocket`.
fn short(stem: &str) -> &str {
    let name = stem.strip_prefix("meetara-").unwrap_or(stem);
    match name.rsplit_once(['-', '.']) {
        Some((rest, last)) if !rest.is_empty() && is_quantisation(last) => rest,
        _ if name.is_empty() => stem,
        _ => name,
    }
}

fn is_quantisation(word: &str) -> bool {
    match word.as_bytes() {
        b"f16" | b"f32" | b"bf16" => true,
        [b'q', bits, b'_', ..] => bits.is_ascii_digit(),
        _ => false,
    }
}

fn slug(name: &OsStr) -> String {
    name.to_string_lossy()
        .chars()
        .map(|c| match c {
            'a'..='z' | '0'..='9' | '.' | '_' | '-' => c,
            'A'..='Z' => c.to_ascii_lowercase(),
            _ => '-',
        })
        .collect()
}

/// Reads the header of a file of `bytes` bytes in an instance that is thrown away.
fn inspect(sandbox: &Sandbox, path: &Path, bytes: u64) -> Result<Inspected, SandboxError> {
    if bytes == 0 {
        return Err(invalid(
            "the file is empty or cannot be read; copy it again",
        ));
    }
    let mut head_bytes = HEAD_BYTES;
    loop {
        let head_len = head_bytes.min(bytes);
        match Instance::new(sandbox)?.inspect(path, head_len, bytes)? {
            Ok(inspected) => return Ok(inspected),
            Err(NeedMore { bytes: needed }) if needed > head_len && needed <= HEAD_BYTES_MAX => {
                head_bytes = needed.max(head_bytes.saturating_mul(4)).min(HEAD_BYTES_MAX);
            }
            Err(NeedMore { bytes: needed }) => {
                return Err(invalid(format!(
                    "the header takes {needed} bytes or more, at most {HEAD_BYTES_MAX} are read"
                )));
            }
        }
    }
}

fn invalid(message: impl Into<String>) -> SandboxError {
    SandboxError::Engine {
        code: "invalid_model".to_owned(),
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(paths: &[&str]) -> Vec<String> {
        let mut taken = HashSet::new();
        paths
            .iter()
            .map(|path| id(Path::new(path), &mut taken))
            .collect()
    }

    #[test]
    fn ids_are_made_of_file_names_and_never_the_same() {
        assert_eq!(
            ids(&[
                "Pocket Q4_K_M.gguf",
                "tiny.gguf",
                "a/tiny.gguf",
                "a-tiny.gguf",
                "b/é.gguf"
            ]),
            [
                "meetara:pocket",
                "meetara:tiny",
                "meetara:a-tiny",
                "meetara:a-tiny-2",
                "meetara:-"
            ]
        );
    }
}
