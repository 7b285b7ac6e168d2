//! Does it help a chat model to be told how somebody feels? Bits per byte of what people really answered,
//! with nothing said, with a line that names no feeling, with the right feeling, and with a wrong one.
//!
//! A pair is a turn with a feeling and the other person's answer, with the turns of both right before it.
//! Every condition sees the same turns; only the system message differs.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use meetara_engine::emotion::{Emotion, EmotionState, Empathy, system_line};
use meetara_engine::encoder::Encoder;
use meetara_engine::eval::{Bits, reply_bits};
use meetara_engine::generate::Session;
use meetara_engine::model::Model;
use meetara_engine::template::Message;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::examples;

/// Turns before the answer that a model is shown, at most.
const HISTORY_TURNS: usize = 4;
/// A reader must be this sure of a feeling for its turn to count.
const SURE: f32 = 0.6;
/// Resamplings of the dialogues for an interval.
const RESAMPLES: usize = 10_000;
/// Said in the condition `control`: as long as a line with a feeling, without one.
const CONTROL: &str = "The user is writing to you.";

/// An answer and what came before.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Turns up to the one with the feeling, which is the user's.
    history: Vec<Message>,
    /// What was answered.
    reply: String,
    /// What the user felt.
    feeling: Emotion,
    /// Which dialogue it is from; answers of one dialogue are resampled together.
    dialogue: usize,
}

/// What is said of a feeling.
#[derive(Clone, Debug)]
pub enum Wording {
    /// The engine's own line, at a level of empathy.
    Engine(Empathy),
    /// Any text; `{feeling}` in it becomes the feeling.
    Text(String),
}

impl Wording {
    fn of(&self, feeling: Emotion) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.replace("{feeling}", feeling.adjective()?)),
            Self::Engine(empathy) => {
                let mut p = [0.0; 7];
                p[Emotion::Neutral as usize] = 0.1;
                p[feeling as usize] += 0.9;
                system_line(&EmotionState::new().observe(p, 9), *empathy)
            }
        }
    }
}

fn emotion(name: &str) -> Option<Emotion> {
    Emotion::ALL.into_iter().find(|e| e.name() == name)
}

/// Pairs of a file whose rows are turns with `dialogue`, `turn`, `speaker` and one label each (MELD).
///
/// # Errors
/// When a row lacks one of them.
pub fn labelled(path: &Path) -> Result<Vec<Pair>> {
    struct Turn {
        speaker: String,
        text: String,
        feeling: Option<Emotion>,
    }
    let mut dialogues: std::collections::BTreeMap<u64, std::collections::BTreeMap<u64, Turn>> =
        std::collections::BTreeMap::new();
    for (i, row) in examples::rows(path)?.iter().enumerate() {
        let at = || format!("{} row {}", path.display(), i + 1);
        let number = |key: &str| row.get(key).and_then(Value::as_u64).with_context(at);
        let text = |key: &str| row.get(key).and_then(Value::as_str).with_context(at);
        let label = row
            .get("labels")
            .and_then(|l| l.get(0))
            .and_then(Value::as_str);
        let turn = Turn {
            speaker: text("speaker")?.into(),
            text: text("text")?.into(),
            feeling: label.and_then(emotion),
        };
        let dialogue = dialogues.entry(number("dialogue")?).or_default();
        dialogue.insert(number("turn")?, turn);
    }
    let mut pairs = Vec::new();
    for (id, turns) in &dialogues {
        for (at, turn) in turns {
            let (Some(reply), Some(feeling)) = (turns.get(&(at + 1)), turn.feeling) else {
                continue;
            };
            if reply.speaker == turn.speaker || feeling == Emotion::Neutral {
                continue;
            }
            // Back as long as only these two speak.
            let mut history: Vec<Message> = Vec::new();
            for back in (0..=*at).rev().take(HISTORY_TURNS) {
                let role = match turns.get(&back).map(|t| &t.speaker) {
                    Some(speaker) if *speaker == turn.speaker => "user",
                    Some(speaker) if *speaker == reply.speaker => "assistant",
                    _ => break,
                };
                let text = turns[&back].text.trim();
                match history.first_mut().filter(|m| m.role == role) {
                    Some(later) => later.content = format!("{text} {}", later.content),
                    None => history.insert(0, Message::new(role, text)),
                }
            }
            if history.first().is_some_and(|m| m.role == "assistant") {
                history.remove(0);
            }
            pairs.push(Pair {
                history,
                reply: reply.text.trim().into(),
                feeling,
                dialogue: usize::try_from(*id)?,
            });
        }
    }
    Ok(pairs)
}

/// Pairs of chats, the feeling being what `reader`'s head `emotion` is sure of.
///
/// # Errors
/// When the reader has no such head.
pub fn read(chats: &[Vec<Message>], reader: &Encoder) -> Result<Vec<Pair>> {
    let head = reader
        .heads()
        .iter()
        .position(|head| head.name == "emotion")
        .context("the reader has no head `emotion`")?;
    let labels = reader.heads()[head].labels.clone();
    let of_chat = |(dialogue, chat): (usize, &Vec<Message>)| -> Result<Vec<Pair>> {
        let mut pairs = Vec::new();
        for (at, turns) in chat.windows(2).enumerate() {
            if turns[0].role != "user" || turns[1].role != "assistant" {
                continue;
            }
            let reading = reader.encode(&turns[0].content)?;
            let p = &reading.heads[head].probabilities;
            let best = super::metrics::most_likely(p);
            let Some(feeling) = emotion(&labels[best]) else {
                continue;
            };
            if p[best] < SURE || feeling == Emotion::Neutral {
                continue;
            }
            let mut from = (at + 1).saturating_sub(HISTORY_TURNS);
            if chat[from].role == "assistant" {
                from += 1;
            }
            pairs.push(Pair {
                history: chat[from..=at].to_vec(),
                reply: turns[1].content.trim().into(),
                feeling,
                dialogue,
            });
        }
        Ok(pairs)
    };
    let all: Vec<Vec<Pair>> = chats
        .par_iter()
        .enumerate()
        .map(of_chat)
        .collect::<Result<_>>()?;
    Ok(all.into_iter().flatten().collect())
}

/// A difference of bits per byte; below 0, the first of the two foretells better.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Difference {
    /// Over all answers.
    pub mean: f64,
    /// Lower and upper end of the 95 % interval, by resampling dialogues.
    pub interval: [f64; 2],
}

/// One wording on some pairs.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// The line for somebody sad.
    pub wording: String,
    /// Answers measured.
    pub replies: usize,
    /// Dialogues they are from.
    pub dialogues: usize,
    /// Their UTF-8 bytes.
    pub bytes: u64,
    /// Bits per byte with nothing said.
    pub none: f64,
    /// With a line that names no feeling.
    pub control: f64,
    /// With the right feeling.
    pub right: f64,
    /// With another one.
    pub wrong: f64,
    /// `right` against `none`.
    pub right_none: Difference,
    /// `right` against `control`.
    pub right_control: Difference,
    /// `right` against `wrong`.
    pub right_wrong: Difference,
}

/// Measures wordings on `pairs`; `seed` draws the wrong feelings and the resamplings.
///
/// # Errors
/// When the model has no chat template, or one that cannot be scored.
pub fn measure(
    model: &Arc<Model>,
    pairs: &[Pair],
    wordings: &[Wording],
    seed: u64,
) -> Result<Vec<Figures>> {
    ensure!(!pairs.is_empty(), "the data holds no answer to a feeling");
    let felt = Emotion::ALL.into_iter().filter(|e| *e != Emotion::Neutral);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let wrong: Vec<Emotion> = pairs
        .iter()
        .map(|pair| {
            let others: Vec<Emotion> = felt.clone().filter(|e| *e != pair.feeling).collect();
            others.choose(&mut rng).copied().unwrap_or(pair.feeling)
        })
        .collect();
    let none = bits(model, pairs, |_| None)?;
    let control = bits(model, pairs, |_| Some(CONTROL.into()))?;
    let mut all = Vec::new();
    for wording in wordings {
        let right = bits(model, pairs, |i| wording.of(pairs[i].feeling))?;
        let other = bits(model, pairs, |i| wording.of(wrong[i]))?;
        let mean = |of: &[Bits]| {
            let mut sum = Bits::default();
            of.iter().for_each(|b| sum += *b);
            sum
        };
        let mut dialogues: Vec<usize> = pairs.iter().map(|p| p.dialogue).collect();
        dialogues.dedup();
        all.push(Figures {
            wording: wording.of(Emotion::Sadness).unwrap_or_default(),
            replies: pairs.len(),
            dialogues: dialogues.len(),
            bytes: mean(&none).bytes,
            none: mean(&none).per_byte(),
            control: mean(&control).per_byte(),
            right: mean(&right).per_byte(),
            wrong: mean(&other).per_byte(),
            right_none: difference(&right, &none, pairs, seed),
            right_control: difference(&right, &control, pairs, seed),
            right_wrong: difference(&right, &other, pairs, seed),
        });
    }
    Ok(all)
}

/// Bits of every answer with the system line that `line` gives.
fn bits(
    model: &Arc<Model>,
    pairs: &[Pair],
    line: impl Fn(usize) -> Option<String> + Sync,
) -> Result<Vec<Bits>> {
    pairs
        .par_iter()
        .enumerate()
        .map_init(
            || Session::new(model.clone(), None),
            |session, (i, pair)| {
                let session = session.as_mut().map_err(|e| anyhow::anyhow!("{e}"))?;
                let mut messages: Vec<Message> = line(i)
                    .map(|line| Message::new("system", line.as_str()))
                    .into_iter()
                    .collect();
                messages.extend(pair.history.iter().cloned());
                messages.push(Message::new("assistant", pair.reply.as_str()));
                Ok(reply_bits(session, &messages)?)
            },
        )
        .collect()
}

/// `a` less `b` in bits per byte, and its interval by a paired bootstrap over dialogues.
fn difference(a: &[Bits], b: &[Bits], pairs: &[Pair], seed: u64) -> Difference {
    // Sums of each dialogue: difference in bits, and bytes.
    let mut sums: Vec<(usize, f64, f64)> = Vec::new();
    for ((a, b), pair) in a.iter().zip(b).zip(pairs) {
        let (bits, bytes) = (a.bits - b.bits, a.bytes as f64);
        match sums.last_mut().filter(|last| last.0 == pair.dialogue) {
            Some(last) => {
                last.1 += bits;
                last.2 += bytes;
            }
            None => sums.push((pair.dialogue, bits, bytes)),
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let (mut bits, mut bytes) = (0.0, 0.0);
            for _ in 0..sums.len() {
                let (_, x, n) = sums[rng.random_range(0..sums.len())];
                bits += x;
                bytes += n;
            }
            bits / bytes
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let total = sums.iter().fold((0.0, 0.0), |t, s| (t.0 + s.1, t.1 + s.2));
    Difference {
        mean: total.0 / total.1,
        interval: [means[RESAMPLES / 40], means[RESAMPLES - 1 - RESAMPLES / 40]],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(dialogue: u64, turn: u64, speaker: &str, label: &str, text: &str) -> String {
        serde_json::json!({"dialogue": dialogue, "turn": turn, "speaker": speaker,
            "labels": [label], "text": text})
        .to_string()
            + "\n"
    }

    #[test]
    fn answers_to_a_feeling_are_found_with_the_turns_of_both() {
        let folder = std::env::temp_dir().join(format!("meetara-replies-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("turns.jsonl");
        let rows = [
            turn(3, 0, "C", "joy", "Hi all"),
            turn(3, 1, "A", "neutral", "Hello"),
            turn(3, 2, "B", "neutral", "What is it?"),
            turn(3, 3, "A", "neutral", "My train is gone."),
            turn(3, 4, "A", "sadness", "And my bag."),
            turn(3, 5, "B", "neutral", "Oh no."),
            turn(4, 0, "A", "anger", "Alone here"),
        ];
        std::fs::write(&path, rows.concat()).unwrap();
        let pairs = labelled(&path).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        // C's joy is answered by A; A's sadness by B. Neutral turns and the last one have none.
        assert_eq!(pairs.len(), 2);
        assert_eq!(pairs[0].feeling, Emotion::Joy);
        let sad = &pairs[1];
        assert_eq!(
            (sad.feeling, sad.reply.as_str()),
            (Emotion::Sadness, "Oh no.")
        );
        let said: Vec<(&str, &str)> = sad
            .history
            .iter()
            .map(|m| (m.role.as_str(), m.content.as_str()))
            .collect();
        let wanted = [
            ("user", "Hello"),
            ("assistant", "What is it?"),
            ("user", "My train is gone. And my bag."),
        ];
        assert_eq!(said, wanted);
    }

    #[test]
    fn an_interval_holds_the_difference_and_leaves_out_zero_when_all_agree() {
        let pair = |dialogue| Pair {
            history: Vec::new(),
            reply: String::new(),
            feeling: Emotion::Joy,
            dialogue,
        };
        let pairs: Vec<Pair> = (0..40).map(pair).collect();
        let bits = |bits: f64| Bits {
            bits,
            bytes: 10,
            tokens: 3,
        };
        let a: Vec<Bits> = (0..40).map(|i| bits(10.0 + f64::from(i % 3))).collect();
        let b: Vec<Bits> = (0..40).map(|i| bits(12.0 + f64::from(i % 5))).collect();
        let found = difference(&a, &b, &pairs, 1);
        assert!(found.interval[0] < found.mean && found.mean < found.interval[1]);
        assert!(found.interval[1] < 0.0);
        let nothing = difference(&a, &a, &pairs, 1);
        assert_eq!((nothing.mean, nothing.interval), (0.0, [0.0, 0.0]));
    }

    #[test]
    fn wordings_name_the_feeling() {
        let text = Wording::Text("They are {feeling}.".into());
        assert_eq!(text.of(Emotion::Fear).unwrap(), "They are afraid.");
        let engine = Wording::Engine(Empathy::Medium).of(Emotion::Fear).unwrap();
        assert!(engine.contains("afraid"));
    }
}
