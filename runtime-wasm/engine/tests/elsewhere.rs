//! A conversation whose logits come from elsewhere for a while: the reply is the same as without.

use std::sync::Arc;

use meetara_engine::ErrorKind;
use meetara_engine::conformance::{Shape, VOCAB_MIN, random_model};
use meetara_engine::generate::{GenerateParams, Session, Step};
use meetara_engine::model::Model;
use meetara_format::GgmlType;

const SHAPE: Shape = Shape {
    n_layer: 2,
    n_embd: 64,
    n_head: 4,
    n_head_kv: 2,
    n_ff: 96,
    n_vocab: VOCAB_MIN,
    context_len: 256,
};

/// Longer than a pass, so that prefill takes several.
const TEXT: &str = "a text of more than thirty-two tokens, since each letter of it is one token";

fn model() -> Arc<Model> {
    let file = random_model(SHAPE, 11, |_| GgmlType::Q8_0).unwrap();
    Arc::new(Model::load(file).unwrap())
}

fn start(session: &mut Session, text: &str) {
    let params = GenerateParams {
        temperature: 0.0,
        max_tokens: Some(24),
        ..GenerateParams::default()
    };
    session.start_text(text, &params).unwrap();
}

/// The ids of a reply; call number `n` goes elsewhere where `remote(n)`.
fn reply(session: &mut Session, other: &mut Session, remote: impl Fn(usize) -> bool) -> Vec<u32> {
    let mut ids = Vec::new();
    for n in 0.. {
        let wanted = session
            .wanted()
            .filter(|_| remote(n))
            .map(|wanted| ([wanted.context, wanted.next].concat(), wanted.logits));
        let step = match wanted {
            None => session.step(),
            Some((_, false)) => session.provide(&[]),
            Some((tokens, true)) => session.provide(other.eval_tokens(&tokens).unwrap()),
        };
        match step.unwrap() {
            Step::Prefill { done, total } => assert!(done <= total),
            Step::Token { id, .. } => ids.push(id),
            Step::Done { .. } => break,
        }
    }
    ids
}

#[test]
fn logits_may_come_from_elsewhere_and_from_here_in_any_order() {
    let model = model();
    let mut whole = Session::new(model.clone(), None).unwrap();
    let mut other = Session::new(model.clone(), None).unwrap();
    let mut replies = Vec::new();
    for text in [TEXT, "another"] {
        start(&mut whole, text);
        replies.push(reply(&mut whole, &mut other, |_| false));
    }
    assert_eq!(replies[0].len(), 24);
    let splits: [fn(usize) -> bool; 5] =
        [|_| true, |n| n < 2, |n| n < 10, |n| n >= 7, |n| n % 5 < 2];
    for (index, remote) in splits.into_iter().enumerate() {
        let mut session = Session::new(model.clone(), None).unwrap();
        for (text, expected) in [TEXT, "another"].iter().zip(&replies) {
            start(&mut session, text);
            assert_eq!(
                &reply(&mut session, &mut other, remote),
                expected,
                "split {index}"
            );
        }
    }
}

#[test]
fn what_was_not_wanted_is_refused() {
    let model = model();
    let mut session = Session::new(model.clone(), None).unwrap();
    assert!(session.wanted().is_none());
    let logits = vec![0.0; model.config().n_vocab];
    let error = session.provide(&logits).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    start(&mut session, "a");
    let error = session.provide(&logits[1..]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    let error = session.provide(&[]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert!(session.provide(&logits).is_ok());
}
