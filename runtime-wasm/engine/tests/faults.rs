//! Files with one wrong byte: an error or a sound result, never a panic.

use std::sync::Arc;

use meetara_engine::conformance::{Random, Shape, VOCAB_MIN, random_model};
use meetara_engine::generate::{GenerateParams, Session, Step};
use meetara_engine::model::Model;
use meetara_engine::template::Message;
use meetara_format::{GgmlType, Gguf};

const FAULTS: usize = 1000;

/// Loads and writes four tokens; says whether that went well.
fn run(file: Vec<u8>) -> meetara_engine::Result<()> {
    let mut session = Session::new(Arc::new(Model::load(file)?), None)?;
    let params = GenerateParams {
        temperature: 0.0,
        max_tokens: Some(4),
        ..GenerateParams::default()
    };
    let message = Message {
        role: "user".into(),
        content: "hi".into(),
    };
    session.start_chat(&[message], &params)?;
    while !matches!(session.step()?, Step::Done { .. }) {}
    Ok(())
}

#[test]
fn a_thousand_single_byte_faults() {
    let shape = Shape {
        n_layer: 1,
        n_embd: 32,
        n_head: 2,
        n_head_kv: 1,
        n_ff: 32,
        n_vocab: VOCAB_MIN,
        context_len: 64,
    };
    let file = random_model(shape, 1, |name| match name {
        "token_embd.weight" => GgmlType::Q4_0,
        _ => GgmlType::Q8_0,
    })
    .unwrap();
    run(file.clone()).unwrap();
    let header = Gguf::parse(&file, file.len() as u64).unwrap().data_start as usize;
    let mut random = Random::new(1);
    let mut below = |n: usize| (random.bits() % n as u64) as usize;
    let (mut sound, mut refused) = (0, 0);
    for fault in 0..FAULTS {
        // Two thirds in the header, where a byte decides more.
        let at = if fault % 3 == 0 {
            below(file.len())
        } else {
            below(header)
        };
        let mut faulty = file.clone();
        faulty[at] ^= match fault % 5 {
            0 => 0xff,
            1 => 0x80,
            _ => 1 << below(8),
        };
        match run(faulty) {
            Ok(()) => sound += 1,
            Err(error) => {
                assert!(!error.message().is_empty());
                refused += 1;
            }
        }
    }
    eprintln!("{sound} ran, {refused} were refused");
    assert!(
        sound > 100 && refused > 100,
        "{sound} ran, {refused} were refused"
    );
}
