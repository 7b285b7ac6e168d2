//! Small vocabularies made in memory, for the tests of the tokenizer and the chat template.

use meetara_format::{Array, Gguf, Value};

/// The metadata of a byte-level BPE: five control tokens, the 256 bytes, three merges.
///
/// Ids: 0 `<|endoftext|>` (BOS and EOS), 1 `<|system|>`, 2 `<|user|>`, 3 `<|assistant|>`,
/// 4 `<|end|>`, 5.. the bytes in GPT-2's characters, 261 `he`, 262 `ll`, 263 `hell`.
pub fn bpe() -> Vec<(String, Value)> {
    let control = [
        "<|endoftext|>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|end|>",
    ];
    let mut moved = 0x100u32..;
    let byte_text = |byte: u8| match byte {
        33..=126 | 161..=172 | 174..=255 => char::from(byte).to_string(),
        _ => char::from_u32(moved.next().unwrap()).unwrap().to_string(),
    };
    let mut tokens: Vec<String> = control.iter().map(|&text| text.to_owned()).collect();
    tokens.extend((0..=255).map(byte_text));
    tokens.extend(["he", "ll", "hell"].map(str::to_owned));
    let kinds = (0..tokens.len()).map(|id| if id < control.len() { 3 } else { 1 });
    let merges = ["h e", "l l", "he ll"].map(str::to_owned).to_vec();
    vec![
        ("tokenizer.ggml.model".to_owned(), Value::from("gpt2")),
        ("tokenizer.ggml.pre".to_owned(), Value::from("smollm")),
        (
            "tokenizer.ggml.token_type".to_owned(),
            Value::Array(Array::I32(kinds.collect())),
        ),
        (
            "tokenizer.ggml.tokens".to_owned(),
            Value::Array(Array::String(tokens.into())),
        ),
        (
            "tokenizer.ggml.merges".to_owned(),
            Value::Array(Array::String(merges.into())),
        ),
        ("tokenizer.ggml.bos_token_id".to_owned(), Value::U32(0)),
        ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(0)),
        ("tokenizer.ggml.add_bos_token".to_owned(), Value::Bool(true)),
    ]
}

/// A file that holds nothing but `metadata`.
pub fn gguf(metadata: Vec<(String, Value)>) -> Gguf {
    Gguf {
        version: 3,
        metadata,
        tensors: Vec::new(),
        alignment: 32,
        data_start: 0,
    }
}

/// `metadata` with `key` set to `value`, or without it.
#[allow(
    dead_code,
    reason = "not every test file that includes this one changes keys"
)]
pub fn with(
    mut metadata: Vec<(String, Value)>,
    key: &str,
    value: Option<Value>,
) -> Vec<(String, Value)> {
    metadata.retain(|(name, _)| name != key);
    metadata.extend(value.map(|value| (key.to_owned(), value)));
    metadata
}
