//! Running the real program in a folder of its own.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// A folder that is removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    /// An empty folder of this test run.
    pub fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("meetara-train-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the program on one thread, with JSON as its output.
pub fn train(arguments: &[&str]) -> Output {
    let threads = ["--threads", "1", "--json"];
    Command::new(env!("CARGO_BIN_EXE_meetara-train"))
        .args(threads)
        .args(arguments)
        .output()
        .unwrap()
}

/// Runs the program, which must succeed; its lines of JSON.
pub fn ok(arguments: &[&str]) -> Vec<Value> {
    let output = train(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Runs the program, which must fail; what it says then.
pub fn fails(arguments: &[&str]) -> String {
    let output = train(arguments);
    assert!(!output.status.success(), "{arguments:?} should fail");
    String::from_utf8(output.stderr).unwrap()
}
