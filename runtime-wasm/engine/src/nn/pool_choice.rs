//! Whether a pool pays, judged by the time that work takes with it and without.
//!
//! On a busy machine a thread that was promised a core may wait for it, and the others wait for that
//! thread. So the host tells what each token took, and from time to time a few are made the other way:
//!
//! ```text
//! one one one one | pool pool .. | ... INTERVAL ... | one one | pool pool ..
//!   what it costs    it is better: kept              trial: worse, so back
//! ```
//!
//! A trial that begins badly ends at once, and each one that is lost doubles the time to the next, so
//! that the trials themselves cost little.

/// Tokens from one trial to the next, at first.
const INTERVAL: u32 = 32;
/// Tokens between trials, at most.
const INTERVAL_MAX: u32 = 512;
/// A trial ends at once when one of its tokens takes so many times what is usual.
const HOPELESS: f64 = 1.5;
/// How much of the usual time the last token decides.
const WEIGHT: f64 = 0.25;
/// What the pool must save for being used.
const GAIN_MIN: f64 = 0.03;

/// The choice between one thread and a pool.
#[derive(Clone, Debug)]
pub struct PoolChoice {
    /// Tokens of a trial.
    trial_len: u32,
    /// Whether the way in use, trials aside, is the pool.
    pooled: bool,
    /// What a token takes that way; 0 as long as that is unknown.
    usual_ms: f64,
    /// Tokens to the next trial.
    left: u32,
    interval: u32,
    /// Of the trial under way: tokens so far, and what they took.
    trial: Option<(u32, f64)>,
}

impl PoolChoice {
    /// Trials take `trial_len` tokens, and the first follows `trial_len` tokens on one thread.
    #[must_use]
    pub fn new(trial_len: u32) -> Self {
        Self {
            trial_len,
            pooled: false,
            usual_ms: 0.0,
            left: trial_len,
            interval: INTERVAL,
            trial: None,
        }
    }

    /// Whether the next token should be made with the pool.
    #[must_use]
    pub fn pooled(&self) -> bool {
        self.pooled != self.trial.is_some()
    }

    /// The token, made as [`Self::pooled`] said, took so long.
    pub fn took(&mut self, ms: f64) {
        let Some((tokens, sum_ms)) = &mut self.trial else {
            if self.usual_ms == 0.0 {
                self.usual_ms = ms;
            }
            self.usual_ms += WEIGHT * (ms - self.usual_ms);
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                self.trial = Some((0, 0.0));
            }
            return;
        };
        *tokens += 1;
        *sum_ms += ms;
        let hopeless = ms > HOPELESS * self.usual_ms;
        if *tokens < self.trial_len && !hopeless {
            return;
        }
        let mean_ms = *sum_ms / f64::from(*tokens);
        // One thread is the way to be in when there is no difference.
        let factor = if self.pooled {
            1.0 + GAIN_MIN
        } else {
            1.0 - GAIN_MIN
        };
        self.trial = None;
        if !hopeless && mean_ms < factor * self.usual_ms {
            self.pooled = !self.pooled;
            self.usual_ms = mean_ms;
            self.interval = INTERVAL;
        } else {
            self.interval = INTERVAL_MAX.min(2 * self.interval);
        }
        self.left = self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time of `n` tokens, and the share of them that were made with the pool.
    fn run(choice: &mut PoolChoice, n: u32, one_ms: f64, pool_ms: f64) -> (f64, f64) {
        let (mut ms, mut pooled) = (0.0, 0);
        for token in 0..n {
            // A little unrest, as there is on every machine.
            let unrest = 1.0 + 0.1 * f64::from(token % 3);
            let took = unrest * if choice.pooled() { pool_ms } else { one_ms };
            pooled += u32::from(choice.pooled());
            ms += took / unrest;
            choice.took(took);
        }
        (ms, f64::from(pooled) / f64::from(n))
    }

    #[test]
    fn a_pool_that_pays_is_used() {
        let (ms, pooled) = run(&mut PoolChoice::new(4), 256, 10.0, 6.0);
        assert!(pooled > 0.9 && ms < 256.0 * 6.5, "{ms} {pooled}");
    }

    #[test]
    fn a_pool_that_does_not_pay_costs_less_than_a_tenth() {
        for pool_ms in [10.0, 10.5, 12.0, 14.0, 20.0, 60.0] {
            let (ms, pooled) = run(&mut PoolChoice::new(4), 256, 10.0, pool_ms);
            assert!(ms < 2560.0 * 1.1, "{pool_ms}: {ms}");
            // Where there is no difference to speak of, either way will do.
            assert!(pooled < 0.1 || pool_ms < 12.0, "{pool_ms}: {pooled}");
        }
    }

    #[test]
    fn it_changes_its_mind_when_the_machine_becomes_busy_and_free_again() {
        let mut choice = PoolChoice::new(4);
        run(&mut choice, 64, 10.0, 6.0);
        assert!(choice.pooled());
        run(&mut choice, 640, 10.0, 20.0);
        let (_, pooled) = run(&mut choice, 256, 10.0, 20.0);
        assert!(pooled < 0.1, "{pooled}");
        run(&mut choice, 640, 10.0, 6.0);
        let (_, pooled) = run(&mut choice, 256, 10.0, 6.0);
        assert!(pooled > 0.9, "{pooled}");
    }
}
