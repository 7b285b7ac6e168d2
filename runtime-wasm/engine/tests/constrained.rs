//! Replies held to schemas and grammars, by a tiny model of random weights and by the one we ship.

mod support;

use std::sync::Arc;

use meetara_engine::ErrorKind;
use meetara_engine::generate::{Constraint, Finish, GenerateParams, Session, Step};
use meetara_engine::model::Model;
use meetara_engine::template::Message;
use serde_json::{Value, json};

const TINY: &str = "tests/vectors/tiny/tiny-f32.gguf";
const POCKET: &str = "models/pocket/meetara-pocket-q4_k_m.gguf";

fn session(file: &str) -> Session {
    let model = Model::load(support::read(file)).unwrap();
    Session::new(Arc::new(model), None).unwrap()
}

/// One schema of each kind that users write.
fn schemas() -> Vec<Value> {
    vec![
        json!({"type": "object", "properties": {"mood": {"enum": ["calm", "sad", "angry", "glad é"]}},
               "required": ["mood"], "additionalProperties": false}),
        json!({"type": "object", "properties": {
                   "name": {"type": "string", "maxLength": 20},
                   "address": {"type": "object", "properties": {"street": {"type": "string"}, "number": {"type": "integer"}},
                               "required": ["street", "number"], "additionalProperties": false}},
               "required": ["name", "address"], "additionalProperties": false}),
        json!({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 4}),
        json!({"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2,4}$"}),
        json!({"type": "number", "minimum": 0, "maximum": 100}),
    ]
}

fn params(constraint: Constraint) -> GenerateParams {
    GenerateParams {
        temperature: 0.0,
        max_tokens: Some(60),
        constraint: Some(constraint),
        ..GenerateParams::default()
    }
}

/// The reply's text and tokens, and why it ended.
fn ask(session: &mut Session, params: &GenerateParams) -> (String, Vec<u32>, Finish) {
    let message = Message::new("user", "Tell me about a town, as JSON.");
    session.start_chat(&[message], params).unwrap();
    let (mut reply, mut ids) = (String::new(), Vec::new());
    loop {
        match session.step().unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { id, text } => {
                ids.push(id);
                reply.push_str(&text);
            }
            Step::Done {
                finish,
                text,
                usage,
            } => {
                reply.push_str(&text);
                assert_eq!(usage.completion_tokens as usize, ids.len());
                return (reply, ids, finish);
            }
        }
    }
}

#[test]
fn every_reply_validates_however_it_is_drawn_and_wherever_it_is_cut() {
    let draws: [fn(&mut GenerateParams); 5] = [
        |_| {},
        |p| (p.temperature, p.seed) = (1.5, 7),
        |p| (p.temperature, p.top_k, p.top_p, p.min_p) = (1.0, 5, 0.9, 0.01),
        |p| (p.repeat_penalty, p.presence_penalty, p.frequency_penalty) = (1.3, 0.5, 0.5),
        |p| (p.temperature, p.draft_max, p.lookup_ngram) = (0.8, 8, 1),
    ];
    let (mut stopped, mut cut) = (0, 0);
    for file in [TINY, POCKET] {
        let mut session = session(file);
        for schema in schemas() {
            let validator = jsonschema::validator_for(&schema).unwrap();
            for draw in draws {
                for max_tokens in [1, 4, 13, 60] {
                    let mut params = params(Constraint::JsonSchema(schema.to_string()));
                    params.max_tokens = Some(max_tokens);
                    draw(&mut params);
                    let (reply, _, finish) = ask(&mut session, &params);
                    let value: Value = serde_json::from_str(&reply)
                        .unwrap_or_else(|e| panic!("{file}, {params:?}: {e}: {reply}"));
                    assert!(validator.is_valid(&value), "{file}, {params:?}: {reply}");
                    match finish {
                        Finish::Stop => stopped += 1,
                        Finish::Length => cut += 1,
                    }
                }
            }
        }
    }
    assert!(
        stopped > 20 && cut > 20,
        "{stopped} stopped, {cut} were cut"
    );
}

/// Text that comes when the context is full is brought to its end as well.
#[test]
fn a_full_context_ends_in_valid_json_too() {
    let mut session = session(TINY);
    let mut params = params(Constraint::JsonSchema(
        r#"{"type":"array","items":{"type":"string","minLength":3}}"#.to_owned(),
    ));
    (params.temperature, params.max_tokens) = (1.0, None);
    let mut full = 0;
    for seed in 0..12 {
        params.seed = seed;
        let (reply, ids, finish) = ask(&mut session, &params);
        let value: Value = serde_json::from_str(&reply).unwrap();
        assert!(value.is_array());
        if finish == Finish::Length {
            assert!(ids.len() > 100);
            full += 1;
        }
    }
    assert!(full > 0, "no reply filled the context");
}

/// Greedily, the token that is taken has the largest logit of all that the rule allows.
#[test]
fn greedy_takes_the_best_that_is_allowed() {
    let mut session = session(POCKET);
    let words = ["sad", "glad", "angry", "calm"];
    let schema = json!({ "enum": words }).to_string();
    let (reply, ids, finish) = ask(&mut session, &params(Constraint::JsonSchema(schema)));
    assert_eq!(finish, Finish::Stop);
    let text: String = serde_json::from_str(&reply).unwrap();
    assert!(words.contains(&text.as_str()));

    // The same by hand: evaluate the prompt and each prefix, and look at all tokens that go on with it.
    let model = Arc::clone(session.model());
    let mut free = params(Constraint::JsonObject);
    free.constraint = None;
    let replies: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    let mut prefix: Vec<u8> = Vec::new();
    let message = Message::new("user", "Tell me about a town, as JSON.");
    session.start_chat(&[message], &free).unwrap();
    while let Step::Prefill { done, total } = session.step().unwrap() {
        if done == total {
            break;
        }
    }
    for &chosen in &ids {
        let logits = session.logits().to_vec();
        let allowed = (0..model.tokenizer().len() as u32).filter(|&id| {
            let mut bytes = prefix.clone();
            model.tokenizer().append_bytes(id, &mut bytes);
            bytes.len() > prefix.len() && replies.iter().any(|r| r.as_bytes().starts_with(&bytes))
        });
        let better = |a: &u32, b: &u32| logits[*a as usize].total_cmp(&logits[*b as usize]);
        let best = allowed.max_by(better).unwrap();
        assert_eq!(logits[best as usize], logits[chosen as usize]);
        model.tokenizer().append_bytes(chosen, &mut prefix);
        session.append_token(chosen).unwrap();
    }
    assert_eq!(prefix, reply.as_bytes());
}

#[test]
fn log_probabilities_stay_the_models_own_and_guesses_change_nothing() {
    let mut session = session(POCKET);
    let mut params = params(Constraint::JsonSchema(
        r#"{"type":"array","items":{"enum":["one","two"]},"minItems":9,"maxItems":9}"#.to_owned(),
    ));
    let plain = ask(&mut session, &params);
    (params.draft_max, params.lookup_ngram) = (8, 2);
    assert_eq!(ask(&mut session, &params), plain);
    params.top_logprobs = Some(1);
    let message = Message::new("user", "Tell me about a town, as JSON.");
    session.start_chat(&[message], &params).unwrap();
    let mut barred = 0;
    loop {
        match session.step().unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { .. } => {
                let logprobs = session.take_logprobs().unwrap();
                barred += u32::from(logprobs.token.id != logprobs.top[0].id);
            }
            Step::Done { .. } => break,
        }
    }
    assert!(barred > 0, "the model wanted to write this JSON by itself");
}

#[test]
fn grammars_hold() {
    let mut session = session(TINY);
    let grammar = "start: (\"ab\" | \"é\")~3 \".\"";
    let (reply, _, finish) = ask(&mut session, &params(Constraint::Lark(grammar.to_owned())));
    assert_eq!(finish, Finish::Stop);
    let stripped = reply.replace("ab", "x").replace('é', "x");
    assert_eq!(stripped, "xxx.");
}

#[test]
fn what_cannot_be_followed_is_refused_and_the_session_goes_on() {
    let mut session = session(TINY);
    let message = [Message::new("user", "Hi")];
    let bad = [
        Constraint::JsonSchema(r#"{"properties":{"a":{"pattern":"("}}}"#.to_owned()),
        Constraint::JsonSchema("nonsense".to_owned()),
        Constraint::Lark("start: secret".to_owned()),
    ];
    for constraint in bad {
        let error = session
            .start_chat(&message, &params(constraint))
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidConstraint, "{error}");
        assert!(!error.message().contains("secret"), "{error}");
    }
    let mut both = params(Constraint::JsonObject);
    both.stop = vec!["}".to_owned()];
    let error = session.start_chat(&message, &both).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    let (reply, _, _) = ask(&mut session, &params(Constraint::JsonObject));
    assert!(serde_json::from_str::<Value>(&reply).unwrap().is_object());
}

#[test]
fn a_mask_of_a_hosts_own_holds_for_one_token() {
    let mut session = session(TINY);
    assert!(session.allow(&[1]).is_err());
    let mut free = params(Constraint::JsonObject);
    free.constraint = None;
    let message = [Message::new("user", "Hi")];
    let first_of = |session: &mut Session, mask: Option<&[u32]>| {
        session.start_chat(&message, &free).unwrap();
        let mut ids = Vec::new();
        if let Some(mask) = mask {
            session.allow(mask).unwrap();
        }
        while ids.len() < 2 {
            if let Step::Token { id, .. } = session.step().unwrap() {
                ids.push(id);
            }
        }
        ids
    };
    let plain = first_of(&mut session, None);
    let only = (100..400).find(|&id| id != plain[0]).unwrap();
    let mut mask = vec![0; 16];
    mask[only as usize / 32] = 1 << (only % 32);
    let masked = first_of(&mut session, Some(&mask));
    assert_eq!(masked[0], only);
    assert_ne!(masked[1], only, "the mask was kept");
}
