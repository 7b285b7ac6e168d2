//! Learning rate over the steps: warm-up, constant, linear decay to zero.

use serde::{Deserialize, Serialize};

/// A factor in 0..=1 that every learning rate is multiplied by.
///
/// ```text
/// 1 |    ________________
///   |   /                \
/// 0 |__/__________________\__
///     warm-up            max_steps - decay_steps .. max_steps
/// ```
///
/// The constant middle lets a run be prolonged from any checkpoint taken before the decay began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Steps from 0 to the full rate.
    pub warmup_steps: u64,
    /// The last step.
    pub max_steps: u64,
    /// Steps over which the rate falls to zero at the end.
    pub decay_steps: u64,
}

impl Schedule {
    /// The factor for step `step`, counted from 0.
    pub fn factor(&self, step: u64) -> f64 {
        let warm = (step + 1) as f64 / self.warmup_steps.max(1) as f64;
        let left = self.max_steps.saturating_sub(step) as f64 / (self.decay_steps + 1) as f64;
        warm.min(left).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn rises_holds_and_falls() {
        let s = Schedule {
            warmup_steps: 10,
            max_steps: 100,
            decay_steps: 30,
        };
        assert_eq!(s.factor(0), 0.1);
        assert_eq!(s.factor(9), 1.0);
        assert_eq!(s.factor(50), 1.0);
        assert_eq!(s.factor(69), 1.0);
        assert!(s.factor(71) < 1.0);
        assert!(s.factor(99) > 0.0 && s.factor(99) < 0.04);
        assert_eq!(s.factor(100), 0.0);
    }

    #[test]
    fn no_warmup_and_no_decay_is_constant() {
        let s = Schedule {
            warmup_steps: 0,
            max_steps: 5,
            decay_steps: 0,
        };
        assert!((0..5).all(|step| s.factor(step) == 1.0));
    }
}
