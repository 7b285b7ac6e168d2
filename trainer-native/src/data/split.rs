//! Which examples are held out for measuring, and which training examples give them away.
//!
//! An example is held out when the first eight bytes (big-endian) of the SHA-256 of its canonical
//! text, modulo 1000, are below `permille`. Canonical: each text's white space collapsed to single
//! spaces and trimmed, every turn as `role U+001F text U+001E`, a plain text as it is. So the
//! choice depends on neither order, file, seed nor the rest of the data, and copies of an example
//! always fall on the same side.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::{Body, Example, Role, Turn};

/// True when the example is kept for measuring.
pub fn is_held_out(example: &Example, permille: u32) -> bool {
    let mut hash = Sha256::new();
    match &example.body {
        Body::Text(text) => update(&mut hash, text),
        Body::Chat(turns) => {
            for turn in turns {
                hash.update(turn.role.name());
                hash.update("\u{1F}");
                update(&mut hash, &turn.content);
                hash.update("\u{1E}");
            }
        }
    }
    first_u64(hash) % 1000 < u64::from(permille)
}

fn update(hash: &mut Sha256, text: &str) {
    for (i, word) in text.split_whitespace().enumerate() {
        if i > 0 {
            hash.update(" ");
        }
        hash.update(word);
    }
}

fn first_u64(hash: Sha256) -> u64 {
    let digest = hash.finalize();
    digest
        .iter()
        .take(8)
        .fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Questions and answers of held-out single-turn chats, by hash (white space collapsed, lower
/// case). A training chat with the same question or the same answer would give them away.
#[derive(Default)]
pub struct Leaks {
    questions: HashSet<u64>,
    answers: HashSet<u64>,
}

impl Leaks {
    /// Remembers a held-out example; only chats of one question and one answer matter.
    pub fn hold_out(&mut self, example: &Example) {
        if let Some((question, answer)) = single_turn(example) {
            self.questions.insert(fingerprint(question));
            self.answers.insert(fingerprint(answer));
        }
    }

    /// True when a training example has to be dropped.
    pub fn gives_away(&self, example: &Example) -> bool {
        single_turn(example).is_some_and(|(question, answer)| {
            self.questions.contains(&fingerprint(question))
                || self.answers.contains(&fingerprint(answer))
        })
    }
}

/// Question and answer, where a chat is just these (and perhaps a system turn before them).
fn single_turn(example: &Example) -> Option<(&str, &str)> {
    let Body::Chat(turns) = &example.body else {
        return None;
    };
    let turns = match turns.as_slice() {
        [first, rest @ ..] if first.role == Role::System => rest,
        all => all,
    };
    match turns {
        [
            Turn {
                role: Role::User,
                content: question,
            },
            Turn {
                role: Role::Assistant,
                content: answer,
            },
        ] => Some((question, answer)),
        _ => None,
    }
}

fn fingerprint(text: &str) -> u64 {
    let mut hash = Sha256::new();
    update(&mut hash, &text.to_lowercase());
    first_u64(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(turns: &[(Role, &str)]) -> Example {
        let turn = |&(role, content): &(Role, &str)| Turn {
            role,
            content: content.to_owned(),
        };
        Example {
            body: Body::Chat(turns.iter().map(turn).collect()),
            domain: None,
        }
    }

    fn pair(question: &str, answer: &str) -> Example {
        chat(&[(Role::User, question), (Role::Assistant, answer)])
    }

    #[test]
    fn the_share_is_close_and_larger_shares_contain_smaller_ones() {
        let examples: Vec<Example> = (0..10_000)
            .map(|i| pair(&format!("question {i}"), "yes"))
            .collect();
        let held = |permille| -> Vec<usize> {
            (0..examples.len())
                .filter(|&i| is_held_out(&examples[i], permille))
                .collect()
        };
        assert!(held(0).is_empty());
        assert_eq!(held(1000).len(), examples.len());
        let (small, large) = (held(10), held(30));
        assert!((70..130).contains(&small.len()), "{}", small.len());
        assert!((240..360).contains(&large.len()), "{}", large.len());
        assert!(small.iter().all(|i| large.contains(i)));
    }

    #[test]
    fn the_hash_is_the_stated_one() {
        // First eight bytes of SHA-256("abc"), FIPS 180-4's example.
        let mut hash = Sha256::new();
        hash.update("abc");
        assert_eq!(first_u64(hash), 0xba78_16bf_8f01_cfea);
        let text = |text: &str| Example {
            body: Body::Text(text.into()),
            domain: None,
        };
        let rest = (0xba78_16bf_8f01_cfea_u64 % 1000) as u32;
        for spelled in ["abc", "  abc\r\n"] {
            assert!(is_held_out(&text(spelled), rest + 1));
            assert!(!is_held_out(&text(spelled), rest));
        }
    }

    #[test]
    fn white_space_does_not_move_an_example() {
        for i in 0..200 {
            let plain = pair(&format!("what is {i}"), "a number");
            let spaced = pair(&format!(" what\n is  {i} "), "a number\n");
            assert_eq!(is_held_out(&plain, 300), is_held_out(&spaced, 300));
        }
    }

    #[test]
    fn same_question_or_answer_is_dropped_in_single_turn_chats_only() {
        let mut leaks = Leaks::default();
        leaks.hold_out(&pair("What is tea?", "A drink."));
        leaks.hold_out(&chat(&[
            (Role::User, "hi"),
            (Role::Assistant, "hello"),
            (Role::User, "bye"),
            (Role::Assistant, "see you"),
        ]));
        assert!(leaks.gives_away(&pair("what is  TEA?", "Leaves.")));
        assert!(leaks.gives_away(&pair("Is cocoa one?", "a drink.")));
        assert!(leaks.gives_away(&chat(&[
            (Role::System, "be short"),
            (Role::User, "What is tea?"),
            (Role::Assistant, "Leaves."),
        ])));
        assert!(!leaks.gives_away(&pair("What is milk?", "White.")));
        assert!(!leaks.gives_away(&pair("hi", "see you")));
        assert!(!leaks.gives_away(&pair("A drink.", "What is tea?")));
        assert!(!leaks.gives_away(&chat(&[
            (Role::User, "What is tea?"),
            (Role::Assistant, "Why?"),
            (Role::User, "So."),
            (Role::Assistant, "A drink."),
        ])));
    }
}
