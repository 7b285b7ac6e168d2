//! What the suites over stored vectors share: where the files are, what llama.cpp said about them, and the
//! two measures they are judged by.

#![allow(
    dead_code,
    reason = "every suite compiles this module for itself and uses a part of it"
)]

pub mod tiny;

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

/// The root of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The bytes of a file of the repository; the path is relative to its root.
pub fn read(path: &str) -> Vec<u8> {
    let full = root().join(path);
    fs::read(&full).unwrap_or_else(|e| panic!("{}: {e}", full.display()))
}

/// The bytes of a file that a checkout may lack. Says so, with the way to get it, when it is not there.
/// `target/...` is cargo's target folder, wherever that is.
pub fn read_or_skip(path: &str, how: &str) -> Option<Vec<u8>> {
    let in_target =
        |rest: &str| Some(PathBuf::from(std::env::var_os("CARGO_TARGET_DIR")?).join(rest));
    let elsewhere = path
        .strip_prefix("target/")
        .and_then(in_target)
        .and_then(|full| fs::read(full).ok());
    let bytes = elsewhere.or_else(|| fs::read(root().join(path)).ok());
    if bytes.is_none() {
        eprintln!("SKIPPED: {path} is not there; {how}");
    }
    bytes
}

/// `expected.json` of one folder of `tests/vectors`, and the `logits.f32` beside it.
#[derive(Deserialize)]
pub struct Expected {
    pub prompts: Vec<Prompt>,
    pub files: Vec<File>,
    #[serde(skip)]
    logits: Vec<u8>,
}

/// A prompt, and the ids that llama.cpp's tokenizer gives for it, BOS included where the model adds one.
#[derive(Deserialize)]
pub struct Prompt {
    pub name: String,
    pub text: String,
    pub tokens: Vec<u32>,
}

/// What llama.cpp said about one file.
#[derive(Deserialize)]
pub struct File {
    pub file: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    pub model: String,
    pub ftype: String,
    /// Whether the file is in the repository.
    pub kept: bool,
    pub n_vocab: usize,
    /// Of the logits after a prompt, every `logits_stride`-th is kept.
    pub logits_stride: usize,
    /// Name, type and SHA-256 of every tensor, in file order.
    pub tensors: Vec<(String, String, String)>,
    /// One for each prompt.
    pub greedy: Vec<Greedy>,
}

/// llama.cpp's greedy continuation of one prompt.
#[derive(Deserialize)]
pub struct Greedy {
    pub tokens: Vec<u32>,
    /// The best logit minus the second best, where the token was chosen.
    pub margins: Vec<f32>,
}

impl File {
    /// How many logits `logits.f32` holds for each prompt.
    fn kept_logits(&self) -> usize {
        self.n_vocab.div_ceil(self.logits_stride)
    }
}

impl Expected {
    /// Reads a folder that belongs to the repository.
    pub fn read(folder: &str) -> Self {
        let mut expected: Self = serde_json::from_slice(&read(&format!("{folder}/expected.json")))
            .expect("expected.json");
        expected.logits = read(&format!("{folder}/logits.f32"));
        let floats: usize = expected.files.iter().map(File::kept_logits).sum();
        assert_eq!(
            expected.logits.len(),
            floats * expected.prompts.len() * 4,
            "logits.f32 and expected.json were not made together"
        );
        expected
    }

    /// llama.cpp's logits after prompt `prompt` with file `file` (both indices), `(kept logits,)`.
    pub fn logits(&self, file: usize, prompt: usize) -> Vec<f32> {
        let before: usize = self.files[..file].iter().map(File::kept_logits).sum();
        let n = self.files[file].kept_logits();
        let start = (before * self.prompts.len() + prompt * n) * 4;
        self.logits[start..start + n * 4]
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    }
}

/// The cosine of the angle between two vectors of one length, in f64.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        x.iter()
            .zip(y)
            .map(|(&x, &y)| f64::from(x) * f64::from(y))
            .sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The index of the largest value; the first of equals.
pub fn argmax(row: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &x) in row.iter().enumerate() {
        if x > row[best] {
            best = i;
        }
    }
    best as u32
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
