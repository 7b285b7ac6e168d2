//! What a text says beside its words: how somebody feels, what it is about, and whether somebody needs help at once.
//!
//! ```text
//!            ┌─ language ── none that it knows: no feeling and no domain are named
//! text ──────┼─ encoder ─── heads emotion, goemotions, domain, safety   (the text's beginning; safety also its end)
//!            └─ rules ───── safety                                      (all of it, in any case)
//! ```
//!
//! A [`Reader`] is an [`Encoder`] with these four heads (`models/emotion`), the rules of `models/safety` and the rows of
//! `domains.toml`; the two are compiled in. A [`Reading`] is the same bit for bit on every host, and is written as
//! `POST /v1/emotion/analyze` answers.

mod domain;
mod feelings;
mod language;
mod safety;

use serde::Serialize;

pub use domain::{DOMAINS, Domain, DomainReading, Likely, OUT_OF_SCOPE, Routed, domain};
pub use feelings::{EmotionScores, Feelings, Label, TextEmotion};
pub use language::Unread;
pub use safety::{Finder, SafetyReading, SafetyScores};

use crate::emotion::{Emotion, EmotionState};
use crate::encoder::{Encoder, HeadReading};
use crate::error::{Error, Result};
use crate::safety::{Category, Gate};

/// More characters of a text's beginning are not given to the encoder, which reads 128 or 256 tokens.
const BEGINNING_CHARS: usize = 2_000;
/// So many characters of a long text's end are read once more for [`SafetyReading`].
const END_CHARS: usize = 400;
/// A turn with fewer words is read together with those before it, because alone it does not say what it is about.
const TURN_WORDS_MIN: usize = 5;
/// So many turns before the last one are looked at ...
const TURNS_BEFORE: usize = 2;
/// ... of each so many characters.
const TURN_CHARS: usize = 600;

/// So many of somebody's last turns say how they feel; each takes a pass of the encoder.
const FOLLOWED_MAX: usize = 6;

/// Everything that is read off a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reading {
    /// The feeling.
    pub text: TextEmotion,
    /// What it is about.
    pub domain: DomainReading,
    /// Whether somebody may need help at once.
    pub safety: SafetyReading,
    /// How much of it was read.
    pub read: Extent,
}

/// How much of a text was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// Characters of the text. The rules for [`SafetyReading`] read all of them.
    pub characters: usize,
    /// Words of the beginning that feeling and domain were read from, up to its 2,000th character.
    pub words: usize,
    /// Tokens of the beginning that feeling and domain were read from; 0 where they were not read.
    pub tokens: usize,
    /// Whether the text goes on behind that beginning.
    pub cut: bool,
}

/// The text model with all that stands beside it. It never changes, so it can be shared.
#[derive(Debug)]
pub struct Reader {
    encoder: Encoder,
    gate: Gate,
    /// Where the heads stand in [`Encoder::heads`].
    heads: Heads,
}

#[derive(Clone, Copy, Debug)]
struct Heads {
    emotion: usize,
    goemotions: usize,
    domain: usize,
    safety: usize,
}

impl Reader {
    /// Puts rules and tables beside an encoder.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedModel`](crate::ErrorKind::UnsupportedModel) when it lacks one of the heads `emotion` (the
    /// seven classes of [`Emotion`]), `goemotions`, `domain` (names of [`DOMAINS`] and `out_of_scope`) and `safety` (the
    /// names of [`Category::ALL`]), or their labels are others.
    pub fn new(encoder: Encoder) -> Result<Self> {
        let heads = Heads {
            emotion: find(&encoder, "emotion")?,
            goemotions: find(&encoder, "goemotions")?,
            domain: find(&encoder, "domain")?,
            safety: find(&encoder, "safety")?,
        };
        let labels = |at: usize| encoder.heads()[at].labels.iter().map(String::as_str);
        let wrong = |name: &str, wanted: &str| {
            Error::unsupported_model(format!(
                "the head {name:?} has other labels than a reader needs: {wanted}"
            ))
        };
        if !labels(heads.emotion).eq(Emotion::ALL.map(Emotion::name)) {
            return Err(wrong(
                "emotion",
                "the seven classes from anger to surprise, by name",
            ));
        }
        if !labels(heads.safety).eq(Category::ALL.map(Category::name)) {
            return Err(wrong("safety", "mental_health, medical, abuse"));
        }
        if !labels(heads.domain).all(|name| name == OUT_OF_SCOPE || domain(name).is_some()) {
            return Err(wrong("domain", "names of domains.toml, and out_of_scope"));
        }
        Ok(Self {
            encoder,
            gate: Gate::new(),
            heads,
        })
    }

    /// Whether an encoder has the heads that [`Self::new`] asks for.
    #[must_use]
    pub fn fits(encoder: &Encoder) -> bool {
        ["emotion", "goemotions", "domain", "safety"]
            .iter()
            .all(|name| find(encoder, name).is_ok())
    }

    /// The rules.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The encoder.
    #[must_use]
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Reads a text. Any text has a reading; work is bounded but for the rules, which read all of it in time that grows
    /// with its length.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn read(&self, text: &str) -> Result<Reading> {
        let beginning = beginning(text, BEGINNING_CHARS);
        let survey = language::survey(beginning, self.encoder.tokenizer());
        let rules = self.gate.check(text);
        let mut extent = Extent {
            characters: text.chars().count(),
            words: survey.words,
            tokens: 0,
            cut: beginning.len() < text.len(),
        };
        if let Some(reason) = survey.unread {
            // A text may begin in one language and go on in another.
            let scores = if extent.cut {
                self.end_scores(text)?
            } else {
                None
            };
            return Ok(Reading {
                text: TextEmotion::unread(reason),
                domain: DomainReading::unread(),
                safety: safety::reading(rules, scores, self.thresholds(), true),
                read: extent,
            });
        }
        let encoded = self.encoder.encode(beginning)?;
        extent.tokens = encoded.tokens;
        extent.cut |= encoded.tokens_cut > 0;
        let head = |at: usize| &encoded.heads[at];
        let mut scores = three(&head(self.heads.safety).probabilities);
        if extent.cut
            && let Some(end) = self.end_scores(text)?
        {
            for (score, end) in scores.iter_mut().zip(end) {
                *score = score.max(end);
            }
        }
        Ok(Reading {
            text: TextEmotion::new(head(self.heads.emotion), head(self.heads.goemotions)),
            domain: DomainReading::new(head(self.heads.domain)),
            safety: safety::reading(rules, Some(scores), self.thresholds(), false),
            read: extent,
        })
    }

    /// Reads the last of somebody's turns (theirs alone, oldest first, not those of who answers). A short one, such as
    /// "and how many?", is read together with those before it to say what it is about and whether somebody needs help.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub fn read_turns<T: AsRef<str>>(&self, turns: &[T]) -> Result<Reading> {
        let Some((last, before)) = turns.split_last() else {
            return self.read("");
        };
        let last = last.as_ref();
        let mut reading = self.read(last)?;
        if reading.safety.flagged {
            return Ok(reading);
        }
        if let Some(context) = context(before, last) {
            let whole = self.read(&context)?;
            reading.safety = whole.safety;
            reading.domain = whole.domain;
        }
        Ok(reading)
    }

    /// Follows somebody's feelings over the turns of one conversation. A turn that cannot be read, such as one in
    /// another language, leaves the state as it is.
    pub fn follow(&self, state: &mut EmotionState, reading: &Reading) -> Feelings {
        match &reading.text.emotion_scores {
            Some(scores) => Feelings::from(state.observe(scores.to_array(), reading.read.words)),
            None => Feelings::abstained(),
        }
    }

    /// The feelings after the last of somebody's turns; of many only the last few are read, each with a pass of the
    /// encoder.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub fn follow_turns<T: AsRef<str>>(&self, turns: &[T]) -> Result<Feelings> {
        let mut state = EmotionState::new();
        let mut felt = Feelings::abstained();
        for turn in &turns[turns.len().saturating_sub(FOLLOWED_MAX)..] {
            felt = self.follow(&mut state, &self.read(turn.as_ref())?);
        }
        Ok(felt)
    }

    /// What the classifier says of a text's end, if it can read it.
    fn end_scores(&self, text: &str) -> Result<Option<[f32; 3]>> {
        let end = end(text, END_CHARS);
        if language::survey(end, self.encoder.tokenizer())
            .unread
            .is_some()
        {
            return Ok(None);
        }
        let encoded = self.encoder.encode(end)?;
        Ok(Some(three(&encoded.heads[self.heads.safety].probabilities)))
    }

    /// From which probability on the classifier flags, as the file says.
    fn thresholds(&self) -> [f32; 3] {
        match &self.encoder.heads()[self.heads.safety].thresholds {
            Some(thresholds) => three(thresholds),
            None => [safety::THRESHOLD; 3],
        }
    }
}

fn find(encoder: &Encoder, name: &str) -> Result<usize> {
    let at = encoder.heads().iter().position(|head| head.name == name);
    at.ok_or_else(|| {
        Error::unsupported_model(format!(
            "the encoder has no head {name:?}; a reader needs emotion, goemotions, domain and safety, as models/emotion has"
        ))
    })
}

/// The first three numbers; [`Reader::new`] made sure that there are three.
fn three(numbers: &[f32]) -> [f32; 3] {
    std::array::from_fn(|at| numbers.get(at).copied().unwrap_or(0.0))
}

/// How many words a text has.
fn words(text: &str) -> usize {
    text.split_whitespace().take(TURN_WORDS_MIN).count()
}

/// A short last turn with those before it.
fn context<T: AsRef<str>>(before: &[T], last: &str) -> Option<String> {
    if before.is_empty() || words(last) >= TURN_WORDS_MIN {
        return None;
    }
    let mut context = String::new();
    for turn in &before[before.len().saturating_sub(TURNS_BEFORE)..] {
        context.push_str(end(turn.as_ref(), TURN_CHARS));
        context.push('\n');
    }
    context.push_str(last);
    Some(context)
}

/// What the rules alone say of the last of somebody's turns, for a host without a text model: as
/// [`Reader::read_turns`], but for the classifier's half.
#[must_use]
pub fn read_by_rules<T: AsRef<str>>(gate: &Gate, turns: &[T]) -> SafetyReading {
    let mut held = [false; 3];
    if let Some((last, before)) = turns.split_last() {
        held = gate.check(last.as_ref());
        if held == [false; 3]
            && let Some(context) = context(before, last.as_ref())
        {
            held = gate.check(&context);
        }
    }
    safety::reading(held, None, [1.0; 3], true)
}

/// The first `chars` characters.
fn beginning(text: &str, chars: usize) -> &str {
    let end = text
        .char_indices()
        .nth(chars)
        .map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// The last `chars` characters, without the word that they cut.
fn end(text: &str, chars: usize) -> &str {
    let Some((from, _)) = text.char_indices().rev().nth(chars.saturating_sub(1)) else {
        return text;
    };
    let end = &text[from..];
    match end.split_once(char::is_whitespace) {
        Some((_, whole)) if from > 0 && !whole.trim().is_empty() => whole,
        _ => end,
    }
}

/// The likeliest label of a head, the first of them where several are: its place and its probability.
fn likeliest(head: &HeadReading<'_>) -> (usize, f32) {
    let mut best = (0, f32::MIN);
    for (at, p) in head.probabilities.iter().enumerate() {
        if *p > best.1 {
            best = (at, *p);
        }
    }
    best
}
