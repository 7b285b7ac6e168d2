//! A GGUF file: its header read and written again, its tensors unpacked, the model loaded and asked.

use std::sync::Arc;

use meetara_engine::generate::{GenerateParams, Session, Step};
use meetara_engine::model::Model;
use meetara_engine::template::Message;
use meetara_format::{ErrorKind, Gguf, Writer, dequantize};

/// Elements of a tensor that are unpacked; the rest is more of the same.
const ELEMENTS_MAX: u64 = 4096;
/// The context of the session: little memory, and its end is reached.
const CONTEXT_MAX: u32 = 12;

/// Feeds `data` as a file.
pub fn run(data: &[u8]) {
    header(data);
    if let Ok(model) = Model::load(data.to_vec()) {
        reply(Arc::new(model));
    }
}

fn header(data: &[u8]) {
    let len = data.len() as u64;
    let whole = Gguf::parse(data, len);
    // A loader sees the head first. It must be told to bring more, or find what the whole file says.
    let head = &data[..data.len() / 2];
    match (Gguf::parse(head, len), &whole) {
        (Ok(part), Ok(whole)) => assert!(part == *whole, "the head of a file reads as another one"),
        (Ok(_), Err(error)) => panic!("a head was read, its file was refused: {error}"),
        (Err(error), Ok(_)) => assert!(matches!(error.kind, ErrorKind::NeedMore { .. }), "{error}"),
        (Err(_), Err(_)) => {}
    }
    let Ok(gguf) = whole else { return };
    for tensor in &gguf.tensors {
        let bytes = gguf
            .tensor_data(tensor, data)
            .expect("parse checks every tensor's place");
        assert_eq!(bytes.len() as u64, tensor.bytes);
        if tensor.elements() <= ELEMENTS_MAX {
            let values = dequantize(tensor.ty, bytes, tensor.elements() as usize);
            assert_eq!(
                values.map(|v| v.len() as u64),
                Ok(tensor.elements()),
                "{}",
                tensor.name
            );
        }
    }
    let writer = Writer::from_gguf(&gguf, data).expect("what was read can be written");
    // The writer keeps to limits that readers need not: a refusal is no fault.
    if let Ok(again) = writer.finish() {
        let read = Gguf::parse(&again, again.len() as u64).expect("what was written can be read");
        // Compared as text, since NaN is not equal to itself.
        assert_eq!(
            format!("{:?}", read.metadata),
            format!("{:?}", gguf.metadata)
        );
        assert_eq!(read.tensors.len(), gguf.tensors.len());
    }
}

fn reply(model: Arc<Model>) {
    let context = CONTEXT_MAX.min(model.config().context_len as u32);
    let Ok(mut session) = Session::new(model, Some(context)) else {
        return;
    };
    let params = GenerateParams {
        temperature: 0.8,
        top_p: 0.9,
        repeat_penalty: 1.1,
        max_tokens: Some(4),
        stop: vec!["lo".to_owned()],
        ..GenerateParams::default()
    };
    let messages = [Message::new("user", "hello a <|end|> é")];
    let started = [
        session.start_chat(&messages, &params).is_ok(),
        session.start_text("hello", &params).is_ok(),
    ];
    if started != [false; 2] {
        // The steps are bounded by the context and `max_tokens`.
        for _ in 0..2 * CONTEXT_MAX {
            match session.step() {
                Ok(Step::Done { .. }) | Err(_) => return,
                Ok(_) => {}
            }
        }
        panic!("a reply in a context of {CONTEXT_MAX} tokens does not end");
    }
}
