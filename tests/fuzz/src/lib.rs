//! The bodies of all fuzz targets: bytes from a stranger, and what must hold whatever they are.
//!
//! Two callers: the binaries of `fuzz/`, in which libFuzzer makes up the bytes, and `tests/seeds.rs`,
//! which feeds the kept seeds and regressions in every test run. A target panics when something does
//! not hold; returning means that all is well, also when the bytes were refused.
//!
//! | target | bytes |
//! |---|---|
//! | [`gguf`] | a GGUF file: header, model, a reply |
//! | [`adapter`] | a LoRA adapter's GGUF file for [`tiny::base`] |
//! | [`tokenizer`] | a vocabulary and texts, in the form of [`tokenizer`](mod@tokenizer) |
//! | [`template`] | a chat template and messages, in the form of [`template`](mod@template) |
//! | [`request`] | a JSON body of any route |
//! | [`constraint`] | a JSON schema or a grammar, in the form of [`constraint`](mod@constraint) |
//! | [`encoder`] | a GGUF file of an encoder: model, classifiers, a text |
//! | [`reading`] | turns of a conversation, in the form of [`reading`](mod@reading) |

pub mod adapter;
pub mod constraint;
pub mod encoder;
pub mod gguf;
pub mod reading;
pub mod request;
pub mod template;
pub mod tiny;
pub mod tokenizer;

/// A target by its name: that of its seeds' folder and of its binary.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 8] = [
    ("gguf", gguf::run),
    ("adapter", adapter::run),
    ("tokenizer", tokenizer::run),
    ("template", template::run),
    ("request", request::run),
    ("constraint", constraint::run),
    ("encoder", encoder::run),
    ("reading", reading::run),
];

/// Separates the parts of an input of several texts. No byte of UTF-8 has this value.
pub const SEPARATOR: u8 = 0xFF;

/// The parts of `data`, each as text.
fn parts(data: &[u8]) -> impl Iterator<Item = String> {
    data.split(|&byte| byte == SEPARATOR)
        .map(|part| String::from_utf8_lossy(part).into_owned())
}
