//! A vocabulary and texts for it.
//!
//! ```text
//! options FF tokens FF merges FF kinds and scores FF text FF text ...
//! options: "gpt2 <pre>" or "llama"; "full" behind it adds a token for every byte
//! tokens, merges: one in a line          kinds and scores: one byte for each token
//! ```

use meetara_engine::tokenizer::{Special, Tokenizer, Utf8Stream};
use meetara_format::{Array, Gguf, Value};

use crate::parts;

/// Feeds `data`.
pub fn run(data: &[u8]) {
    let mut parts = parts(data);
    let mut next = || parts.next().unwrap_or_default();
    let (options, tokens, merges, kinds) = (next(), next(), next(), next());
    let mut words = options.split(' ');
    let (model, pre) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let is_spm = model == "llama";
    let is_full = options.ends_with(" full");

    let mut tokens: Vec<String> = tokens.lines().map(str::to_owned).collect();
    if is_full {
        tokens.extend(bytes_as_tokens(is_spm));
    }
    // All of a full vocabulary are normal, so that texts come back.
    let numbers: Vec<u8> = kinds
        .bytes()
        .chain(std::iter::repeat(1))
        .take(tokens.len())
        .collect();
    let kind = |&number: &u8| {
        if is_full {
            if is_spm { 6 } else { 1 }
        } else {
            i32::from(number % 8)
        }
    };
    let metadata = [
        ("model", Value::from(model)),
        ("pre", Value::from(pre)),
        ("tokens", Value::Array(Array::String(tokens.clone().into()))),
        (
            "token_type",
            Value::Array(Array::I32(numbers.iter().map(kind).collect())),
        ),
        (
            "scores",
            Value::Array(Array::F32(
                numbers.iter().map(|&n| f32::from(n) - 64.0).collect(),
            )),
        ),
        (
            "merges",
            Value::Array(Array::String(merges.lines().collect())),
        ),
    ];
    let gguf = Gguf {
        version: 3,
        metadata: metadata
            .into_iter()
            .map(|(key, value)| (format!("tokenizer.ggml.{key}"), value))
            .collect(),
        tensors: Vec::new(),
        alignment: 32,
        data_start: 0,
    };
    let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) else {
        return;
    };
    assert_eq!(tokenizer.len(), tokens.len());
    for text in parts {
        for special in [Special::Parse, Special::Text] {
            let Ok(ids) = tokenizer.encode(&text, special) else {
                assert!(is_spm, "only a SentencePiece vocabulary may lack a byte");
                continue;
            };
            let decoded = decode(&tokenizer, &ids);
            if is_full && !is_spm {
                assert_eq!(
                    decoded, text,
                    "a text does not come back from its tokens {ids:?}"
                );
            }
        }
    }
}

/// The text of `ids`, put together as a stream does it; that it equals the whole is checked, too.
fn decode(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let (mut stream, mut text, mut all) = (Utf8Stream::new(), String::new(), Vec::new());
    for &id in ids {
        assert!((id as usize) < tokenizer.len(), "token {id} does not exist");
        let mut bytes = Vec::new();
        tokenizer.append_bytes(id, &mut bytes);
        text.push_str(stream.push(&bytes));
        all.extend(bytes);
    }
    text.push_str(stream.finish());
    assert_eq!(
        text,
        String::from_utf8_lossy(&all),
        "a stream of tokens reads otherwise than the whole"
    );
    text
}

/// A token for each byte: as GPT-2 writes them, or `<0xNN>`.
fn bytes_as_tokens(is_spm: bool) -> Vec<String> {
    let mut moved = 0x100u32..;
    (0..=u8::MAX)
        .map(|byte| match byte {
            _ if is_spm => format!("<0x{byte:02X}>"),
            33..=126 | 161..=172 | 174..=255 => char::from(byte).to_string(),
            _ => moved
                .next()
                .and_then(char::from_u32)
                .map(String::from)
                .unwrap_or_default(),
        })
        .collect()
}
