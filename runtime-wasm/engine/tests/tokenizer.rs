//! The tokenizer through its public face: small vocabularies, files that lie, texts without sense.

mod tokenizer_support;

use meetara_engine::ErrorKind;
use meetara_engine::tokenizer::{Special, Tokenizer, Utf8Stream};
use meetara_format::{Array, Value};
use tokenizer_support::{bpe, gguf, with};

fn tokenizer() -> Tokenizer {
    Tokenizer::from_gguf(&gguf(bpe())).unwrap()
}

fn decode(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut bytes = Vec::new();
    let mut stream = Utf8Stream::new();
    let mut text = String::new();
    for &id in ids {
        bytes.clear();
        tokenizer.append_bytes(id, &mut bytes);
        text.push_str(stream.push(&bytes));
    }
    text.push_str(stream.finish());
    text
}

fn strings(texts: &[&str]) -> Value {
    Value::Array(Array::String(texts.iter().collect()))
}

/// A SentencePiece vocabulary: `<unk>`, `<s>`, `</s>`, a user-defined token, two bytes, four pieces.
fn spm() -> Vec<(String, Value)> {
    let tokens = [
        "<unk>", "<s>", "</s>", "[X Y]", "<0xC3>", "<0xA9>", "▁", "a", "▁a", "b",
    ];
    vec![
        ("tokenizer.ggml.model".to_owned(), Value::from("llama")),
        ("tokenizer.ggml.tokens".to_owned(), strings(&tokens)),
        (
            "tokenizer.ggml.scores".to_owned(),
            Value::Array(Array::F32(vec![0.0; 10])),
        ),
        (
            "tokenizer.ggml.token_type".to_owned(),
            Value::Array(Array::I32(vec![2, 3, 3, 4, 6, 6, 1, 1, 1, 1])),
        ),
    ]
}

#[test]
fn bpe_text_and_control_tokens() {
    let tokenizer = tokenizer();
    let byte = |byte: char| 5 + byte as u32;
    assert_eq!(tokenizer.encode("hell", Special::Parse).unwrap(), [263]);
    assert_eq!(
        tokenizer.encode("hel", Special::Parse).unwrap(),
        [261, byte('l')]
    );
    assert_eq!(
        tokenizer
            .encode("<|user|>he<|end|><|end|", Special::Parse)
            .unwrap(),
        [
            2,
            261,
            4,
            byte('<'),
            byte('|'),
            byte('e'),
            byte('n'),
            byte('d'),
            byte('|')
        ]
    );
    let plain = tokenizer.encode("<|user|>", Special::Text).unwrap();
    assert_eq!(plain, "<|user|>".chars().map(byte).collect::<Vec<_>>());
    assert_eq!(decode(&tokenizer, &plain), "<|user|>");
    assert_eq!(decode(&tokenizer, &[2, 263, byte('o'), 4, 9999]), "hello");
    assert!(tokenizer.encode("", Special::Parse).unwrap().is_empty());
    assert_eq!(
        (
            tokenizer.token_text(4),
            tokenizer.token_text(5 + 32),
            tokenizer.token_text(9999)
        ),
        ("<|end|>", "Ġ", "")
    );
    assert_eq!(
        (tokenizer.token_id("<|end|>"), tokenizer.token_id("nothing")),
        (Some(4), None)
    );
}

#[test]
fn bpe_ids_by_role() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.len(), 264);
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.eot()),
        (Some(0), Some(0), Some(4))
    );
    assert!(tokenizer.add_bos());
    let ends: Vec<u32> = (0..300)
        .filter(|&id| tokenizer.is_end_of_generation(id))
        .collect();
    assert_eq!(ends, [0, 4]);
    // Without the keys there is no BOS, and none is added.
    let none = ["bos_token_id", "eos_token_id", "add_bos_token"];
    let metadata = none.iter().fold(bpe(), |metadata, key| {
        with(metadata, &format!("tokenizer.ggml.{key}"), None)
    });
    let tokenizer = Tokenizer::from_gguf(&gguf(metadata)).unwrap();
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.add_bos()),
        (None, None, false)
    );
    let minus_one = with(bpe(), "tokenizer.ggml.bos_token_id", Some(Value::I32(-1)));
    assert_eq!(Tokenizer::from_gguf(&gguf(minus_one)).unwrap().bos(), None);
}

#[test]
fn spm_text_and_special_tokens() {
    let tokenizer = Tokenizer::from_gguf(&gguf(spm())).unwrap();
    assert_eq!(tokenizer.encode("a b", Special::Text).unwrap(), [8, 6, 9]);
    assert_eq!(tokenizer.encode("é", Special::Text).unwrap(), [6, 4, 5]);
    assert_eq!(
        tokenizer.encode("ê", Special::Text).unwrap(),
        [6, 4, 0],
        "unknown"
    );
    assert_eq!(
        tokenizer.encode("<s>a[X Y]a", Special::Parse).unwrap(),
        [1, 8, 3, 8]
    );
    let plain = tokenizer.encode("[X Y]<s>", Special::Text).unwrap();
    assert_eq!(plain[0], 3, "user-defined tokens are found in plain text");
    assert!(!plain.contains(&1), "control tokens are not");
    assert_eq!(decode(&tokenizer, &[1, 8, 6, 9, 4, 5, 3, 0]), " a bé[X Y]");
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.add_bos()),
        (Some(1), Some(2), true)
    );
    let no_prefix = with(
        spm(),
        "tokenizer.ggml.add_space_prefix",
        Some(Value::Bool(false)),
    );
    assert_eq!(
        Tokenizer::from_gguf(&gguf(no_prefix))
            .unwrap()
            .encode("a", Special::Text)
            .unwrap(),
        [7]
    );
}

#[test]
fn a_damaged_file_is_an_error_that_names_the_key() {
    let cases: [(&str, Option<Value>, ErrorKind); 18] = [
        ("model", None, ErrorKind::InvalidModel),
        ("model", Some(Value::U32(1)), ErrorKind::InvalidModel),
        (
            "model",
            Some(Value::from("t5")),
            ErrorKind::UnsupportedModel,
        ),
        (
            "pre",
            Some(Value::from("falcon")),
            ErrorKind::UnsupportedModel,
        ),
        ("pre", Some(Value::Bool(true)), ErrorKind::InvalidModel),
        ("tokens", None, ErrorKind::InvalidModel),
        ("tokens", Some(strings(&[])), ErrorKind::InvalidModel),
        (
            "tokens",
            Some(Value::Array(Array::U8(vec![1]))),
            ErrorKind::InvalidModel,
        ),
        ("merges", None, ErrorKind::InvalidModel),
        ("merges", Some(strings(&["ab"])), ErrorKind::InvalidModel),
        (
            "token_type",
            Some(Value::Array(Array::I32(vec![1]))),
            ErrorKind::InvalidModel,
        ),
        (
            "token_type",
            Some(Value::Array(Array::I32(vec![7; 264]))),
            ErrorKind::InvalidModel,
        ),
        (
            "token_type",
            Some(Value::Array(Array::U32(vec![u32::MAX; 264]))),
            ErrorKind::InvalidModel,
        ),
        ("token_type", Some(strings(&["1"])), ErrorKind::InvalidModel),
        (
            "bos_token_id",
            Some(Value::U32(264)),
            ErrorKind::InvalidModel,
        ),
        (
            "eos_token_id",
            Some(Value::I32(-2)),
            ErrorKind::InvalidModel,
        ),
        (
            "eot_token_id",
            Some(Value::from("4")),
            ErrorKind::InvalidModel,
        ),
        (
            "add_bos_token",
            Some(Value::U32(1)),
            ErrorKind::InvalidModel,
        ),
    ];
    for (key, value, kind) in cases {
        let key = format!("tokenizer.ggml.{key}");
        let error = Tokenizer::from_gguf(&gguf(with(bpe(), &key, value.clone()))).unwrap_err();
        assert_eq!(error.kind, kind, "{key} {value:?}: {error}");
        assert!(error.message().contains(&key), "{error}");
    }
    for scores in [
        None,
        Some(Value::Array(Array::F32(vec![0.0; 9]))),
        Some(Value::Array(Array::F32(vec![f32::NAN; 10]))),
    ] {
        let error =
            Tokenizer::from_gguf(&gguf(with(spm(), "tokenizer.ggml.scores", scores))).unwrap_err();
        assert!(error.message().contains("tokenizer.ggml.scores"), "{error}");
    }
}

#[test]
fn a_special_token_without_end_is_refused() {
    let mut metadata = spm();
    for (key, value) in &mut metadata {
        if let ("tokenizer.ggml.tokens", Value::Array(Array::String(tokens))) =
            (key.as_str(), value)
        {
            let long = "a".repeat(100_000);
            let texts = tokens.iter().enumerate();
            *tokens = texts
                .map(|(id, text)| if id == 3 { &long } else { text })
                .collect();
        }
    }
    let error = Tokenizer::from_gguf(&gguf(metadata)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidModel);
    assert!(error.message().contains("token 3"), "{error}");
}

/// Numbers without a pattern: SplitMix64.
fn numbers(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % below
    }
}

/// Characters from every corner that a rule looks at.
const ALPHABET: [char; 28] = [
    'a',
    'e',
    'h',
    'l',
    's',
    'L',
    'é',
    '中',
    '7',
    '½',
    '٣',
    ' ',
    ' ',
    '\n',
    '\r',
    '\t',
    '\u{a0}',
    '\u{2028}',
    '\'',
    '<',
    '|',
    '>',
    '😀',
    '\u{301}',
    '▁',
    'Ġ',
    '\0',
    '\u{10ffff}',
];

#[test]
fn any_text_survives_the_way_to_tokens_and_back() {
    let mut below = numbers(1);
    for pre in ["gpt-2", "llama-bpe", "qwen2", "smollm", "default"] {
        let metadata = with(bpe(), "tokenizer.ggml.pre", Some(Value::from(pre)));
        let tokenizer = Tokenizer::from_gguf(&gguf(metadata)).unwrap();
        for _ in 0..2_000 {
            let len = below(120);
            let text: String = (0..len).map(|_| ALPHABET[below(ALPHABET.len())]).collect();
            let ids = tokenizer.encode(&text, Special::Text).unwrap();
            assert_eq!(decode(&tokenizer, &ids), text, "{pre}");
        }
    }
}

#[test]
fn vocabularies_without_sense_do_no_harm() {
    let mut below = numbers(2);
    for round in 0..500 {
        let mut word = |longest| -> String {
            (0..below(longest))
                .map(|_| ALPHABET[below(ALPHABET.len())])
                .collect()
        };
        let tokens: Vec<String> = (0..40).map(|_| word(5)).collect();
        let merges: Vec<String> = (0..30)
            .map(|_| format!("a{} {}", word(3).replace(' ', ""), word(3)))
            .collect();
        let text = word(400);
        let kinds = (0..40).map(|_| below(7) as i32).collect();
        let scores = (0..40)
            .map(|_| [f32::INFINITY, f32::NEG_INFINITY, 0.0, -1.5, 1e30][below(5)])
            .collect();
        let metadata = vec![
            (
                "tokenizer.ggml.model".to_owned(),
                Value::from(["gpt2", "llama"][round % 2]),
            ),
            (
                "tokenizer.ggml.pre".to_owned(),
                Value::from(["llama-bpe", "default"][round / 2 % 2]),
            ),
            (
                "tokenizer.ggml.tokens".to_owned(),
                Value::Array(Array::String(tokens.into())),
            ),
            (
                "tokenizer.ggml.token_type".to_owned(),
                Value::Array(Array::I32(kinds)),
            ),
            (
                "tokenizer.ggml.scores".to_owned(),
                Value::Array(Array::F32(scores)),
            ),
            (
                "tokenizer.ggml.merges".to_owned(),
                Value::Array(Array::String(merges.into())),
            ),
        ];
        let tokenizer = Tokenizer::from_gguf(&gguf(metadata)).unwrap();
        for special in [Special::Parse, Special::Text] {
            let ids = tokenizer.encode(&text, special).unwrap();
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.len()));
            decode(&tokenizer, &ids);
        }
    }
}
