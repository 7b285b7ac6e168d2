//! From logits to a token.
//!
//! In this order, which is llama.cpp's:
//! 0. `logit_bias` is added, and tokens that a mask bars are left out;
//! 1. penalties, over the last `repeat_last_n` accepted tokens: a logit above
//!    0 is divided by `repeat_penalty`, another multiplied by it; then
//!    `count * frequency_penalty + presence_penalty` is taken away;
//! 2. `top_k`: the k largest logits stay (of equal ones, the lower ids);
//! 3. `top_p`: the fewest largest whose probabilities among those left reach p;
//! 4. `min_p`: those whose probability is at least `min_p` times the largest;
//! 5. temperature, softmax, one draw.
//!
//! Every one of 2 to 4 keeps a beginning of the list in order of falling
//! logits, so what stays is the shortest of three beginnings. Sums run in f64
//! over a stated order (falling logits where a filter sorts, else ids) and
//! `exp` is the engine's own, so the same logits give the same token on every
//! platform. At temperature 0 the largest logit wins, of equal ones the lowest
//! id, and steps 2 to 5 are skipped.
//!
//! Random numbers come from SplitMix64 (Steele, Lea and Flood, "Fast splittable
//! pseudorandom number generators", 2014): the state grows by a constant, and
//! the output is a mix of it.

use std::cmp::Ordering;
use std::collections::VecDeque;

use crate::kernels::math::exp;

use super::{EXTRAS, GenerateParams};
use crate::error::{Error, Result};
use crate::heap;
use crate::nn::memory;

/// The largest window of the penalties: a longer `repeat_last_n` means this one.
/// The counts are 16-bit numbers.
pub const REPEAT_LAST_N_MAX: usize = u16::MAX as usize;

/// Chooses tokens. Allocates in `new`, and for a bias or a mask in the first `sample`.
#[derive(Clone, Debug)]
pub struct Sampler {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    /// `ln(min_p)`: how far below the largest logit a token may lie. Minus infinity: off.
    min_p_ln: f32,
    repeat_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    window: usize,
    rng: SplitMix64,
    /// The last accepted tokens, at most `window`.
    recent: VecDeque<u32>,
    /// How often each id is in `recent`: `[n_vocab]`, or empty without penalties.
    counts: Vec<u16>,
    /// `[n_vocab]` at most; kept for its memory.
    candidates: Vec<Candidate>,
    /// Ids and what is added to their logits.
    bias: Vec<(u32, f32)>,
    /// The logits with bias and mask: `[n_vocab]`, or empty without either.
    biased: Vec<f32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Candidate {
    logit: f32,
    id: u32,
}

/// Falling logits, then rising ids: a total order, as no logit is NaN.
fn ranks_before(a: &Candidate, b: &Candidate) -> bool {
    match b.logit.total_cmp(&a.logit) {
        Ordering::Equal => a.id < b.id,
        order => order.is_lt(),
    }
}

impl Sampler {
    /// A sampler for `params` over a vocabulary of `n_vocab` tokens.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) when a parameter is out of its range,
    /// or a bias is for no token.
    pub fn new(params: &GenerateParams, n_vocab: usize) -> Result<Self> {
        params.validate()?;
        let unknown = |&&(id, _): &&(u32, f32)| id as usize >= n_vocab;
        if EXTRAS && let Some((id, _)) = params.logit_bias.iter().find(unknown) {
            return Err(Error::invalid_request(format!(
                "logit_bias names token {id}, which is outside the vocabulary of {n_vocab}"
            )));
        }
        let penalised = params.repeat_penalty != 1.0
            || params.presence_penalty != 0.0
            || params.frequency_penalty != 0.0;
        let window = if penalised {
            (params.repeat_last_n as usize).min(REPEAT_LAST_N_MAX)
        } else {
            0
        };
        // Taken now, so that a refusal is an error before the reply begins.
        let room = |wanted| {
            let mut candidates = memory::zeroed(if wanted { n_vocab } else { 0 }, "candidates")?;
            candidates.clear();
            Ok::<_, Error>(candidates)
        };
        Ok(Self {
            temperature: params.temperature,
            top_k: params.top_k as usize,
            top_p: params.top_p,
            min_p_ln: if params.min_p > 0.0 {
                libm::logf(params.min_p)
            } else {
                f32::NEG_INFINITY
            },
            repeat_penalty: params.repeat_penalty,
            presence_penalty: params.presence_penalty,
            frequency_penalty: params.frequency_penalty,
            window,
            rng: SplitMix64(params.seed),
            recent: VecDeque::with_capacity(window),
            counts: memory::zeroed(if window > 0 { n_vocab } else { 0 }, "counts of tokens")?,
            candidates: room(params.temperature != 0.0)?,
            bias: params.logit_bias.clone(),
            biased: Vec::new(),
        })
    }

    /// Tells the penalties that `token` was part of the prompt or of the reply.
    pub fn accept(&mut self, token: u32) {
        if self.window == 0 {
            return;
        }
        if self.recent.len() == self.window
            && let Some(old) = self.recent.pop_front()
            && let Some(count) = self.counts.get_mut(old as usize)
        {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.counts.get_mut(token as usize) {
            *count += 1; // at most `window`, which fits
        }
        self.recent.push_back(token);
    }

    /// Chooses the next token. It is not yet [accepted](Self::accept).
    ///
    /// `logits`: `[n_vocab]`. Minus infinity bars a token.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::ErrorKind::Internal) when a logit is NaN or plus infinity, naming its
    /// id, or when no token is left to choose.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        self.sample_within(logits, None)
    }

    /// [`Self::sample`] among the tokens whose bit is set in `mask`, the lowest bit of a word first;
    /// ids beyond its end are barred. `None` allows all.
    ///
    /// # Errors
    /// Those of [`Self::sample`].
    pub fn sample_within(&mut self, logits: &[f32], mask: Option<&[u32]>) -> Result<u32> {
        if !EXTRAS || (self.bias.is_empty() && mask.is_none()) {
            return self.sample_biased(logits);
        }
        let mut biased = std::mem::take(&mut self.biased);
        biased.clear();
        biased.extend_from_slice(logits);
        for &(id, bias) in &self.bias {
            if let Some(logit) = biased.get_mut(id as usize) {
                *logit = (*logit + bias).min(f32::MAX);
            }
        }
        if let Some(mask) = mask {
            for (word, logits) in biased.chunks_mut(32).enumerate() {
                let bits = mask.get(word).copied().unwrap_or(0);
                for (bit, logit) in logits.iter_mut().enumerate() {
                    // A logit that is no number stays one, and is found.
                    if bits >> bit & 1 == 0 && !logit.is_nan() {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
        let id = self.sample_biased(&biased);
        self.biased = biased;
        id
    }

    /// Steps 1 to 5.
    fn sample_biased(&mut self, logits: &[f32]) -> Result<u32> {
        let best = self.best(logits)?;
        if self.temperature == 0.0 {
            return Ok(best.id);
        }
        let mut candidates = std::mem::take(&mut self.candidates);
        let kept = self.filter(logits, best, &mut candidates);
        let id = self.draw(kept, best);
        self.candidates = candidates;
        Ok(id)
    }

    /// The logit of `id` after the penalties. Called for the whole vocabulary, also where the engine
    /// is built for size.
    #[inline(always)]
    fn penalised(&self, id: usize, logit: f32) -> f32 {
        let count = self.counts.get(id).copied().unwrap_or(0);
        if count == 0 {
            return logit;
        }
        let scaled = if logit > 0.0 {
            logit / self.repeat_penalty
        } else {
            logit * self.repeat_penalty
        };
        let penalised =
            scaled - (f32::from(count) * self.frequency_penalty + self.presence_penalty);
        penalised.min(f32::MAX) // dividing may overflow
    }

    /// The largest penalised logit, of equal ones the lowest id. Checks all of them.
    fn best(&self, logits: &[f32]) -> Result<Candidate> {
        let mut best = Candidate {
            logit: f32::NEG_INFINITY,
            id: 0,
        };
        for (id, &logit) in logits.iter().enumerate() {
            if logit.is_nan() || logit == f32::INFINITY {
                return Err(Error::internal(format!(
                    "the logit of token {id} is {logit}: the weights hold values that are not finite, or overflow"
                )));
            }
            let logit = self.penalised(id, logit);
            if logit > best.logit {
                best = Candidate {
                    logit,
                    id: id as u32,
                };
            }
        }
        if best.logit == f32::NEG_INFINITY {
            return Err(Error::internal(format!(
                "none of {} tokens can be chosen: every logit is minus infinity",
                logits.len()
            )));
        }
        Ok(best)
    }

    /// Steps 2 to 4: fills `candidates` and returns those that stay, the last to be drawn first.
    ///
    /// `top_k` and `top_p` make the candidates a heap and take off it what stays, which collects at
    /// the end of the list.
    fn filter<'a>(
        &self,
        logits: &[f32],
        best: Candidate,
        candidates: &'a mut Vec<Candidate>,
    ) -> &'a [Candidate] {
        let top_k = if self.top_k == 0 {
            logits.len()
        } else {
            self.top_k.min(logits.len())
        };
        let top_p = self.top_p < 1.0;
        let floor = best.logit + self.min_p_ln;
        candidates.clear();
        candidates.reserve(logits.len());
        // From the highest id to the lowest, as they are drawn from behind.
        let all = logits.iter().enumerate().rev();
        let all = all.map(|(id, &logit)| Candidate {
            logit: self.penalised(id, logit),
            id: id as u32,
        });
        // Without top_p, whose sum needs them, tokens below the min_p floor can go at once.
        candidates
            .extend(all.filter(|c| c.logit > f32::NEG_INFINITY && (top_p || c.logit >= floor)));
        if top_k < candidates.len() {
            let dropped = candidates.len() - top_k;
            heap::build(candidates, ranks_before);
            for last in (dropped..candidates.len()).rev() {
                heap::take(&mut candidates[..=last], ranks_before);
            }
            candidates.drain(..dropped);
        }
        if top_p {
            let weight = |c: &Candidate| f64::from(exp(c.logit - best.logit));
            let wanted = candidates.iter().rev().map(weight).sum::<f64>() * f64::from(self.top_p);
            heap::build(candidates, ranks_before);
            let (mut dropped, mut mass) = (candidates.len(), 0.0);
            while mass < wanted && dropped > 0 {
                heap::take(&mut candidates[..dropped], ranks_before);
                let next = candidates[dropped - 1];
                if next.logit < floor {
                    break;
                }
                mass += weight(&next);
                dropped -= 1;
            }
            candidates.drain(..dropped);
        }
        candidates
    }

    /// Step 5: one draw among `kept`, from its end to its beginning.
    fn draw(&mut self, kept: &[Candidate], best: Candidate) -> u32 {
        let temperature = self.temperature;
        let weight = |c: &Candidate| f64::from(exp((c.logit - best.logit) / temperature));
        let total: f64 = kept.iter().rev().map(weight).sum();
        let mut left = self.rng.unit() * total;
        for candidate in kept.iter().rev() {
            left -= weight(candidate);
            if left < 0.0 {
                return candidate.id;
            }
        }
        // Rounding only: the draw fell on the very end of the sum.
        best.id
    }
}

/// The generator of the module's description.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in 0..1, with 53 random bits.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    /// Ten unequal logits, not in order.
    const LOGITS: [f32; 10] = [0.1, 2.0, -1.0, 3.0, 0.5, 2.5, -2.0, 1.0, 1.5, -0.5];
    const DRAWS: u32 = 20_000;

    fn params(change: impl FnOnce(&mut GenerateParams)) -> GenerateParams {
        let mut params = GenerateParams {
            seed: 7,
            ..GenerateParams::default()
        };
        change(&mut params);
        params
    }

    fn sampler(change: impl FnOnce(&mut GenerateParams)) -> Sampler {
        Sampler::new(&params(change), LOGITS.len()).unwrap()
    }

    /// How often each id is drawn from `logits`.
    fn histogram(sampler: &mut Sampler, logits: &[f32]) -> Vec<u32> {
        let mut counts = vec![0; logits.len()];
        for _ in 0..DRAWS {
            counts[sampler.sample(logits).unwrap() as usize] += 1;
        }
        counts
    }

    /// softmax(logits / temperature) over the ids in `kept`, 0 elsewhere.
    fn softmax(logits: &[f32], temperature: f64, kept: &[usize]) -> Vec<f64> {
        let weight = |id: usize| {
            if kept.contains(&id) {
                (f64::from(logits[id]) / temperature).exp()
            } else {
                0.0
            }
        };
        let total: f64 = (0..logits.len()).map(weight).sum();
        (0..logits.len()).map(|id| weight(id) / total).collect()
    }

    /// Pearson's chi-square of `seen` against `expected`; ids that cannot occur must not.
    fn chi_square(seen: &[u32], expected: &[f64]) -> f64 {
        let term = |(&seen, &p): (&u32, &f64)| {
            let expected = p * f64::from(DRAWS);
            if p == 0.0 {
                assert_eq!(seen, 0, "a token that was filtered out was drawn");
                return 0.0;
            }
            (f64::from(seen) - expected).powi(2) / expected
        };
        seen.iter().zip(expected).map(term).sum()
    }

    /// 99.9 % of chi-square with nine degrees of freedom; fewer have less.
    const CHI_SQUARE_MAX: f64 = 27.9;
    const ALL: [usize; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

    #[test]
    fn draws_follow_the_distribution_of_the_parameters() {
        type Change = fn(&mut GenerateParams);
        // The probabilities in falling order: 3: .396, 5: .240, 1: .146, 8: .088, 7: .054, ...
        let cases: [(Change, f64, &[usize]); 9] = [
            (|_| (), 1.0, &ALL),
            (|p| p.temperature = 0.5, 0.5, &ALL),
            (|p| p.temperature = 3.0, 3.0, &ALL),
            (|p| p.top_k = 3, 1.0, &[3, 5, 1]),
            (|p| p.top_k = 100, 1.0, &ALL),
            (|p| p.top_p = 0.7, 1.0, &[3, 5, 1]),
            (|p| p.min_p = 0.3, 1.0, &[3, 5, 1]),
            // Of the three left, .396 and .240 make up 81 %.
            (
                |p| (p.top_k, p.top_p, p.temperature) = (3, 0.8, 2.0),
                2.0,
                &[3, 5],
            ),
            (|p| (p.top_p, p.min_p) = (0.9, 0.5), 1.0, &[3, 5]),
        ];
        for (index, (change, temperature, kept)) in cases.into_iter().enumerate() {
            let seen = histogram(&mut sampler(change), &LOGITS);
            let chi = chi_square(&seen, &softmax(&LOGITS, temperature, kept));
            assert!(
                chi < CHI_SQUARE_MAX,
                "case {index}: chi-square {chi}, {seen:?}"
            );
        }
    }

    #[test]
    fn a_wrong_distribution_would_be_noticed() {
        let seen = histogram(&mut sampler(|p| p.temperature = 0.9), &LOGITS);
        assert!(chi_square(&seen, &softmax(&LOGITS, 1.0, &ALL)) > CHI_SQUARE_MAX);
    }

    #[test]
    fn top_p_sorts_as_far_as_it_must() {
        // A flat list of 1,000: 90 % of the mass lies far behind the first 64, in order of ids.
        let logits: Vec<f32> = vec![0.25; 1000];
        let mut sampler = Sampler::new(&params(|p| p.top_p = 0.9), logits.len()).unwrap();
        let mut highest = 0;
        for _ in 0..DRAWS {
            highest = highest.max(sampler.sample(&logits).unwrap());
        }
        assert!((895..=900).contains(&highest), "{highest}");
    }

    #[test]
    fn greedy_takes_the_largest_and_of_equal_ones_the_lowest_id() {
        let mut greedy = sampler(|p| p.temperature = 0.0);
        assert_eq!(greedy.sample(&LOGITS), Ok(3));
        assert_eq!(greedy.sample(&[1.0, 5.0, 5.0, 5.0]), Ok(1));
        assert_eq!(greedy.sample(&[0.0, -0.0]), Ok(0));
        assert_eq!(greedy.sample(&[f32::NEG_INFINITY, -1e30]), Ok(1));
    }

    #[test]
    fn the_seed_decides_and_memory_is_kept() {
        let run = |seed| {
            let mut sampler = sampler(|p| (p.seed, p.top_p) = (seed, 0.95));
            let first = sampler.sample(&LOGITS).unwrap();
            let memory = (sampler.candidates.as_ptr(), sampler.candidates.capacity());
            let rest: Vec<u32> = (0..200).map(|_| sampler.sample(&LOGITS).unwrap()).collect();
            assert_eq!(
                memory,
                (sampler.candidates.as_ptr(), sampler.candidates.capacity())
            );
            (first, rest)
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn random_numbers_are_those_of_splitmix64() {
        // The first outputs for seed 1234567 as published with the reference code in C.
        let mut rng = SplitMix64(1_234_567);
        assert_eq!(rng.next(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn penalties_follow_their_formulas() {
        let mut sampler = sampler(|p| {
            (p.repeat_penalty, p.presence_penalty, p.frequency_penalty) = (2.0, 0.25, 0.5);
        });
        for token in [3, 3, 6] {
            sampler.accept(token);
        }
        assert_eq!(sampler.penalised(3, 3.0), 3.0 / 2.0 - 2.0 * 0.5 - 0.25);
        assert_eq!(sampler.penalised(6, -2.0), -2.0 * 2.0 - 0.5 - 0.25);
        assert_eq!(sampler.penalised(1, 2.0), 2.0);
        sampler.temperature = 0.0;
        assert_eq!(sampler.sample(&LOGITS), Ok(5));
    }

    #[test]
    fn a_bias_is_added_before_all_else() {
        let mut biased = sampler(|p| {
            p.temperature = 0.0;
            p.logit_bias = vec![(3, -100.0), (1, 1.0), (1, 0.5)];
        });
        assert_eq!(biased.sample(&LOGITS), Ok(1)); // 3.5 against 2.5
        assert_eq!(biased.sample(&LOGITS), Ok(1), "a bias does not pile up");
        let mut only = sampler(|p| p.logit_bias = vec![(6, 100.0)]);
        assert!(histogram(&mut only, &LOGITS)[6] == DRAWS);
        let error = Sampler::new(&params(|p| p.logit_bias = vec![(10, 1.0)]), 10).unwrap_err();
        assert!(error.message().contains("token 10"), "{error}");
    }

    #[test]
    fn the_window_forgets() {
        let mut sampler = sampler(|p| (p.repeat_last_n, p.presence_penalty) = (2, 1.0));
        for token in [3, 4, 5, u32::MAX] {
            sampler.accept(token);
        }
        assert_eq!(sampler.recent, [5, u32::MAX]);
        assert_eq!(sampler.penalised(3, 3.0), 3.0);
        assert_eq!(sampler.penalised(5, 3.0), 2.0);
        // Without a penalty, or without a window, nothing is counted.
        for off in [
            Sampler::new(&params(|_| ()), 10),
            Sampler::new(
                &params(|p| (p.repeat_last_n, p.presence_penalty) = (0, 1.0)),
                10,
            ),
        ] {
            let mut off = off.unwrap();
            off.accept(1);
            assert!(off.recent.is_empty() && off.counts.is_empty());
        }
    }

    #[test]
    fn logits_that_are_no_numbers_are_an_error_that_names_the_token() {
        for temperature in [0.0, 1.0] {
            let mut sampler = sampler(|p| p.temperature = temperature);
            for bad in [f32::NAN, f32::INFINITY] {
                let error = sampler.sample(&[0.0, bad]).unwrap_err();
                assert_eq!(error.kind, ErrorKind::Internal);
                assert!(error.message().contains("token 1"), "{error}");
            }
            assert!(sampler.sample(&[]).is_err());
            assert!(sampler.sample(&[f32::NEG_INFINITY; 3]).is_err());
        }
    }

    #[test]
    fn extreme_parameters_still_choose_a_token() {
        let extreme = [-3.4e38, 3.4e38, 0.0, -1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        for temperature in [1e-38, 1e-3, 100.0] {
            for top_p in [f32::MIN_POSITIVE, 0.5, 1.0] {
                for min_p in [0.0, f32::MIN_POSITIVE, 1.0] {
                    for top_k in [0, 1, 10, u32::MAX] {
                        let mut sampler = sampler(|p| {
                            (p.temperature, p.top_p, p.min_p, p.top_k) =
                                (temperature, top_p, min_p, top_k);
                        });
                        assert_eq!(sampler.sample(&extreme), Ok(1));
                        assert!(sampler.sample(&LOGITS).unwrap() < 10);
                    }
                }
            }
        }
    }
}
