//! The state over turns: smoothed scores and what follows from them.
//!
//! ```text
//! turn's probabilities p (7) ──> s = s + a (p - s) ──> primary, mixed, intensity, confidence
//!                                        │
//!             valence = joy - (anger + disgust + fear + sadness), of the last turns ──> trajectory
//! ```
//!
//! The weight `a` of a turn grows with its words: "ok" says little about how somebody feels. Surprise
//! counts as neither good nor bad.

/// The seven classes that English emotion models share (Ekman's six, and neutral).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Emotion {
    Anger,
    Disgust,
    Fear,
    Joy,
    Neutral,
    Sadness,
    Surprise,
}

impl Emotion {
    /// All of them in the order of their names, which is that of the scores.
    pub const ALL: [Self; 7] = [
        Self::Anger,
        Self::Disgust,
        Self::Fear,
        Self::Joy,
        Self::Neutral,
        Self::Sadness,
        Self::Surprise,
    ];

    /// Its name in files and replies.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Anger => "anger",
            Self::Disgust => "disgust",
            Self::Fear => "fear",
            Self::Joy => "joy",
            Self::Neutral => "neutral",
            Self::Sadness => "sadness",
            Self::Surprise => "surprise",
        }
    }
}

/// Where a conversation's feeling is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trajectory {
    /// Too few turns to say.
    Unknown,
    /// Neither better nor worse.
    Steady,
    /// Better than a few turns ago.
    Improving,
    /// Worse than a few turns ago.
    Worsening,
}

impl Trajectory {
    /// Its name in replies.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Steady => "steady",
            Self::Improving => "improving",
            Self::Worsening => "worsening",
        }
    }
}

/// What can be said after a turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Feeling {
    /// The likeliest; `None` when nothing is likely enough to be said.
    pub primary: Option<Emotion>,
    /// A second one beside it, when both are there.
    pub mixed_with: Option<Emotion>,
    /// Smoothed, in the order of [`Emotion::ALL`]; they sum to 1.
    pub scores: [f32; 7],
    /// How far from neutral, 0 to 1.
    pub intensity: f32,
    /// The likeliest class's score, 0 to 1.
    pub confidence: f32,
    /// Against the turns before.
    pub trajectory: Trajectory,
    /// Whether a reply should first answer to the feeling.
    pub requires_empathy: bool,
}

/// Weight of a turn of [`WORDS_FULL`] words or more.
const WEIGHT: f32 = 0.6;
/// A turn with fewer words weighs less, in proportion.
const WORDS_FULL: usize = 4;
/// Below this, no class is named.
const CONFIDENCE_MIN: f32 = 0.4;
/// A second emotion is named from this score on.
const MIXED_MIN: f32 = 0.2;
/// Turns that the trajectory looks back.
const LOOK_BACK: usize = 2;
/// A change of valence that counts.
const VALENCE_STEP: f32 = 0.2;
/// From this share of unpleasant feelings on, empathy comes first.
const EMPATHY_MIN: f32 = 0.45;
/// The same while things get worse.
const EMPATHY_MIN_WORSENING: f32 = 0.3;

/// One person's feelings through one conversation.
#[derive(Clone, Debug, Default)]
pub struct EmotionState {
    scores: Option<[f32; 7]>,
    /// Valence after each of the last turns, the newest last.
    valences: Vec<f32>,
}

impl EmotionState {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes in a turn: its probabilities in the order of [`Emotion::ALL`], and how many words it has.
    pub fn observe(&mut self, probabilities: [f32; 7], words: usize) -> Feeling {
        let share = words.min(WORDS_FULL) as f32 / WORDS_FULL as f32;
        let scores = match self.scores {
            None => probabilities,
            Some(mut scores) => {
                for (score, p) in scores.iter_mut().zip(probabilities) {
                    *score += WEIGHT * share * (p - *score);
                }
                scores
            }
        };
        self.scores = Some(scores);
        let before = self.valences.len().checked_sub(LOOK_BACK).or(
            // Two turns can be compared already.
            (!self.valences.is_empty()).then_some(0),
        );
        let now = valence(&scores);
        let trajectory = match before.map(|at| now - self.valences[at]) {
            None => Trajectory::Unknown,
            Some(change) if change >= VALENCE_STEP => Trajectory::Improving,
            Some(change) if change <= -VALENCE_STEP => Trajectory::Worsening,
            Some(_) => Trajectory::Steady,
        };
        if self.valences.len() == LOOK_BACK {
            self.valences.remove(0);
        }
        self.valences.push(now);
        feeling(scores, trajectory)
    }
}

fn of(scores: &[f32; 7], emotion: Emotion) -> f32 {
    scores[emotion as usize]
}

fn unpleasant(scores: &[f32; 7]) -> f32 {
    [
        Emotion::Anger,
        Emotion::Disgust,
        Emotion::Fear,
        Emotion::Sadness,
    ]
    .iter()
    .map(|emotion| of(scores, *emotion))
    .sum()
}

fn valence(scores: &[f32; 7]) -> f32 {
    of(scores, Emotion::Joy) - unpleasant(scores)
}

fn feeling(scores: [f32; 7], trajectory: Trajectory) -> Feeling {
    let mut order = Emotion::ALL;
    order.sort_by(|a, b| of(&scores, *b).total_cmp(&of(&scores, *a)));
    let confidence = of(&scores, order[0]);
    let primary = (confidence >= CONFIDENCE_MIN).then_some(order[0]);
    let mut felt = order.iter().filter(|emotion| **emotion != Emotion::Neutral);
    let mixed_with = match (felt.next(), felt.next()) {
        (Some(first), Some(second))
            if primary == Some(*first)
                && of(&scores, *second) >= MIXED_MIN
                && of(&scores, *second) * 2.0 >= of(&scores, *first) =>
        {
            Some(*second)
        }
        _ => None,
    };
    let unpleasant = unpleasant(&scores);
    let enough = match trajectory {
        Trajectory::Worsening => EMPATHY_MIN_WORSENING,
        _ => EMPATHY_MIN,
    };
    Feeling {
        primary,
        mixed_with,
        scores,
        intensity: (1.0 - of(&scores, Emotion::Neutral)).clamp(0.0, 1.0),
        confidence,
        trajectory,
        requires_empathy: unpleasant >= enough,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `share` of one emotion, the rest neutral.
    fn mostly(emotion: Emotion, share: f32) -> [f32; 7] {
        let mut p = [0.0; 7];
        p[Emotion::Neutral as usize] = 1.0 - share;
        p[emotion as usize] += share;
        p
    }

    #[test]
    fn a_sad_turn_asks_for_empathy_and_better_news_improves() {
        let mut state = EmotionState::new();
        let first = state.observe(mostly(Emotion::Sadness, 0.9), 8);
        assert_eq!(first.primary, Some(Emotion::Sadness));
        assert_eq!(first.trajectory, Trajectory::Unknown);
        assert!(first.requires_empathy && first.intensity > 0.8);
        let second = state.observe(mostly(Emotion::Joy, 0.9), 8);
        assert_eq!(second.trajectory, Trajectory::Improving);
        let third = state.observe(mostly(Emotion::Joy, 0.9), 8);
        assert_eq!(third.primary, Some(Emotion::Joy));
        assert!(!third.requires_empathy);
        let sum: f32 = third.scores.iter().sum();
        assert!((sum - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_word_or_two_hardly_move_it() {
        let mut state = EmotionState::new();
        state.observe(mostly(Emotion::Anger, 0.8), 10);
        let after = state.observe(mostly(Emotion::Neutral, 1.0), 1);
        assert_eq!(after.primary, Some(Emotion::Anger));
        let after = state.observe(mostly(Emotion::Neutral, 1.0), 10);
        assert_eq!(after.primary, Some(Emotion::Neutral));
    }

    #[test]
    fn mixed_and_unsure_are_said() {
        let mut state = EmotionState::new();
        let mut p = [0.0; 7];
        p[Emotion::Joy as usize] = 0.5;
        p[Emotion::Fear as usize] = 0.4;
        p[Emotion::Neutral as usize] = 0.1;
        let mixed = state.observe(p, 9);
        assert_eq!(mixed.primary, Some(Emotion::Joy));
        assert_eq!(mixed.mixed_with, Some(Emotion::Fear));
        state.clear();
        let unsure = state.observe([1.0 / 7.0; 7], 9);
        assert_eq!(unsure.primary, None);
        assert_eq!(unsure.trajectory, Trajectory::Unknown, "cleared");
    }

    #[test]
    fn worsening_is_seen_over_turns() {
        let mut state = EmotionState::new();
        state.observe(mostly(Emotion::Joy, 0.6), 9);
        state.observe(mostly(Emotion::Neutral, 1.0), 9);
        let third = state.observe(mostly(Emotion::Fear, 0.6), 9);
        assert_eq!(third.trajectory, Trajectory::Worsening);
        assert!(third.requires_empathy, "less is enough while it gets worse");
    }
}
