//! Rules and classifier together: what either finds is found.

use serde::Serialize;

use crate::safety::Category;

/// From which probability on the classifier flags, where its file does not say: high, because nobody has weighed then
/// how often it is wrong. Of 183 ordinary requests the first text model flagged 23 at 0.5.
pub(super) const THRESHOLD: f32 = 0.8;

/// Whether somebody may need help at once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SafetyReading {
    /// Whether a help text should take the place of a reply.
    pub flagged: bool,
    /// The category; of several the likeliest.
    pub category: Category,
    /// What found it; of both the rules.
    pub by: Option<Finder>,
    /// Other categories that hold as well.
    pub also: Vec<Category>,
    /// The classifier's probabilities; `None` where it could not read the text.
    pub scores: Option<SafetyScores>,
    /// Whether `flagged: false` means little: the classifier was not asked or does not know the text's language, and
    /// the rules are English.
    pub abstained: bool,
}

/// What found a category.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finder {
    /// A phrase rule of `models/safety/rules.toml`.
    Rules,
    /// The head `safety`.
    Classifier,
}

/// Probabilities, each for itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SafetyScores {
    pub mental_health: f32,
    pub medical: f32,
    pub abuse: f32,
}

/// Puts what the rules found and what the classifier says together, all in the order of [`Category::ALL`].
pub(super) fn reading(
    rules: [bool; 3],
    scores: Option<[f32; 3]>,
    thresholds: [f32; 3],
    unread: bool,
) -> SafetyReading {
    let score = |at: usize| scores.map_or(0.0, |scores| scores[at]);
    let classified = |at: usize| scores.is_some() && score(at) >= thresholds[at];
    let mut held: Vec<usize> = (0..3).filter(|at| rules[*at] || classified(*at)).collect();
    // Stable, so that without a classifier the order is that of the categories.
    held.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
    let mut categories = held.iter().map(|at| Category::ALL[*at]);
    let category = categories.next().unwrap_or(Category::None);
    SafetyReading {
        flagged: !held.is_empty(),
        category,
        by: held.first().map(|at| match rules[*at] {
            true => Finder::Rules,
            false => Finder::Classifier,
        }),
        also: categories.collect(),
        scores: scores.map(|[mental_health, medical, abuse]| SafetyScores {
            mental_health,
            medical,
            abuse,
        }),
        abstained: unread && held.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_either_finds_is_found() {
        let none = reading([false; 3], Some([0.1; 3]), [0.3; 3], false);
        assert!(!none.flagged && none.category == Category::None && none.by.is_none());
        let rules = reading([false, true, false], Some([0.0; 3]), [0.3; 3], false);
        assert_eq!(
            (rules.category, rules.by),
            (Category::Medical, Some(Finder::Rules))
        );
        let classifier = reading([false; 3], Some([0.2, 0.3, 0.9]), [0.3; 3], false);
        assert_eq!(
            (classifier.category, classifier.by),
            (Category::Abuse, Some(Finder::Classifier))
        );
        assert_eq!(classifier.also, [Category::Medical]);
        let unread = reading([false; 3], None, [0.0; 3], true);
        assert!(!unread.flagged && unread.abstained);
        let unread = reading([true, true, false], None, [0.3; 3], true);
        assert!(unread.flagged && !unread.abstained && unread.category == Category::MentalHealth);
    }
}
