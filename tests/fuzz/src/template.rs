//! A chat template and the messages that it renders.
//!
//! ```text
//! template FF content FF content ...       roles in turn: system, user, assistant
//! ```
//!
//! A hostile template may loop, recurse, nest and write without end: each must end in an error, soon.
//! What is not bounded is a text that is doubled again and again, which the sandbox's limit on memory
//! ends; the fuzzer runs with one too, and does not count it.

use meetara_engine::template::{ChatTemplate, Message};
use meetara_engine::tokenizer::Tokenizer;
use meetara_format::Gguf;

use crate::{parts, tiny};

/// The longest prompt: what the engine allows, for messages of `content` bytes.
fn output_max(content: usize) -> usize {
    (1 << 20) + 4 * content
}

/// Feeds `data`.
pub fn run(data: &[u8]) {
    let gguf = Gguf {
        version: 3,
        metadata: tiny::vocabulary(),
        tensors: Vec::new(),
        alignment: 32,
        data_start: 0,
    };
    let tokenizer = Tokenizer::from_gguf(&gguf).expect("our own vocabulary");
    let mut parts = parts(data);
    let Ok(template) = ChatTemplate::new(&parts.next().unwrap_or_default(), &tokenizer) else {
        return;
    };
    let roles = ["system", "user", "assistant"].into_iter().cycle();
    let messages: Vec<Message> = roles
        .zip(parts)
        .map(|(role, content)| Message::new(role, content))
        .collect();
    let content = messages.iter().map(|message| message.content.len()).sum();
    for add_generation_prompt in [false, true] {
        if let Ok(text) = template.render(&messages, add_generation_prompt) {
            assert!(
                text.len() <= output_max(content),
                "{} bytes were written",
                text.len()
            );
        }
    }
}
