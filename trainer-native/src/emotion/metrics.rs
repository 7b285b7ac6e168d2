//! How good a head is, and how its probabilities are made honest.

use serde::Serialize;

/// Hits, false alarms and misses of one label.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Said and right.
    pub hits: u64,
    /// Said and wrong.
    pub false_alarms: u64,
    /// Right and not said.
    pub misses: u64,
}

impl Counts {
    /// Counts one decision.
    pub fn add(&mut self, said: bool, right: bool) {
        match (said, right) {
            (true, true) => self.hits += 1,
            (true, false) => self.false_alarms += 1,
            (false, true) => self.misses += 1,
            (false, false) => {}
        }
    }

    /// Of what was said, the share that was right; 0 when nothing was said.
    pub fn precision(&self) -> f64 {
        ratio(self.hits, self.hits + self.false_alarms)
    }

    /// Of what was right, the share that was said; 0 when nothing was right.
    pub fn recall(&self) -> f64 {
        ratio(self.hits, self.hits + self.misses)
    }

    /// The harmonic mean of both.
    pub fn f1(&self) -> f64 {
        self.f_beta(1.0)
    }

    /// F-beta: recall counts `beta` times as much as precision (van Rijsbergen 1979).
    pub fn f_beta(&self, beta: f64) -> f64 {
        let (hits, square) = ((1.0 + beta * beta) * self.hits as f64, beta * beta);
        let others = square * self.misses as f64 + self.false_alarms as f64;
        hits / (hits + others).max(1.0)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Mean F1 over labels, each counting the same.
pub fn macro_f1(counts: &[Counts]) -> f64 {
    counts.iter().map(Counts::f1).sum::<f64>() / counts.len().max(1) as f64
}

/// F1 of all decisions together.
pub fn micro_f1(counts: &[Counts]) -> f64 {
    let mut all = Counts::default();
    for c in counts {
        all.hits += c.hits;
        all.false_alarms += c.false_alarms;
        all.misses += c.misses;
    }
    all.f1()
}

/// Mean F1 over labels, each counting as often as it is right (scikit-learn's "weighted").
pub fn weighted_f1(counts: &[Counts]) -> f64 {
    let support = |c: &Counts| (c.hits + c.misses) as f64;
    let total: f64 = counts.iter().map(support).sum();
    counts.iter().map(|c| support(c) * c.f1()).sum::<f64>() / total.max(1.0)
}

/// Decisions at one threshold a label; `probs` `[texts, labels]`, `right[i]` the right labels of text `i`.
pub fn at_thresholds(probs: &[Vec<f32>], right: &[Vec<usize>], thresholds: &[f32]) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); thresholds.len()];
    for (probs, right) in probs.iter().zip(right) {
        for (label, count) in counts.iter_mut().enumerate() {
            count.add(probs[label] >= thresholds[label], right.contains(&label));
        }
    }
    counts
}

/// Decisions for the likeliest label alone.
pub fn at_most_likely(probs: &[Vec<f32>], right: &[Vec<usize>], labels: usize) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); labels];
    for (probs, right) in probs.iter().zip(right) {
        let best = most_likely(probs);
        for (label, count) in counts.iter_mut().enumerate() {
            count.add(label == best, right.contains(&label));
        }
    }
    counts
}

/// The likeliest label.
pub fn most_likely(probs: &[f32]) -> usize {
    let better = |a: &(usize, f32), b: &(usize, f32)| a.1.total_cmp(&b.1);
    let best = probs.iter().copied().enumerate().max_by(better);
    best.map_or(0, |(at, _)| at)
}

/// For each label the threshold among 0.02, 0.04 .. 0.98 with the best F-beta: of several the middle one,
/// which new texts are least likely to cross; 0.5 for a label that is never right.
pub fn best_thresholds(
    probs: &[Vec<f32>],
    right: &[Vec<usize>],
    labels: usize,
    beta: f64,
) -> Vec<f32> {
    let mut best = vec![(0.0, vec![0.5f32]); labels];
    for step in (1..50).map(|i| i as f32 * 0.02) {
        let counts = at_thresholds(probs, right, &vec![step; labels]);
        for (best, f) in best.iter_mut().zip(counts.iter().map(|c| c.f_beta(beta))) {
            if f > best.0 {
                *best = (f, vec![step]);
            } else if f == best.0 && f > 0.0 {
                best.1.push(step);
            }
        }
    }
    best.into_iter()
        .map(|(_, steps)| steps[steps.len() / 2])
        .collect()
}

/// The temperature among 0.5 .. 3 with the lowest mean negative log-likelihood (Guo et al. 2017).
/// `nll(t)` computes it.
pub fn best_temperature(nll: impl Fn(f32) -> f64) -> f32 {
    let steps = (0..=125).map(|i| 0.5 + i as f32 * 0.02);
    let rated = steps.map(|t| (t, nll(t)));
    rated
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map_or(1.0, |(t, _)| t)
}

/// Expected calibration error over 15 bins of equal width: `(confidence, right)` pairs.
pub fn calibration_error(decisions: impl IntoIterator<Item = (f32, bool)>) -> f64 {
    const BINS: usize = 15;
    let mut bins = [(0u64, 0.0f64, 0u64); BINS];
    for (confidence, right) in decisions {
        let bin = &mut bins[((confidence * BINS as f32) as usize).min(BINS - 1)];
        bin.0 += 1;
        bin.1 += f64::from(confidence);
        bin.2 += u64::from(right);
    }
    let total: u64 = bins.iter().map(|bin| bin.0).sum();
    bins.iter()
        .map(|(_, confidence, right)| (confidence - *right as f64).abs())
        .sum::<f64>()
        / total.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_by_hand() {
        let probs = vec![vec![0.9, 0.1], vec![0.6, 0.7], vec![0.2, 0.8]];
        let right = vec![vec![0], vec![1], vec![0, 1]];
        let counts = at_thresholds(&probs, &right, &[0.5, 0.5]);
        assert_eq!(counts[0].f1(), 0.5);
        assert_eq!(counts[1].f1(), 1.0);
        assert_eq!(macro_f1(&counts), 0.75);
        assert_eq!(micro_f1(&counts), 0.75);
        let best = best_thresholds(&probs, &right, 2, 1.0);
        assert_eq!(macro_f1(&at_thresholds(&probs, &right, &best)), 0.9);
    }

    #[test]
    fn recall_that_counts_more_lowers_the_threshold() {
        // Right at 0.9 and at 0.3; two false alarms between.
        let probs: Vec<Vec<f32>> = [0.9, 0.6, 0.5, 0.3, 0.1].map(|p| vec![p]).to_vec();
        let right = vec![vec![0], vec![], vec![], vec![0], vec![]];
        let at = |beta| best_thresholds(&probs, &right, 1, beta)[0];
        assert!(at(1.0) > 0.6 && at(2.0) < 0.3, "{} {}", at(1.0), at(2.0));
        let counts = Counts {
            hits: 2,
            false_alarms: 2,
            misses: 0,
        };
        assert!((counts.f_beta(2.0) - 10.0 / 12.0).abs() < 1e-9);
        assert_eq!(Counts::default().f_beta(2.0), 0.0);
    }

    #[test]
    fn overconfidence_is_measured_and_cooled() {
        // Says 0.9 for what is right 7 times of 10.
        let decisions: Vec<(f32, bool)> = (0..10).map(|i| (0.9, i < 7)).collect();
        assert!((calibration_error(decisions) - 0.2).abs() < 1e-6);
        let score = (0.9f32 / 0.1).ln();
        let nll = |t: f32| {
            let p = f64::from(1.0 / (1.0 + (-score / t).exp()));
            -(0.7 * p.ln() + 0.3 * (1.0 - p).ln())
        };
        let t = best_temperature(nll);
        let p = 1.0 / (1.0 + (-score / t).exp());
        assert!((p - 0.7).abs() < 0.01, "temperature {t} gives {p}");
    }
}
