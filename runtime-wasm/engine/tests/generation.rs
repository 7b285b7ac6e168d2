//! What can be asked of a reply beside its text, and of a model without one: on a small model of
//! random weights.

use std::sync::Arc;

use meetara_engine::ErrorKind;
use meetara_engine::conformance::{Shape, VOCAB_MIN, random_model};
use meetara_engine::generate::{GenerateParams, Logprobs, Pooling, Session, Step, Usage};
use meetara_engine::kernels::Kernels;
use meetara_engine::model::Model;
use meetara_engine::template::Message;
use meetara_engine::tokenizer::Special;
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

fn model_of(ty: GgmlType, kernels: Kernels) -> Arc<Model> {
    let file = random_model(SHAPE, 11, |_| ty).unwrap();
    Arc::new(Model::load_with(file, kernels).unwrap())
}

fn model() -> Arc<Model> {
    model_of(GgmlType::Q8_0, Kernels::available().remove(0))
}

fn session() -> Session {
    Session::new(model(), None).unwrap()
}

fn chat(turns: &[(&str, &str)]) -> Vec<Message> {
    let message = |&(role, content): &(&str, &str)| Message::new(role, content);
    turns.iter().map(message).collect()
}

/// Ids, log-probabilities and cost of a reply.
fn finish(session: &mut Session) -> (Vec<u32>, Vec<Logprobs>, Usage) {
    let (mut ids, mut logprobs) = (Vec::new(), Vec::new());
    loop {
        let step = session.step().unwrap();
        logprobs.extend(session.take_logprobs());
        match step {
            Step::Prefill { .. } => {}
            Step::Token { id, .. } => ids.push(id),
            Step::Done { usage, .. } => return (ids, logprobs, usage),
        }
    }
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// `ln softmax(logits)[id]` in f64.
fn ln_p(logits: &[f32], id: u32) -> f64 {
    let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
    f64::from(logits[id as usize]) - sum.ln()
}

#[test]
fn a_column_has_the_same_bits_however_many_are_evaluated_together() {
    let tokens: Vec<u32> = (0..67).map(|i| 5 + i * 37 % 250).collect();
    for kernels in Kernels::available() {
        for ty in [
            GgmlType::Q4_K,
            GgmlType::Q6_K,
            GgmlType::Q8_0,
            GgmlType::F16,
        ] {
            // Rows of K-quants are multiples of 256.
            let shape = Shape {
                n_embd: 256,
                n_ff: 256,
                ..SHAPE
            };
            let file = random_model(shape, 5, |_| ty).unwrap();
            let model = Arc::new(Model::load_with(file, kernels).unwrap());
            let mut session = Session::new(model, None).unwrap();
            session.eval_tokens(&tokens[..1]).unwrap();
            let mut rows = vec![bits(session.logits())];
            for &token in &tokens[1..] {
                rows.push(bits(session.append_token(token).unwrap()));
            }
            // In slices of 32, and logits of 8 columns together.
            session
                .score(&tokens, |i, row| {
                    assert_eq!(bits(row), rows[i], "{ty:?} {i}")
                })
                .unwrap();
        }
    }
}

#[test]
fn guesses_change_no_bit_of_a_reply() {
    let mut accepted = 0;
    for kernels in Kernels::available() {
        let model = model_of(GgmlType::Q5_1, kernels);
        for temperature in [0.0, 0.7, 1.5] {
            for (draft_max, lookup_ngram) in [(1, 1), (4, 2), (15, 1), (15, 3)] {
                for max_tokens in [None, Some(40)] {
                    let plain = GenerateParams {
                        temperature,
                        seed: 9,
                        repeat_penalty: 1.1,
                        max_tokens,
                        top_logprobs: Some(2),
                        ..GenerateParams::default()
                    };
                    let guessing = GenerateParams {
                        draft_max,
                        lookup_ngram,
                        ..plain.clone()
                    };
                    let text = "one two one two one two one two";
                    let mut session = Session::new(model.clone(), Some(120)).unwrap();
                    session.start_text(text, &plain).unwrap();
                    let (ids, logprobs, _) = finish(&mut session);
                    let logits = bits(session.logits());
                    let mut session = Session::new(model.clone(), Some(120)).unwrap();
                    session.start_text(text, &guessing).unwrap();
                    let guessed = finish(&mut session);
                    assert_eq!((&guessed.0, &guessed.1), (&ids, &logprobs));
                    assert_eq!(bits(session.logits()), logits);
                    assert!(guessed.2.accepted_tokens <= guessed.2.drafted_tokens);
                    accepted += guessed.2.accepted_tokens;
                }
            }
        }
    }
    assert!(
        accepted > 100,
        "only {accepted} guesses held: nothing was tested"
    );
}

#[test]
fn a_reply_left_in_the_middle_of_a_guess_leaves_a_sound_cache() {
    let params = GenerateParams {
        temperature: 0.0,
        draft_max: 15,
        lookup_ngram: 1,
        max_tokens: Some(30),
        ..GenerateParams::default()
    };
    let text = "abababababab";
    let mut whole = session();
    whole.start_text(text, &params).unwrap();
    let (expected, ..) = finish(&mut whole);
    let mut left = session();
    for steps in 1..20 {
        left.start_text(text, &params).unwrap();
        for _ in 0..steps {
            left.step().unwrap();
        }
        left.start_text(text, &params).unwrap();
        assert_eq!(finish(&mut left).0, expected, "left after {steps} steps");
    }
}

#[test]
fn logprobs_are_those_of_the_logits() {
    for temperature in [0.0, 1.2] {
        let mut session = session();
        let params = GenerateParams {
            temperature,
            max_tokens: Some(12),
            top_logprobs: Some(5),
            seed: 3,
            repeat_penalty: 1.3,
            ..GenerateParams::default()
        };
        let text = "some words";
        session.start_text(text, &params).unwrap();
        let (ids, logprobs, _) = finish(&mut session);
        assert_eq!((ids.len(), logprobs.len()), (12, 12));
        let mut tokens = vec![0];
        let tokenizer = session.model().clone();
        let tokenizer = tokenizer.tokenizer();
        tokens.extend(tokenizer.encode(text, Special::Parse).unwrap());
        for (&id, found) in ids.iter().zip(&logprobs) {
            let logits = session.eval_tokens(&tokens).unwrap();
            assert_eq!(found.token.id, id);
            assert!((f64::from(found.token.logprob) - ln_p(logits, id)).abs() < 1e-5);
            let mut ranked: Vec<u32> = (0..logits.len() as u32).collect();
            ranked.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
            for (top, &id) in found.top.iter().zip(&ranked) {
                assert_eq!(top.id, id);
                assert!((f64::from(top.logprob) - ln_p(logits, id)).abs() < 1e-5);
                let mut bytes = Vec::new();
                tokenizer.append_bytes(id, &mut bytes);
                assert_eq!(top.bytes, bytes);
            }
            assert_eq!(found.top.len(), 5);
            tokens.push(id);
        }
        // Not asked for: none.
        session
            .start_text(
                text,
                &GenerateParams {
                    top_logprobs: None,
                    ..params
                },
            )
            .unwrap();
        assert!(finish(&mut session).1.is_empty());
    }
}

#[test]
fn a_bias_bars_a_token_and_one_outside_the_vocabulary_is_refused() {
    let mut session = session();
    let mut params = GenerateParams {
        temperature: 0.0,
        max_tokens: Some(20),
        ..GenerateParams::default()
    };
    session.start_text("x", &params).unwrap();
    let (free, ..) = finish(&mut session);
    params.logit_bias = vec![(free[0], -100.0)];
    session.start_text("x", &params).unwrap();
    assert!(!finish(&mut session).0.contains(&free[0]));
    params.logit_bias = vec![(70_000, 1.0)];
    let error = session.start_text("x", &params).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert!(error.message().contains("70000"), "{error}");
}

#[test]
fn a_choice_has_the_probabilities_of_its_labels_tokens() {
    let mut session = session();
    let labels: Vec<String> = ["yes", "no", "maybe so", "x"].map(String::from).to_vec();
    let messages = chat(&[("user", "Is it? Answer in one word, after some thought.")]);
    let found = session.choose_chat(&messages, &labels).unwrap();
    let prompt =
        "<|endoftext|><|user|>Is it? Answer in one word, after some thought.<|end|><|assistant|>";
    let model = session.model().clone();
    let prompt = model.tokenizer().encode(prompt, Special::Parse).unwrap();
    assert_eq!(session.context_used() as usize, prompt.len());
    let sums: Vec<f64> = labels
        .iter()
        .map(|label| {
            let mut tokens = prompt.clone();
            let mut sum = 0.0;
            for token in model.tokenizer().encode(label, Special::Text).unwrap() {
                sum += ln_p(session.eval_tokens(&tokens).unwrap(), token);
                tokens.push(token);
            }
            sum
        })
        .collect();
    let total: f64 = sums.iter().map(|s| s.exp()).sum();
    for ((choice, label), sum) in found.iter().zip(&labels).zip(&sums) {
        assert_eq!(&choice.label, label);
        assert!(
            (f64::from(choice.logprob) - sum).abs() < 1e-3,
            "{choice:?} {sum}"
        );
        assert!((f64::from(choice.probability) - sum.exp() / total).abs() < 1e-3);
    }
    let all: f32 = found.iter().map(|choice| choice.probability).sum();
    assert!((all - 1.0).abs() < 1e-5);
    // Again, from the cache: the same bits. And a reply to the same chat finds its prompt there.
    assert_eq!(session.choose_chat(&messages, &labels).unwrap(), found);
    let started = session
        .start_chat(&messages, &GenerateParams::default())
        .unwrap();
    assert_eq!(started.cached_tokens, started.prompt_tokens - 1);

    let empty = vec![String::new()];
    let twice = vec!["a".to_owned(), "a".to_owned()];
    let many: Vec<String> = (0..257).map(|n| n.to_string()).collect();
    for wrong in [&[][..], &empty, &twice, &many] {
        let error = session.choose_text("x", wrong).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidRequest);
        assert!(error.message().starts_with("labels"), "{error}");
    }
    let long = vec!["y".repeat(300)];
    let error = session.choose_text("x", &long).unwrap_err();
    assert_eq!(error.kind, ErrorKind::ContextOverflow);
}

#[test]
fn an_embedding_has_length_one_and_depends_on_the_text_alone() {
    let mut session = session();
    let long = "a text of more than one slice of columns, so that the mean is over two";
    let length = |v: &[f32]| v.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
    for pooling in [Pooling::Mean, Pooling::Last] {
        let found = session.embed(long, pooling).unwrap();
        assert_eq!(found.embedding.len(), SHAPE.n_embd);
        let model = session.model().clone();
        let tokens = model.tokenizer().encode(long, Special::Parse).unwrap();
        assert_eq!(found.tokens as usize, tokens.len() + 1);
        assert!(tokens.len() > 64);
        assert!((length(&found.embedding) - 1.0).abs() < 1e-6);
        session
            .start_text("something else", &GenerateParams::default())
            .unwrap();
        session.step().unwrap();
        assert_eq!(session.embed(long, pooling).unwrap(), found);
        assert_ne!(
            session.embed("other", pooling).unwrap().embedding,
            found.embedding
        );
    }
    // Of the same beginning, the mean of one token more: the last token's state alone tells them apart.
    let one = session.embed("a", Pooling::Last).unwrap();
    let two = session.embed("ba", Pooling::Last).unwrap();
    assert_ne!(
        one.embedding, two.embedding,
        "the last state knows what came before"
    );
    assert_eq!(
        session.embed("", Pooling::Mean).unwrap_err().kind,
        ErrorKind::InvalidRequest
    );
    let error = session.embed(&"z".repeat(300), Pooling::Mean).unwrap_err();
    assert_eq!(error.kind, ErrorKind::ContextOverflow);
}

/// A conversation of which the last `turns` pairs are kept.
fn long_chat(pairs: std::ops::Range<usize>) -> Vec<Message> {
    let mut messages = chat(&[("system", "be kind")]);
    for pair in pairs {
        messages.push(Message::new("user", format!("question {pair}")));
        messages.push(Message::new("assistant", format!("answer {pair}")));
    }
    messages.push(Message::new("user", "and now?"));
    messages
}

#[test]
fn a_full_context_drops_the_oldest_turns_and_goes_on_as_if_they_had_not_been_sent() {
    let model = model();
    let params = GenerateParams {
        temperature: 0.8,
        seed: 4,
        context_shift: true,
        max_tokens: Some(90),
        // The random model must not end its reply before the context does.
        logit_bias: (0..4).map(|id| (id, -100.0)).collect(),
        ..GenerateParams::default()
    };
    let mut session = Session::new(model.clone(), Some(150)).unwrap();
    session.start_chat(&long_chat(0..4), &params).unwrap();
    let (mut ids, mut prompt_len) = (Vec::new(), None);
    let usage = loop {
        match session.step().unwrap() {
            Step::Prefill { done, total } if done == total && !ids.is_empty() => {
                prompt_len = Some((total as usize, ids.len()));
            }
            Step::Prefill { .. } => {}
            Step::Token { id, .. } => {
                if let Some((len, before)) = prompt_len.take() {
                    // Exactly the logits of a session that never saw what was dropped.
                    assert_eq!(before, ids.len());
                    let dropped = (0..=4)
                        .find(|&from| tokens_of(&model, &long_chat(from..4)).len() + before == len);
                    let mut tokens = tokens_of(&model, &long_chat(dropped.unwrap()..4));
                    tokens.extend(&ids);
                    let mut fresh = Session::new(model.clone(), None).unwrap();
                    fresh.eval_tokens(&tokens).unwrap();
                    assert_eq!(bits(fresh.logits()), bits(session.logits()));
                }
                ids.push(id);
            }
            Step::Done { usage, .. } => break usage,
        }
    };
    assert_eq!(usage.completion_tokens, 90);
    assert!(usage.dropped_messages >= 2, "{usage:?}");

    // Without being asked, the reply ends.
    let plain = GenerateParams {
        context_shift: false,
        ..params.clone()
    };
    session.start_chat(&long_chat(0..4), &plain).unwrap();
    let (short, _, usage) = finish(&mut session);
    assert!(short.len() < 90 && usage.dropped_messages == 0);
    assert_eq!(short[..], ids[..short.len()]);

    // A prompt that is too long from the start is shortened before it is evaluated.
    session.start_chat(&long_chat(0..20), &params).unwrap();
    let (_, _, usage) = finish(&mut session);
    assert!(
        usage.dropped_messages >= 30 && usage.prompt_tokens <= 150,
        "{usage:?}"
    );
    // What cannot be dropped still overflows, and a text has no turns.
    let error = session
        .start_chat(&chat(&[("user", &"z".repeat(200))]), &params)
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::ContextOverflow);
    let error = session.start_text("x", &params).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
}

fn tokens_of(model: &Model, messages: &[Message]) -> Vec<u32> {
    meetara_engine::generate::prompt::chat_tokens(model, messages).unwrap()
}
