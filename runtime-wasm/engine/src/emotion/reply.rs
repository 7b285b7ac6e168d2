//! What a model is told of a feeling before it replies.
//!
//! The line goes to the end of the system message and changes with every turn. It names the feeling and
//! how far the reply is to go into it. `meetara-train emotion replies` measures what it does to how well a
//! model foretells what people really answer.

use super::{Emotion, Feeling};

/// How far replies of a domain go into feelings before they go into the matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Empathy {
    /// Only where somebody suffers, and then in passing.
    Low,
    /// A few words.
    Medium,
    /// Feelings first.
    High,
}

impl Empathy {
    /// From its name in `domains.toml`: `low`, `medium` or `high`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "low" => Some(Self::Low),
            "medium" => Some(Self::Medium),
            "high" => Some(Self::High),
            _ => None,
        }
    }
}

impl Emotion {
    /// As a person would say it: "the user feels ...". `None` for neutral.
    #[must_use]
    pub fn adjective(self) -> Option<&'static str> {
        match self {
            Self::Anger => Some("angry"),
            Self::Disgust => Some("disgusted"),
            Self::Fear => Some("afraid"),
            Self::Joy => Some("happy"),
            Self::Neutral => None,
            Self::Sadness => Some("sad"),
            Self::Surprise => Some("surprised"),
        }
    }
}

/// The line for a state and a domain's empathy level; `None` when there is nothing to say: no feeling is
/// clear enough, or it is a neutral one, or the domain keeps to the matter and nobody suffers.
#[must_use]
pub fn system_line(feeling: &Feeling, empathy: Empathy) -> Option<String> {
    let first = feeling.primary?.adjective()?;
    if empathy == Empathy::Low && !feeling.requires_empathy {
        return None;
    }
    let second = feeling.mixed_with.and_then(Emotion::adjective);
    let felt = match second {
        Some(second) => format!("{first} and {second}"),
        None => first.into(),
    };
    let how = match (feeling.requires_empathy, empathy) {
        (true, Empathy::High) => {
            " First show that you understand how they feel, then help with what they ask."
        }
        (true, Empathy::Medium) => " Say in a few words that you understand, then help.",
        (true, Empathy::Low) => " Be kind and keep to the matter.",
        (false, _) => "",
    };
    Some(format!("The user feels {felt}.{how}"))
}

#[cfg(test)]
mod tests {
    use super::super::EmotionState;
    use super::*;

    /// What is said after one turn with these shares, the rest neutral.
    fn after(shares: &[(Emotion, f32)]) -> Feeling {
        let mut p = [0.0; 7];
        p[Emotion::Neutral as usize] = 1.0 - shares.iter().map(|(_, share)| share).sum::<f32>();
        for (emotion, share) in shares {
            p[*emotion as usize] += share;
        }
        EmotionState::new().observe(p, 9)
    }

    #[test]
    fn the_line_names_the_feeling_and_the_level_says_how_far_to_go() {
        let sad = after(&[(Emotion::Sadness, 0.9)]);
        let lines: Vec<String> = [Empathy::Low, Empathy::Medium, Empathy::High]
            .into_iter()
            .filter_map(|level| system_line(&sad, level))
            .collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|l| l.starts_with("The user feels sad.")));
        assert!(lines[0] != lines[1] && lines[1] != lines[2]);
        let both = after(&[(Emotion::Joy, 0.5), (Emotion::Fear, 0.4)]);
        let line = system_line(&both, Empathy::Medium).unwrap();
        assert_eq!(line, "The user feels happy and afraid.");
    }

    #[test]
    fn nothing_is_said_without_a_clear_feeling_or_where_it_is_no_matter() {
        let calm = after(&[]);
        assert_eq!(system_line(&calm, Empathy::High), None);
        let unsure = EmotionState::new().observe([1.0 / 7.0; 7], 9);
        assert_eq!(system_line(&unsure, Empathy::High), None);
        let happy = after(&[(Emotion::Joy, 0.9)]);
        assert_eq!(system_line(&happy, Empathy::Low), None);
        assert!(system_line(&happy, Empathy::Medium).is_some());
    }

    #[test]
    fn levels_are_those_of_the_domains() {
        assert_eq!(Empathy::from_name("high"), Some(Empathy::High));
        assert_eq!(Empathy::from_name("huge"), None);
        assert!(Empathy::Low < Empathy::Medium && Empathy::Medium < Empathy::High);
    }
}
