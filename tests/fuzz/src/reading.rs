//! Texts of somebody, read by a sound reader: any text has a reading, whose numbers are numbers.
//!
//! ```text
//! turn SEPARATOR turn SEPARATOR ...
//! ```

use meetara_engine::emotion::EmotionState;
use meetara_engine::reader::{Reading, read_by_rules};

use crate::{parts, tiny};

/// Turns that are read; the rest is more of the same.
const TURNS_MAX: usize = 4;

/// Feeds `data`.
pub fn run(data: &[u8]) {
    let reader = tiny::reader();
    let turns: Vec<String> = parts(data).take(TURNS_MAX).collect();
    let mut state = EmotionState::new();
    for count in 1..=turns.len() {
        let so_far = &turns[..count];
        let reading = reader.read_turns(so_far).expect("any text has a reading");
        check(&reading, &turns[count - 1]);
        let feelings = reader.follow(&mut state, &reading);
        let sent = serde_json::to_string(&feelings).expect("feelings are written as JSON");
        assert!(
            !sent.contains("null,null"),
            "numbers that JSON does not have"
        );
        let by_rules = read_by_rules(reader.gate(), so_far);
        assert!(
            reading.safety.flagged || !by_rules.flagged,
            "the rules alone flag what they do not beside the classifier"
        );
    }
}

fn check(reading: &Reading, turn: &str) {
    assert_eq!(reading.read.characters, turn.chars().count());
    let share = |p: f32| (0.0..=1.0).contains(&p);
    assert!(share(reading.text.intensity) && share(reading.text.confidence));
    assert!(share(reading.domain.probability));
    if let Some(scores) = &reading.text.emotion_scores {
        let sum: f32 = scores.to_array().iter().sum();
        assert!((sum - 1.0).abs() < 1e-3, "scores sum to {sum}");
    }
}
