//! Where a token's time goes.
//!
//! The engine has no clock. Whoever wants to know hands one in
//! ([`Session::start_profile`](crate::generate::Session::start_profile)); without it each mark costs
//! a comparison. Time goes to the work that ends with the mark, from the mark before it on:
//!
//! ```text
//! step begins   embedding|  norm|   qkv|  rope|kv_store|attention|  ... |  logits|  sampling|
//!          begin       mark   mark   mark   ...                                 time passes ->
//! ```

use meetara_format::GgmlType;
use serde::Serialize;

/// The time in milliseconds, from any start.
pub type Clock = fn() -> f64;

/// The time that one kind of work took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Span {
    /// What was done, such as `attention` or `ffn_down`; `norm` includes the addition before it.
    pub phase: &'static str,
    /// Of the weights, where there are some, such as `Q4_K`; else empty.
    pub weights: &'static str,
    /// All calls together.
    pub ms: f64,
    /// How often, over all layers and steps.
    pub calls: u32,
}

/// The spans of a session, in the order in which each came first; empty without a clock.
#[derive(Debug, Default)]
pub struct Profile {
    clock: Option<Clock>,
    last_ms: f64,
    spans: Vec<Span>,
}

impl Profile {
    /// Forgets all spans and measures with `clock` from now on.
    pub fn start(&mut self, clock: Clock) {
        *self = Self {
            clock: Some(clock),
            ..Self::default()
        };
    }

    /// What has been measured.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Work begins: the time before it is no part of any span.
    #[inline]
    pub(crate) fn begin(&mut self) {
        if let Some(clock) = self.clock {
            self.last_ms = clock();
        }
    }

    /// What was done since the last mark was `phase`.
    #[inline]
    pub(crate) fn mark(&mut self, phase: &'static str) {
        if self.clock.is_some() {
            self.add(phase, "");
        }
    }

    /// [`Self::mark`] of a product with weights of type `ty`.
    #[inline]
    pub(crate) fn mark_product(&mut self, phase: &'static str, ty: GgmlType) {
        if self.clock.is_some() {
            self.add(phase, ty.name());
        }
    }

    #[inline(never)]
    fn add(&mut self, phase: &'static str, weights: &'static str) {
        let Some(clock) = self.clock else { return };
        let now_ms = clock();
        let same = |span: &&mut Span| span.phase == phase && span.weights == weights;
        match self.spans.iter_mut().find(same) {
            Some(span) => {
                span.ms += now_ms - self.last_ms;
                span.calls += 1;
            }
            None => self.spans.push(Span {
                phase,
                weights,
                ms: now_ms - self.last_ms,
                calls: 1,
            }),
        }
        self.last_ms = now_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static NOW_MS: Cell<f64> = const { Cell::new(0.0) };
    }

    fn after(ms: f64) {
        NOW_MS.set(NOW_MS.get() + ms);
    }

    #[test]
    fn time_goes_to_the_mark_that_ends_it_and_none_is_kept_without_a_clock() {
        let mut profile = Profile::default();
        profile.begin();
        profile.mark("norm");
        assert_eq!(profile.spans(), []);

        profile.start(|| NOW_MS.get());
        for _ in 0..2 {
            after(100.0);
            profile.begin();
            after(1.0);
            profile.mark("norm");
            after(2.0);
            profile.mark_product("qkv", GgmlType::Q4_K);
            after(4.0);
            profile.mark_product("qkv", GgmlType::Q6_K);
        }
        let found: Vec<_> = profile
            .spans()
            .iter()
            .map(|span| (span.phase, span.weights, span.ms, span.calls))
            .collect();
        let wanted = [
            ("norm", "", 2.0, 2),
            ("qkv", "Q4_K", 4.0, 2),
            ("qkv", "Q6_K", 8.0, 2),
        ];
        assert_eq!(found, wanted);
    }
}
