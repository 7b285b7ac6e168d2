//! SmolLM2-135M-Instruct (Apache-2.0), a model that others made, against what llama.cpp says about the same file.
//!
//! The file is large and not kept in the repository. It is looked for at the path in `MEETARA_SMOLLM2`, then in
//! `target/models/` under the repository's root; without it these tests say so and test nothing.

use std::path::PathBuf;
use std::sync::Arc;

use meetara_engine::generate::{Finish, GenerateParams, Session, Step};
use meetara_engine::model::Model;
use meetara_engine::template::Message;

const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// How far logits may lie from llama.cpp's: both round activations to 8 bits, each in its own way.
const LOGIT_ERROR_MAX: f32 = 1.0;
/// A choice may differ where the two candidates are nearly tied: by how much ours may lead.
const LEAD_MAX: f32 = 0.5;

fn session() -> Option<Session> {
    let path = std::env::var_os("MEETARA_SMOLLM2").map_or_else(
        || {
            PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("../../target/models")
                .join(FILE)
        },
        PathBuf::from,
    );
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!(
            "SKIPPED: {} is not there; set MEETARA_SMOLLM2 to where it is",
            path.display()
        );
        return None;
    };
    let model = Arc::new(Model::load(bytes).unwrap());
    Some(Session::new(model, Some(256)).unwrap())
}

struct Case {
    text: &'static str,
    /// The likeliest tokens after the prompt, with llama.cpp's logits.
    top: [(u32, f32); 3],
    /// The first tokens of llama.cpp's greedy reply.
    reply: &'static [u32],
    /// Whether the reply ends there.
    ends: bool,
}

const CASES: [Case; 4] = [
    Case {
        text: "Write one sentence about a cat.",
        top: [(49, 26.751), (504, 26.656), (57, 24.682)],
        reply: &[
            49, 2644, 314, 253, 26061, 12251, 351, 253, 33391, 10078, 28, 253, 25695, 8088, 28,
            284, 253, 7436, 1945, 30,
        ],
        ends: true,
    },
    Case {
        text: "How do I boil an egg?",
        top: [(50, 29.944), (23641, 29.726), (2068, 28.865)],
        reply: &[50, 11458, 354, 3785, 42, 198, 198],
        ends: false,
    },
    Case {
        text: "I feel sad today.",
        top: [(10813, 28.340), (57, 27.407), (61, 26.576)],
        reply: &[10813, 230, 126],
        ends: false,
    },
    Case {
        text: "What is 7 plus 5?",
        top: [(2068, 32.344), (39, 32.206), (49, 31.892)],
        reply: &[
            2068, 803, 216, 39, 284, 216, 37, 28, 392, 737, 288, 1066, 260, 1686, 282, 4261, 42,
            216, 39, 1232, 216, 37, 446, 216, 33, 34, 30,
        ],
        ends: true,
    },
];

/// The likeliest token, and by how much it leads `other`.
fn best(logits: &[f32], other: u32) -> (u32, f32) {
    let best = (0..logits.len())
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        .unwrap();
    (best as u32, logits[best] - logits[other as usize])
}

#[test]
fn logits_and_forced_choices_are_those_of_llama_cpp() {
    let Some(mut session) = session() else { return };
    let (mut agreed, mut all) = (0, 0);
    for case in &CASES {
        let message = Message {
            role: "user".into(),
            content: case.text.into(),
        };
        session
            .start_chat(&[message], &GenerateParams::default())
            .unwrap();
        while let Step::Prefill { done, total } = session.step().unwrap() {
            if done == total {
                break;
            }
        }
        for (id, wanted) in case.top {
            let found = session.logits()[id as usize];
            eprintln!("{}: {id}: {found:.3}, llama.cpp {wanted:.3}", case.text);
            assert!(
                (found - wanted).abs() <= LOGIT_ERROR_MAX,
                "{}: {id}: {found}",
                case.text
            );
        }
        // llama.cpp's own reply is read, and each of its tokens guessed from those before.
        for &id in case.reply {
            let (found, lead) = best(session.logits(), id);
            if found != id {
                eprintln!("{}: {found} leads llama.cpp's {id} by {lead:.3}", case.text);
            }
            assert!(
                lead <= LEAD_MAX,
                "{}: {found} leads {id} by {lead}",
                case.text
            );
            agreed += usize::from(found == id);
            all += 1;
            session.append_token(id).unwrap();
        }
        if case.ends {
            let (found, _) = best(session.logits(), 0);
            assert!(
                session.model().tokenizer().is_end_of_generation(found),
                "{}",
                case.text
            );
        }
    }
    eprintln!("{agreed} of {all} choices are llama.cpp's");
    assert!(agreed * 100 >= all * 90, "{agreed} of {all}");
}

#[test]
fn a_greedy_reply_is_the_sentence_of_llama_cpp() {
    let Some(mut session) = session() else { return };
    let message = Message {
        role: "user".into(),
        content: CASES[0].text.into(),
    };
    let params = GenerateParams {
        temperature: 0.0,
        ..GenerateParams::default()
    };
    session.start_chat(&[message], &params).unwrap();
    let (mut ids, mut whole) = (Vec::new(), String::new());
    let finish = loop {
        match session.step().unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { id, text } => {
                ids.push(id);
                whole += &text;
            }
            Step::Done { finish, text, .. } => {
                whole += &text;
                break finish;
            }
        }
    };
    assert_eq!(ids, CASES[0].reply);
    assert_eq!(finish, Finish::Stop);
    assert_eq!(
        whole,
        "A cat is a majestic creature with a fluffy coat, a playful personality, and a curious mind."
    );
}
