//! The feeling in one text, and over the turns of a conversation, as hosts write them.

use serde::Serialize;

use super::language::Unread;
use super::likeliest;
use crate::emotion::{Emotion, Feeling};
use crate::encoder::HeadReading;

/// Below this probability no class is named: as [`crate::emotion::EmotionState`] has it.
const CONFIDENCE_MIN: f32 = 0.4;
/// From which probability on one of the 28 counts, where the file does not say.
const LABEL_MIN: f32 = 0.5;

/// Probabilities of the seven classes; they sum to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct EmotionScores {
    pub anger: f32,
    pub disgust: f32,
    pub fear: f32,
    pub joy: f32,
    pub neutral: f32,
    pub sadness: f32,
    pub surprise: f32,
}

impl EmotionScores {
    /// From the order of [`Emotion::ALL`].
    #[must_use]
    pub fn from_array([anger, disgust, fear, joy, neutral, sadness, surprise]: [f32; 7]) -> Self {
        Self {
            anger,
            disgust,
            fear,
            joy,
            neutral,
            sadness,
            surprise,
        }
    }

    /// In the order of [`Emotion::ALL`].
    #[must_use]
    pub fn to_array(self) -> [f32; 7] {
        let Self {
            anger,
            disgust,
            fear,
            joy,
            neutral,
            sadness,
            surprise,
        } = self;
        [anger, disgust, fear, joy, neutral, sadness, surprise]
    }
}

/// The feeling in a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TextEmotion {
    /// The likeliest of the seven classes; `None` where none is named.
    pub primary_emotion: Option<&'static str>,
    /// Of all seven; `None` where the text was not read.
    pub emotion_scores: Option<EmotionScores>,
    /// Those of the 28 feelings of GoEmotions that are likely enough, the likeliest first.
    pub labels: Vec<Label>,
    /// How far from neutral, 0 to 1.
    pub intensity: f32,
    /// The likeliest class's probability, 0 to 1.
    pub confidence: f32,
    /// Whether no class is named.
    pub abstained: bool,
    /// Why: `empty`, `no_words` (nothing but emoji, numbers or marks), `language_not_supported` (not English), or
    /// `unsure` (no class is likely enough).
    pub reason: Option<&'static str>,
}

/// One of the 28.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// 0 to 1.
    pub probability: f32,
}

impl TextEmotion {
    pub(super) fn unread(reason: Unread) -> Self {
        Self {
            primary_emotion: None,
            emotion_scores: None,
            labels: Vec::new(),
            intensity: 0.0,
            confidence: 0.0,
            abstained: true,
            reason: Some(reason.name()),
        }
    }

    pub(super) fn new(emotion: &HeadReading<'_>, goemotions: &HeadReading<'_>) -> Self {
        let scores: [f32; 7] =
            std::array::from_fn(|at| emotion.probabilities.get(at).copied().unwrap_or(0.0));
        let (at, confidence) = likeliest(emotion);
        let sure = confidence >= CONFIDENCE_MIN;
        let threshold = |at: usize| {
            let thresholds = goemotions.head.thresholds.as_deref();
            thresholds.map_or(LABEL_MIN, |thresholds| thresholds[at])
        };
        let named = goemotions.head.labels.iter().zip(&goemotions.probabilities);
        let mut labels: Vec<Label> = named
            .enumerate()
            .filter(|(at, (_, p))| **p >= threshold(*at))
            .map(|(_, (name, p))| Label {
                name: name.clone(),
                probability: *p,
            })
            .collect();
        labels.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        Self {
            primary_emotion: sure.then(|| Emotion::ALL[at].name()),
            emotion_scores: Some(EmotionScores::from_array(scores)),
            labels,
            intensity: intensity(&scores),
            confidence,
            abstained: !sure,
            reason: (!sure).then_some("unsure"),
        }
    }
}

fn intensity(scores: &[f32; 7]) -> f32 {
    (1.0 - scores[Emotion::Neutral as usize]).clamp(0.0, 1.0)
}

/// The feeling over the turns of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Feelings {
    /// The likeliest of the seven classes; `None` where none is named.
    pub primary_emotion: Option<&'static str>,
    /// Of all seven, smoothed over the turns; `None` where the turn was not read.
    pub emotion_scores: Option<EmotionScores>,
    /// How far from neutral, 0 to 1.
    pub intensity: f32,
    /// The likeliest class's score, 0 to 1.
    pub confidence: f32,
    /// `unknown` (too few turns), `steady`, `improving` or `worsening`.
    pub trajectory: &'static str,
    /// A second emotion beside the primary one, when both are there.
    pub mixed: Option<&'static str>,
    /// Whether a reply should first answer to the feeling.
    pub requires_empathy: bool,
    /// Whether no class is named.
    pub abstained: bool,
}

impl Feelings {
    /// Those of somebody who has said nothing that could be read.
    #[must_use]
    pub fn abstained() -> Self {
        Self {
            primary_emotion: None,
            emotion_scores: None,
            intensity: 0.0,
            confidence: 0.0,
            trajectory: "unknown",
            mixed: None,
            requires_empathy: false,
            abstained: true,
        }
    }
}

impl From<Feeling> for Feelings {
    fn from(feeling: Feeling) -> Self {
        Self {
            primary_emotion: feeling.primary.map(Emotion::name),
            emotion_scores: Some(EmotionScores::from_array(feeling.scores)),
            intensity: feeling.intensity,
            confidence: feeling.confidence,
            trajectory: feeling.trajectory.name(),
            mixed: feeling.mixed_with.map(Emotion::name),
            requires_empathy: feeling.requires_empathy,
            abstained: feeling.primary.is_none(),
        }
    }
}
