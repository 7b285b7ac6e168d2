//! llama.cpp's tokenizer tests: five public vocabularies, 46 texts each, equal ids.
//!
//! The files lie outside the repository, in `../shared/data/vocab` relative to
//! its root, or where `MEETARA_VOCAB_DIR` says. `ggml-vocab-X.gguf` is the
//! vocabulary, `.inp` the texts, `.out` a line of ids for each. Without the
//! folder the tests are skipped and say so. The case of SmolLM2 needs the
//! whole model, `SmolLM2-135M-Instruct.Q4_1.gguf` in `target/models`, or where
//! `MEETARA_SMOLLM2` says.

use std::path::{Path, PathBuf};
use std::time::Instant;

use meetara_engine::tokenizer::{Special, Tokenizer};
use meetara_format::Gguf;

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

fn vocab_dir() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/vocab");
    let dir = std::env::var_os("MEETARA_VOCAB_DIR").map_or_else(default, PathBuf::from);
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!(
        "\n!!! SKIPPED: no vocabularies at {}; set MEETARA_VOCAB_DIR to run this test !!!\n",
        dir.display()
    );
    None
}

fn load(path: &Path) -> Tokenizer {
    let bytes = std::fs::read(path).unwrap();
    let gguf = Gguf::parse(&bytes, bytes.len() as u64).unwrap();
    let start = Instant::now();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    let (ms, kib) = (
        start.elapsed().as_secs_f64() * 1e3,
        tokenizer.memory_bytes() / 1024,
    );
    println!(
        "{}: {} tokens, {ms:.1} ms, {kib} KiB",
        path.display(),
        tokenizer.len()
    );
    tokenizer
}

fn decode(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut bytes = Vec::new();
    for &id in ids {
        tokenizer.append_bytes(id, &mut bytes);
    }
    String::from_utf8(bytes).unwrap()
}

/// Every case of `name`; `prefix` is what decoding gives before the text itself.
fn check(name: &str, prefix: &str) {
    let Some(dir) = vocab_dir() else { return };
    let tokenizer = load(&dir.join(format!("ggml-vocab-{name}.gguf")));
    let read =
        |kind| std::fs::read_to_string(dir.join(format!("ggml-vocab-{name}.gguf.{kind}"))).unwrap();
    let (texts, ids) = (read("inp"), read("out"));
    let texts: Vec<&str> = texts
        .strip_suffix(SEPARATOR)
        .unwrap()
        .split(SEPARATOR)
        .collect();
    let ids: Vec<&str> = ids.trim_end_matches('\n').split('\n').collect();
    assert!(
        texts.len() >= 45 && texts.len() == ids.len(),
        "{} texts, {} lines of ids",
        texts.len(),
        ids.len()
    );
    for (text, line) in texts.into_iter().zip(ids) {
        let expected: Vec<u32> = line
            .split_whitespace()
            .map(|id| id.parse().unwrap())
            .collect();
        let encoded = tokenizer.encode(text, Special::Text).unwrap();
        assert_eq!(encoded, expected, "{name}: {text:?}");
        let prefix = if text.is_empty() { "" } else { prefix };
        assert_eq!(
            decode(&tokenizer, &encoded),
            format!("{prefix}{text}"),
            "{name}"
        );
    }
}

#[test]
fn gpt2() {
    check("gpt-2", "");
}

#[test]
fn llama_bpe() {
    check("llama-bpe", "");
}

#[test]
fn qwen2() {
    check("qwen2", "");
}

#[test]
fn starcoder() {
    check("starcoder", "");
}

#[test]
fn llama_spm() {
    check("llama-spm", " ");
}

#[test]
fn ids_by_role_are_those_of_the_files() {
    let Some(dir) = vocab_dir() else { return };
    let load = |name: &str| load(&dir.join(format!("ggml-vocab-{name}.gguf")));
    let llama3 = load("llama-bpe");
    assert_eq!(
        (llama3.bos(), llama3.eos(), llama3.eot()),
        (Some(128_000), Some(128_001), Some(128_009))
    );
    assert!(llama3.add_bos(), "by the custom of its pre-tokenizer");
    assert!(
        [128_001, 128_009]
            .into_iter()
            .all(|id| llama3.is_end_of_generation(id))
    );
    assert!(!llama3.is_end_of_generation(128_000));
    let spm = load("llama-spm");
    assert_eq!(
        (spm.bos(), spm.eos(), spm.eot(), spm.add_bos()),
        (Some(1), Some(2), None, true)
    );
    let qwen2 = load("qwen2");
    assert_eq!((qwen2.eot(), qwen2.add_bos()), (Some(151_645), false));
    assert!(qwen2.is_end_of_generation(151_643) && qwen2.is_end_of_generation(151_645));
}

#[test]
fn special_tokens_in_text() {
    let Some(dir) = vocab_dir() else { return };
    let llama3 = load(&dir.join("ggml-vocab-llama-bpe.gguf"));
    let text = "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>";
    assert_eq!(
        llama3.encode(text, Special::Parse).unwrap(),
        [128_006, 882, 128_007, 271, 13_347, 128_009]
    );
    let plain = llama3.encode(text, Special::Text).unwrap();
    assert!(plain.iter().all(|&id| id < 128_000));
    assert_eq!(decode(&llama3, &plain), text);
    // After a special token a SentencePiece text begins anew, with its space.
    let spm = load(&dir.join("ggml-vocab-llama-spm.gguf"));
    let hello = spm.encode("Hello", Special::Text).unwrap();
    assert_eq!(
        spm.encode("<s>Hello</s>Hello", Special::Parse).unwrap(),
        [&[1], &hello[..], &[2], &hello].concat()
    );
}

/// 100,000 characters without a space, in each algorithm: must not take time in n^2.
#[test]
fn long_texts_take_time_in_proportion() {
    let Some(dir) = vocab_dir() else { return };
    for name in ["gpt-2", "llama-bpe", "llama-spm"] {
        let tokenizer = load(&dir.join(format!("ggml-vocab-{name}.gguf")));
        let time = |text: &str| {
            let start = Instant::now();
            let ids = tokenizer.encode(text, Special::Parse).unwrap();
            assert_eq!(decode(&tokenizer, &ids).trim_start(), text.trim_start());
            start.elapsed().as_secs_f64() * 1e3
        };
        let letters: String = (0..100_000u32)
            .map(|i| char::from(b'a' + (i * i / 7 % 26) as u8))
            .collect();
        let cases = [
            letters,
            "a".repeat(100_000),
            " ".repeat(100_000),
            "é中😀<|".repeat(20_000),
            "\n".repeat(100_000),
        ];
        for text in cases {
            let (ms, start) = (time(&text), text.chars().next());
            println!("{name}: {start:?} {} bytes {ms:.1} ms", text.len());
            // n^2 would be 10^10 steps, tens of seconds; n log n is about 20 ms here.
            assert!(ms < 2_000.0, "{name}: {start:?} took {ms} ms");
        }
    }
}

#[test]
fn smollm2() {
    let default = || {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    };
    let path = std::env::var_os("MEETARA_SMOLLM2").map_or_else(default, PathBuf::from);
    if !path.is_file() {
        eprintln!(
            "\n!!! SKIPPED: no model at {}; set MEETARA_SMOLLM2 to run this test !!!\n",
            path.display()
        );
        return;
    }
    let tokenizer = load(&path);
    let cases: [(&str, &[u32]); 6] = [
        ("Hello world", &[19556, 905]),
        ("1234 567", &[33, 34, 35, 36, 216, 37, 38, 39]),
        (
            "  two  spaces\n\nnewline",
            &[216, 827, 216, 5600, 198, 198, 28160],
        ),
        ("don't stop", &[12420, 982, 2853]),
        ("naïve café 😀", &[3546, 46494, 37366, 40303, 218]),
        ("x=3.14;", &[104, 45, 35, 30, 33, 36, 43]),
    ];
    for (text, ids) in cases {
        assert_eq!(
            tokenizer.encode(text, Special::Text).unwrap(),
            ids,
            "{text:?}"
        );
    }
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.eot()),
        (Some(1), Some(2), Some(2))
    );
    assert!(!tokenizer.add_bos());
    let system = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n";
    let ids = [
        1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411,
        407, 19712, 8182, 2, 198,
    ];
    assert_eq!(tokenizer.encode(system, Special::Parse).unwrap(), ids);
}
