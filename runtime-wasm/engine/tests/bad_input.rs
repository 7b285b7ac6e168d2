//! Damaged files and impossible requests: each gives a clear error or a sound result, never a panic, never a hang,
//! and the next request works.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meetara_engine::generate::{GenerateParams, Session, Step};
use meetara_engine::model::Model;
use meetara_engine::{Error, ErrorKind};
use support::read;

/// Far above what one case takes (a few milliseconds), far below what a person would call a hang.
const CASE_TIME_MAX: Duration = Duration::from_secs(20);
const FILES: [&str; 2] = [
    "tests/vectors/tiny/tiny-f32.gguf",
    "tests/vectors/tiny/tiny-q4_k_m.gguf",
];

/// Where the parts of a GGUF file begin, found without the reader under test: header fields, every key, type, value
/// and array element count, every tensor record's fields, the data section, every tensor's first byte, the end.
fn boundaries(file: &[u8]) -> Vec<usize> {
    struct Walk<'a> {
        file: &'a [u8],
        at: usize,
        marks: Vec<usize>,
    }
    impl Walk<'_> {
        fn mark(&mut self) {
            self.marks.push(self.at);
        }
        fn uint(&mut self, bytes: usize) -> usize {
            self.mark();
            let raw = &self.file[self.at..self.at + bytes];
            self.at += bytes;
            raw.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b))
        }
        fn string(&mut self) -> String {
            let n = self.uint(8);
            self.mark();
            let text = String::from_utf8(self.file[self.at..self.at + n].to_vec()).unwrap();
            self.at += n;
            text
        }
        fn value(&mut self, ty: usize) {
            match ty {
                0 | 1 | 7 => self.at += 1,
                2 | 3 => self.at += 2,
                4..=6 => self.at += 4,
                8 => {
                    self.string();
                }
                9 => {
                    let of = self.uint(4);
                    let n = self.uint(8);
                    self.mark();
                    let marks_before = self.marks.len();
                    for _ in 0..n {
                        self.value(of);
                    }
                    // Of the hundreds of strings in a vocabulary, the first few are enough.
                    self.marks.truncate(marks_before + 4);
                }
                10..=12 => self.at += 8,
                other => panic!("value type {other}"),
            }
        }
    }
    let mut w = Walk {
        file,
        at: 4,
        marks: vec![0, 4],
    };
    w.uint(4);
    let n_tensors = w.uint(8);
    let n_pairs = w.uint(8);
    for _ in 0..n_pairs {
        w.string();
        let ty = w.uint(4);
        w.mark();
        w.value(ty);
    }
    let mut offsets = Vec::new();
    for _ in 0..n_tensors {
        w.string();
        let n_dims = w.uint(4);
        for _ in 0..n_dims {
            w.uint(8);
        }
        w.uint(4);
        offsets.push(w.uint(8));
    }
    w.mark();
    let data_start = w.at.next_multiple_of(32);
    w.marks.extend(offsets.iter().map(|o| data_start + o));
    w.marks.push(file.len());
    w.marks
}

fn load_and_run(bytes: Vec<u8>) -> Result<(), Error> {
    let model = Arc::new(Model::load(bytes)?);
    let mut session = Session::new(model, Some(32))?;
    // Greedy, then sampled with every filter on: a damaged weight may give NaN or infinite logits to both.
    let sampled = GenerateParams {
        temperature: 0.8,
        top_k: 40,
        top_p: 0.9,
        min_p: 0.05,
        repeat_penalty: 1.1,
        ..GenerateParams::default()
    };
    for params in [
        GenerateParams {
            temperature: 0.0,
            ..GenerateParams::default()
        },
        sampled,
    ] {
        session.start_text(
            "a b1",
            &GenerateParams {
                max_tokens: Some(2),
                ..params
            },
        )?;
        while !matches!(session.step()?, Step::Done { .. }) {}
    }
    Ok(())
}

/// Runs one case; `Ok(true)` where the file was accepted. A panic or a wordless error fails the test.
fn case(what: &str, bytes: Vec<u8>) -> bool {
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| load_and_run(bytes)));
    assert!(
        start.elapsed() < CASE_TIME_MAX,
        "{what}: took {:?}",
        start.elapsed()
    );
    match result {
        Err(_) => panic!("{what}: panicked"),
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            assert!(
                error.message().len() > 10,
                "{what}: {error:?} says too little"
            );
            // A damaged scale can make weights infinite, which shows only in the logits.
            let is_in_weights = error.message().contains("the weights hold values");
            assert!(
                error.kind != ErrorKind::Internal || is_in_weights,
                "{what}: {error}"
            );
            false
        }
    }
}

#[test]
fn a_file_cut_at_any_boundary_is_refused() {
    for name in FILES {
        let whole = read(name);
        let marks = boundaries(&whole);
        assert!(marks.len() > 150, "{name}: only {} boundaries", marks.len());
        for mark in marks {
            for at in [mark.saturating_sub(1), mark, mark + 1] {
                if at < whole.len() {
                    let accepted = case(&format!("{name} cut at byte {at}"), whole[..at].to_vec());
                    // The last tensor may end in padding, which a reader can do without.
                    assert!(
                        !accepted || at + 32 > whole.len(),
                        "{name}: cut at byte {at} was accepted"
                    );
                }
            }
        }
        assert!(case(name, whole), "{name}: the whole file must run");
    }
}

#[test]
fn a_thousand_single_byte_faults_do_no_harm() {
    let mut z = 0x6661_756C_7473_u64;
    let mut random = move |below: usize| {
        z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) % below as u64) as usize
    };
    let mut accepted = 0;
    for name in FILES {
        let whole = read(name);
        let header = boundaries(&whole)
            .into_iter()
            .filter(|&at| at < whole.len())
            .max()
            .unwrap();
        let first_tensor = meetara_format::Gguf::parse(&whole, whole.len() as u64)
            .unwrap()
            .data_start as usize;
        assert!(first_tensor < header);
        for i in 0..500 {
            // Most faults go where they hurt: into the header.
            let at = random(if i % 5 == 0 {
                whole.len()
            } else {
                first_tensor
            });
            let flip = 1 + random(255) as u8;
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            accepted += usize::from(case(&format!("{name}, byte {at} xor {flip:#04x}"), bytes));
        }
    }
    // A changed letter of a token or bit of a weight is still a model; a changed length is not.
    assert!(
        (100..900).contains(&accepted),
        "{accepted} of 1000 faults were accepted"
    );
}

/// `tiny-f32.gguf` with one byte string replaced by another of the same length.
fn replaced(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = read(FILES[0]);
    let at = bytes
        .windows(from.len())
        .position(|w| w == from.as_bytes())
        .expect("the text to replace");
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

fn refusal(bytes: Vec<u8>) -> Error {
    match Model::load(bytes) {
        Ok(_) => panic!("the file must be refused"),
        Err(error) => error,
    }
}

#[test]
fn an_unknown_architecture_is_named() {
    // The first "llama" of the file is the value of general.architecture.
    let error = refusal(replaced("llama", "xlstm"));
    assert_eq!(error.kind, ErrorKind::UnsupportedModel, "{error}");
    assert!(error.message().contains("xlstm"), "{error}");
}

#[test]
fn an_unknown_pre_tokenizer_is_named() {
    let error = refusal(replaced("smollm", "smxllm"));
    assert_eq!(error.kind, ErrorKind::UnsupportedModel, "{error}");
    assert!(error.message().contains("smxllm"), "{error}");
}

#[test]
fn a_missing_tensor_is_named() {
    let error = refusal(replaced("blk.1.ffn_up.weight", "blk.1.ffn_no.weight"));
    assert_eq!(error.kind, ErrorKind::InvalidModel, "{error}");
    assert!(error.message().contains("blk.1.ffn_up.weight"), "{error}");
}

#[test]
fn an_empty_and_a_foreign_file_are_refused() {
    for bytes in [
        Vec::new(),
        b"GGUF".to_vec(),
        b"PK\x03\x04 not a model at all".repeat(40),
        vec![0; 4096],
    ] {
        assert_eq!(refusal(bytes).kind, ErrorKind::InvalidModel);
    }
}

#[test]
fn after_a_refused_request_the_next_one_works() {
    let model = Arc::new(Model::load(read(FILES[0])).unwrap());
    let context = model.config().context_len;
    let n_vocab = model.config().n_vocab as u32;
    let mut session = Session::new(Arc::clone(&model), None).unwrap();
    let good = session.eval_tokens(&[0, 100, 200]).unwrap().to_vec();
    assert!(good.iter().all(|x| x.is_finite()));

    let greedy = GenerateParams {
        temperature: 0.0,
        max_tokens: Some(4),
        ..GenerateParams::default()
    };
    let too_long = "word ".repeat(context);
    let refused = [
        (
            "a prompt above the context",
            session.start_text(&too_long, &greedy).unwrap_err(),
            ErrorKind::ContextOverflow,
        ),
        (
            "tokens above the context",
            session
                .eval_tokens(&vec![100; context + 1])
                .map(<[f32]>::len)
                .unwrap_err(),
            ErrorKind::ContextOverflow,
        ),
        (
            "an id outside the vocabulary",
            session
                .eval_tokens(&[0, n_vocab])
                .map(<[f32]>::len)
                .unwrap_err(),
            ErrorKind::InvalidRequest,
        ),
        (
            "no tokens",
            session.eval_tokens(&[]).map(<[f32]>::len).unwrap_err(),
            ErrorKind::InvalidRequest,
        ),
        (
            "a temperature below zero",
            session
                .start_text(
                    "hi",
                    &GenerateParams {
                        temperature: -1.0,
                        ..greedy.clone()
                    },
                )
                .unwrap_err(),
            ErrorKind::InvalidRequest,
        ),
    ];
    for (what, error, kind) in refused {
        assert_eq!(error.kind, kind, "{what}: {error}");
        assert!(
            !error.message().contains("word"),
            "{what}: a message must not carry what a user typed"
        );
    }
    // The same logits, bit for bit: nothing of the refused requests is left.
    let again = session.eval_tokens(&[0, 100, 200]).unwrap();
    assert!(
        good.iter()
            .zip(again)
            .all(|(a, b)| a.to_bits() == b.to_bits())
    );
    session.start_text("hi", &greedy).unwrap();
    while !matches!(session.step().unwrap(), Step::Done { .. }) {}
}

#[test]
fn a_reply_that_fills_the_context_ends_with_length() {
    let model = Arc::new(Model::load(read(FILES[0])).unwrap());
    let mut session = Session::new(model, Some(24)).unwrap();
    let params = GenerateParams {
        temperature: 0.0,
        max_tokens: None,
        ..GenerateParams::default()
    };
    let started = session.start_text("What is it?", &params).unwrap();
    let mut tokens = 0;
    let usage = loop {
        match session.step().unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { .. } => tokens += 1,
            Step::Done { finish, usage, .. } => {
                assert_eq!(finish, meetara_engine::generate::Finish::Length);
                break usage;
            }
        }
        assert!(tokens <= 24, "the reply runs past the context");
    };
    assert_eq!(usage.completion_tokens, tokens);
    // The last token needs no place in the cache: it is not evaluated.
    let total = started.prompt_tokens + usage.completion_tokens;
    assert!(
        (24..=25).contains(&total),
        "prompt and reply have {total} tokens in a context of 24"
    );
    assert!(session.step().is_err(), "a finished reply has no next step");
}
