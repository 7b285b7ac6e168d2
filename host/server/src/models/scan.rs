//! Finds the models below a folder and reads their headers, inside the sandbox.
//!
//! The files may come from anywhere, so not even a header is parsed outside. A file that is of
//! no use is kept with its reason, so that `/health` can tell; it never stops the others.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::{ID_PREFIX, Model, State};
use crate::sandbox::wire::{Inspected, NeedMore};
use crate::sandbox::{Instance, Sandbox, SandboxError};

/// How deep folders may be nested.
const DEPTH_MAX: usize = 8;

/// How much of a file is read at first to find its header. A vocabulary of 8,192 tokens needs
/// about 0.3 MiB, one of 250,000 about 12.
const HEAD_BYTES: u64 = 1 << 20;

/// The longest header that is read.
const HEAD_BYTES_MAX: u64 = 128 << 20;

/// All models below `folder`, in the order of their ids.
pub fn scan(folder: &Path, sandbox: &Sandbox) -> Vec<Model> {
    let mut models: Vec<Model> = Vec::new();
    let mut ids = HashSet::new();
    for (path, relative) in files(folder) {
        let id = id(&relative, &mut ids);
        let model = match inspect(sandbox, &path) {
            // An adapter is used through its base model, and is none by itself.
            Ok((inspected, _)) if inspected.kind == "adapter" => {
                tracing::info!("{} is an adapter, so not listed", relative.display());
                continue;
            }
            Ok((inspected, file)) => {
                let what = inspected.name.as_deref().unwrap_or("no name");
                let architecture = inspected.architecture.as_deref().unwrap_or("unknown");
                tracing::info!("found {id}: {what:?}, architecture {architecture:?}");
                model(id, path, &relative, file, State::Idle, sandbox)
            }
            Err(error) => {
                let reason = error.to_string();
                tracing::warn!("{} is of no use: {reason}", relative.display());
                let file = FileFacts::default();
                model(id, path, &relative, file, State::Failed { reason }, sandbox)
            }
        };
        models.push(model);
    }
    models.sort_by(|a, b| a.id.cmp(&b.id));
    models
}

/// What is known of a file without believing its contents.
#[derive(Default)]
struct FileFacts {
    bytes: u64,
    modified_s: u64,
}

fn model(
    id: String,
    path: PathBuf,
    relative: &Path,
    file: FileFacts,
    state: State,
    sandbox: &Sandbox,
) -> Model {
    let source = format!(
        "{} {id} {} {}",
        sandbox.fingerprint(),
        file.bytes,
        file.modified_s
    );
    let fingerprint = crate::sandbox::hex(&Sha256::digest(source)[..6]);
    Model {
        id,
        path,
        file: relative.display().to_string(),
        bytes: file.bytes,
        created: file.modified_s,
        fingerprint: format!("fp_{fingerprint}"),
        state: Mutex::new(state),
        queue: Mutex::new(None),
    }
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
    let id = [stem, whole.clone()]
        .into_iter()
        .chain(numbered)
        .map(|name| format!("{ID_PREFIX}{name}"))
        .find(|id| !taken.contains(id))
        .unwrap_or_default();
    taken.insert(id.clone());
    id
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

/// Reads a file's header in an instance that is thrown away.
fn inspect(sandbox: &Sandbox, path: &Path) -> Result<(Inspected, FileFacts), SandboxError> {
    let metadata = std::fs::metadata(path).map_err(|source| SandboxError::File {
        path: path.to_owned(),
        source,
    })?;
    let modified = metadata.modified().ok();
    let facts = FileFacts {
        bytes: metadata.len(),
        modified_s: modified
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |since| since.as_secs()),
    };
    if facts.bytes == 0 {
        return Err(invalid("the file is empty; copy it again"));
    }
    let mut head_bytes = HEAD_BYTES;
    loop {
        let head_len = head_bytes.min(facts.bytes);
        match Instance::new(sandbox)?.inspect(path, head_len, facts.bytes)? {
            Ok(inspected) => return Ok((inspected, facts)),
            Err(NeedMore { bytes }) if bytes > head_len && bytes <= HEAD_BYTES_MAX => {
                head_bytes = bytes.max(head_bytes.saturating_mul(4)).min(HEAD_BYTES_MAX);
            }
            Err(NeedMore { bytes }) => {
                return Err(invalid(format!(
                    "the header takes {bytes} bytes or more, at most {HEAD_BYTES_MAX} are read"
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
                "meetara:pocket-q4_k_m",
                "meetara:tiny",
                "meetara:a-tiny",
                "meetara:a-tiny-2",
                "meetara:-"
            ]
        );
    }
}
