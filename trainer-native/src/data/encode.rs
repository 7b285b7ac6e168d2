//! Examples to pieces: token ids, and for each token what it counts as in the loss.
//!
//! ```text
//! chat  <|endoftext|> <|user|> how are you <|end|> <|assistant|> fine <|end|>
//! class  marker        marker   prompt      marker  marker        full full
//! text  <|endoftext|> once upon a time
//! class  marker        full
//! ```
//!
//! A piece has at most `seq_len + 1` tokens: `seq_len` inputs and the last one's target. What is
//! longer goes on in further pieces, each with its own `<|endoftext|>`; the first token after it
//! has no context there and counts as a marker.

use anyhow::{Result, anyhow, ensure};
use serde::{Deserialize, Serialize};

use super::{Body, Example, Role, Turn};
use crate::tokenizer::{self, Encoder};

/// What a token counts as when it is the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Role markers, document starts, padding: weight 0.
    Marker,
    /// What the user and the system say: a weight of choice.
    Prompt,
    /// What the assistant says, with its `<|end|>`, and plain text: weight 1.
    Full,
}

/// Loss weight of each class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// For what the user and the system say, 0 to 1.
    pub prompt: f32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { prompt: 0.5 }
    }
}

impl Weights {
    /// Only what the assistant says, and plain text.
    pub const ANSWERS: Self = Self { prompt: 0.0 };

    /// The weight of one class.
    pub fn of(self, class: Class) -> f32 {
        match class {
            Class::Marker => 0.0,
            Class::Prompt => self.prompt,
            Class::Full => 1.0,
        }
    }
}

/// Text to ids, without any control token. One clone per thread.
pub trait TextEncoder: Clone + Send {
    /// Appends the ids of `text`.
    fn encode(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<()>;
}

impl TextEncoder for Encoder {
    fn encode(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        Encoder::encode(self, text, ids)
    }
}

/// The ids that a chat template puts around documents and turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatFormat {
    /// Begins every piece.
    pub start: Vec<u32>,
    /// Opens a system, user, assistant turn.
    pub open: [Vec<u32>; 3],
    /// Closes a turn; after an assistant's it is learnt with weight 1.
    pub close: Vec<u32>,
    /// Follows `close`, never learnt (ChatML's newline).
    pub after: Vec<u32>,
}

impl ChatFormat {
    /// Our own model's: `<|endoftext|>`, then `<|role|>content<|end|>` for each turn.
    pub fn pocket() -> Self {
        use tokenizer::{ASSISTANT, END, END_OF_TEXT, SYSTEM, USER};
        Self {
            start: vec![END_OF_TEXT],
            open: [vec![SYSTEM], vec![USER], vec![ASSISTANT]],
            close: vec![END],
            after: vec![],
        }
    }

    fn open(&self, role: Role) -> &[u32] {
        let [system, user, assistant] = &self.open;
        match role {
            Role::System => system,
            Role::User => user,
            Role::Assistant => assistant,
        }
    }
}

/// Pieces laid end to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// Token ids of all pieces. `[n_tokens]`
    pub ids: Vec<u32>,
    /// Class of each token. `[n_tokens]`
    pub classes: Vec<Class>,
    /// Where each piece ends in `ids`. `[n_pieces]`
    pub ends: Vec<usize>,
    /// How often each piece is used in an epoch. `[n_pieces]`
    pub uses: Vec<u32>,
}

impl Pieces {
    /// Number of pieces.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True without pieces.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Where piece `i` lies in `ids` and `classes`; empty past the last piece.
    pub fn range(&self, i: usize) -> std::ops::Range<usize> {
        let end = self.ends.get(i).copied().unwrap_or(self.ids.len());
        let start = match i {
            0 => 0,
            _ => self.ends.get(i - 1).copied().unwrap_or(end),
        };
        start..end
    }

    /// Adds all of `other` behind.
    pub fn append(&mut self, other: Pieces) {
        let shift = self.ids.len();
        self.ids.extend(other.ids);
        self.classes.extend(other.classes);
        self.ends.extend(other.ends.iter().map(|end| end + shift));
        self.uses.extend(other.uses);
    }

    /// Tokens of one epoch, each piece as often as it is used.
    pub fn tokens_per_epoch(&self) -> u64 {
        let tokens = |i| self.range(i).len() as u64 * u64::from(self.uses[i]);
        (0..self.len()).map(tokens).sum()
    }
}

/// One thread's worth of encoding.
#[derive(Clone)]
pub struct ExampleEncoder<E> {
    encoder: E,
    format: ChatFormat,
    seq_len: usize,
    ids: Vec<u32>,
    classes: Vec<Class>,
}

impl<E: TextEncoder> ExampleEncoder<E> {
    /// For pieces of at most `seq_len` inputs and one target more.
    pub fn new(encoder: E, format: ChatFormat, seq_len: usize) -> Result<Self> {
        ensure!(
            seq_len > format.start.len(),
            "sequence_len is {seq_len}: it must be more than {}",
            format.start.len()
        );
        Ok(Self {
            encoder,
            format,
            seq_len,
            ids: Vec::new(),
            classes: Vec::new(),
        })
    }

    /// Appends the pieces of one example, each to be used `uses` times.
    pub fn encode(&mut self, example: &Example, uses: u32, pieces: &mut Pieces) -> Result<()> {
        self.ids.clear();
        self.classes.clear();
        match &example.body {
            Body::Text(text) => {
                self.encoder.encode(text, &mut self.ids)?;
                self.classes.resize(self.ids.len(), Class::Full);
            }
            Body::Chat(turns) => {
                for turn in turns {
                    self.encode_turn(turn)?;
                }
            }
        }
        let start = &self.format.start;
        let room = self.seq_len + 1 - start.len();
        let bodies = self.ids.chunks(room).zip(self.classes.chunks(room));
        for (i, (ids, classes)) in bodies.enumerate() {
            // Alone behind a start there is nothing to learn.
            if i > 0 && ids.len() < 2 {
                break;
            }
            pieces.ids.extend(start);
            pieces.ids.extend(ids);
            pieces
                .classes
                .resize(pieces.classes.len() + start.len(), Class::Marker);
            let first = pieces.classes.len();
            pieces.classes.extend(classes);
            if i > 0
                && let Some(class) = pieces.classes.get_mut(first)
            {
                *class = Class::Marker;
            }
            pieces.ends.push(pieces.ids.len());
            pieces.uses.push(uses);
        }
        Ok(())
    }

    fn encode_turn(&mut self, turn: &Turn) -> Result<()> {
        let (content, close) = match turn.role {
            Role::Assistant => (Class::Full, Class::Full),
            Role::System | Role::User => (Class::Prompt, Class::Marker),
        };
        self.ids.extend(self.format.open(turn.role));
        self.classes.resize(self.ids.len(), Class::Marker);
        self.encoder.encode(&turn.content, &mut self.ids)?;
        self.classes.resize(self.ids.len(), content);
        self.ids.extend(&self.format.close);
        self.classes.resize(self.ids.len(), close);
        self.ids.extend(&self.format.after);
        self.classes.resize(self.ids.len(), Class::Marker);
        Ok(())
    }
}

/// Encodes `examples` (each with its `uses`) on `n_threads`; the result does not depend on their
/// number.
pub fn encode_all<E: TextEncoder>(
    encoder: &ExampleEncoder<E>,
    examples: &[Example],
    uses: &[u32],
    n_threads: usize,
) -> Result<Pieces> {
    ensure!(
        examples.len() == uses.len(),
        "{} examples with {} use counts",
        examples.len(),
        uses.len()
    );
    let n_a_thread = examples.len().div_ceil(n_threads.max(1)).max(1);
    let parts = std::thread::scope(|scope| {
        let jobs: Vec<_> = examples
            .chunks(n_a_thread)
            .zip(uses.chunks(n_a_thread))
            .map(|(examples, uses)| {
                let mut encoder = encoder.clone();
                scope.spawn(move || -> Result<Pieces> {
                    let mut pieces = Pieces::default();
                    for (example, &uses) in examples.iter().zip(uses) {
                        encoder.encode(example, uses, &mut pieces)?;
                    }
                    Ok(pieces)
                })
            })
            .collect();
        let join = |job: std::thread::ScopedJoinHandle<'_, Result<Pieces>>| {
            job.join()
                .unwrap_or_else(|_| Err(anyhow!("an encoding thread died")))
        };
        jobs.into_iter().map(join).collect::<Vec<_>>()
    });
    let mut all = Pieces::default();
    for part in parts {
        all.append(part?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One id per letter: 100 + its place in the alphabet of code points.
    #[derive(Clone)]
    struct Letters;
    impl TextEncoder for Letters {
        fn encode(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
            ids.extend(text.chars().map(|c| c as u32));
            Ok(())
        }
    }

    fn text(text: &str) -> Example {
        Example {
            body: Body::Text(text.into()),
            domain: None,
        }
    }

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

    fn encode(example: &Example, seq_len: usize) -> Vec<(Vec<u32>, Vec<Class>)> {
        let mut encoder = ExampleEncoder::new(Letters, ChatFormat::pocket(), seq_len).unwrap();
        let mut pieces = Pieces::default();
        encoder.encode(example, 1, &mut pieces).unwrap();
        (0..pieces.len())
            .map(|i| pieces.range(i))
            .map(|range| {
                (
                    pieces.ids[range.clone()].to_vec(),
                    pieces.classes[range].to_vec(),
                )
            })
            .collect()
    }

    use Class::{Full as F, Marker as M, Prompt as P};

    #[test]
    fn a_chat_follows_the_template() {
        let example = chat(&[
            (Role::System, "s"),
            (Role::User, "ab"),
            (Role::Assistant, "c"),
        ]);
        let ids = vec![0, 1, 115, 4, 2, 97, 98, 4, 3, 99, 4];
        let classes = vec![M, M, P, M, M, P, P, M, M, F, F];
        assert_eq!(encode(&example, 32), [(ids, classes)]);
    }

    #[test]
    fn a_long_text_is_cut_and_loses_nothing() {
        let pieces = encode(&text("abcdefghij"), 4);
        let expected: [(&[u32], &[Class]); 3] = [
            (&[0, 97, 98, 99, 100], &[M, F, F, F, F]),
            (&[0, 101, 102, 103, 104], &[M, M, F, F, F]),
            (&[0, 105, 106], &[M, M, F]),
        ];
        assert_eq!(pieces.len(), 3);
        for ((ids, classes), (expected_ids, expected_classes)) in pieces.iter().zip(expected) {
            assert_eq!(
                (ids.as_slice(), classes.as_slice()),
                (expected_ids, expected_classes)
            );
        }
        assert_eq!(
            encode(&text("abcde"), 4).len(),
            1,
            "a tail of one token teaches nothing"
        );
    }

    #[test]
    fn a_long_chat_goes_on_in_the_next_piece() {
        let example = chat(&[(Role::User, "ab"), (Role::Assistant, "cdef")]);
        let pieces = encode(&example, 5);
        assert_eq!(
            pieces[0],
            (vec![0, 2, 97, 98, 4, 3], vec![M, M, P, P, M, M])
        );
        assert_eq!(
            pieces[1],
            (vec![0, 99, 100, 101, 102, 4], vec![M, M, F, F, F, F])
        );
    }

    #[test]
    fn chatml_and_weights() {
        let format = ChatFormat {
            start: vec![],
            open: [vec![1, 11], vec![1, 12], vec![1, 13]],
            close: vec![2],
            after: vec![10],
        };
        let mut encoder = ExampleEncoder::new(Letters, format, 64).unwrap();
        let mut pieces = Pieces::default();
        let example = chat(&[(Role::User, "a"), (Role::Assistant, "c")]);
        encoder.encode(&example, 3, &mut pieces).unwrap();
        assert_eq!(pieces.ids, [1, 12, 97, 2, 10, 1, 13, 99, 2, 10]);
        let weights: Vec<f32> = pieces
            .classes
            .iter()
            .map(|&c| Weights::default().of(c))
            .collect();
        assert_eq!(weights, [0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!(pieces.tokens_per_epoch(), 30);
    }

    #[test]
    fn threads_do_not_change_the_result() {
        let examples: Vec<Example> = (0..23).map(|i| text(&"x".repeat(i * 3))).collect();
        let uses: Vec<u32> = (1..24).collect();
        let encoder = ExampleEncoder::new(Letters, ChatFormat::pocket(), 8).unwrap();
        let one = encode_all(&encoder, &examples, &uses, 1).unwrap();
        assert!(one.len() > 50 && one.ids.len() == one.classes.len());
        for n_threads in [2, 5, 100] {
            assert_eq!(
                one,
                encode_all(&encoder, &examples, &uses, n_threads).unwrap()
            );
        }
        assert!(encode_all(&encoder, &examples, &uses[1..], 1).is_err());
    }
}
