//! What a single Rust file must keep to.

use crate::process::command;
use crate::project::Project;
use anyhow::{Context, Result, ensure};

/// A Rust file of the repository.
pub struct Source {
    /// Path from the root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Code lines with their numbers (from 1), up to the tests at the file's end, without comments.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| *line != "#[cfg(test)]")
            .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
    }
}

/// All Rust files that git knows or would take.
pub fn list(project: &Project) -> Result<Vec<Source>> {
    let output = command(project, "git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "--deduplicate",
            "*.rs",
        ])
        .output()
        .context("cannot run git")?;
    ensure!(
        output.status.success(),
        "`git ls-files` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut sources = Vec::new();
    for path in String::from_utf8_lossy(&output.stdout).lines() {
        // A file that is deleted but not yet committed is still listed.
        if let Ok(text) = std::fs::read_to_string(project.root.join(path)) {
            sources.push(Source {
                path: path.to_owned(),
                text,
            });
        }
    }
    ensure!(
        !sources.is_empty(),
        "git lists no Rust file; is this a checkout?"
    );
    Ok(sources)
}

/// Where `unsafe` may be written: kernels, and the borders to other languages. Everywhere it needs a
/// `// SAFETY:` reason, which clippy asks for.
const UNSAFE_ALLOWED: [&str; 7] = [
    "runtime-wasm/engine/kernels/src/",
    "runtime-wasm/browser/",
    "runtime-wasm/component/",
    "trainer-native/src/kernels/",
    // wasmtime's way to load a compiled module is unsafe by its nature.
    "host/server/src/sandbox/compile.rs",
    // So is its way to be given memory, and mapping it.
    "host/server/src/sandbox/memory.rs",
    // An allocator that counts is the only proof that nothing is allocated per token.
    "runtime-wasm/engine/tests/allocation.rs",
];

/// What the engine and the format must not touch, in code outside of tests.
const IO: [&str; 8] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time",
    "std::env",
    "std::io::std",
    "println!",
];

/// Faults of one file, as `path:line: what`.
pub fn faults(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let path = &source.path;
    let mut fault = |line: usize, what: String| faults.push(format!("{path}:{line}: {what}"));
    let first = source
        .text
        .lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        fault(
            1,
            "the file must open with a `//!` module doc that says what it is for".to_owned(),
        );
    }
    if path == "runtime-wasm/format/src/lib.rs" && !source.text.contains("#![forbid(unsafe_code)]")
    {
        fault(
            1,
            "format parses strangers' files: it must have #![forbid(unsafe_code)]".to_owned(),
        );
    }
    let is_sandboxed = path.starts_with("runtime-wasm/engine/src/")
        || path.starts_with("runtime-wasm/format/src/");
    let may_unsafe = UNSAFE_ALLOWED.iter().any(|prefix| path.starts_with(prefix));
    for (line, code) in source.code() {
        if is_sandboxed && let Some(word) = IO.iter().find(|word| code.contains(**word)) {
            fault(
                line,
                format!("{word}: the engine does no I/O and has no clock and no threads"),
            );
        }
        if !may_unsafe && is_unsafe(code) {
            fault(
                line,
                "unsafe belongs into the kernels and the bindings".to_owned(),
            );
        }
        if is_unreasoned_allow(source, line, code) {
            fault(line, "an #[allow] needs `reason = \"...\"`".to_owned());
        }
    }
    faults
}

fn is_unsafe(code: &str) -> bool {
    ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
        .iter()
        .any(|word| {
            // Inside a string it is text.
            code.find(word)
                .is_some_and(|at| code.get(..at).is_some_and(|before| !before.contains('"')))
        })
}

/// Looks a few lines ahead, since rustfmt breaks long attributes.
fn is_unreasoned_allow(source: &Source, line: usize, code: &str) -> bool {
    let code = code.trim_start();
    if !code.starts_with("#[allow(") && !code.starts_with("#![allow(") {
        return false;
    }
    let mut attribute = String::new();
    for next in source.text.lines().skip(line - 1).take(12) {
        attribute.push_str(next);
        if next.trim_end().ends_with(")]") {
            break;
        }
    }
    !attribute.contains("reason")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(path: &str, text: &str) -> Vec<String> {
        faults(&Source {
            path: path.to_owned(),
            text: text.to_owned(),
        })
    }

    #[test]
    fn a_clean_file_has_no_fault() {
        let text = "//! Doc.\n#[allow(\n    dead_code,\n    reason = \"x\"\n)]\nfn f() {}\n";
        assert_eq!(faults_of("xtask/src/a.rs", text), Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_found_where_it_is() {
        assert_eq!(faults_of("a.rs", "fn f() {}\n").len(), 1);
        let found = faults_of("host/a.rs", "//! Doc.\nfn f() { unsafe { g() } }\n");
        assert!(
            found.len() == 1 && found[0].starts_with("host/a.rs:2:"),
            "{found:?}"
        );
        assert_eq!(
            faults_of(
                "runtime-wasm/engine/src/a.rs",
                "//! D.\nuse std::time::Instant;\n"
            )
            .len(),
            1
        );
        assert_eq!(
            faults_of(
                "runtime-wasm/engine/src/a.rs",
                "//! D.\n// std::time\n#[cfg(test)]\nuse std::fs;\n"
            )
            .len(),
            0
        );
        assert_eq!(
            faults_of("a.rs", "//! D.\n#[allow(dead_code)]\nfn f() {}\n").len(),
            1
        );
        assert_eq!(
            faults_of("runtime-wasm/format/src/lib.rs", "//! D.\n").len(),
            1
        );
    }
}
