//! Rotary position embedding (Su et al., 2021), on adjacent pairs or on halves.
//!
//! Pair `i` of a head turns by
//!
//! ```text
//! position * turn[i]     plain = base^(-2i / head_dim) / factor[i]
//!                        turn  = plain / scale                       linear scaling
//!                        turn  = mix * plain + (1 - mix) * plain / scale       YaRN
//!
//! mix    1 ──────╮                 pairs that turn often keep their speed,
//!        0       ╰──────           slow ones are stretched
//!            low    high           low, high = head_dim * ln(original_len / (beta * 2 pi)) / (2 ln base)
//!                                  of beta_fast, rounded down, and of beta_slow, rounded up
//! ```
//!
//! With YaRN (Peng et al., 2023) the rotated vectors also grow by
//! `1 + 0.1 ln(scale)`. The formulas are llama.cpp's.
//!
//! Angles are formed and their sines and cosines taken in `f64` by the `libm`
//! crate, once for each token and all its layers: at 32 pairs that is a
//! thousandth of the token's time, and no table has to be kept.

use std::f64::consts::PI;

use crate::error::{Error, Result};
use crate::kernels::Kernels;

/// Which elements of a head are turned together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// 2i and 2i + 1: llama files.
    Adjacent,
    /// i and i + head_dim / 2 (GPT-NeoX): Qwen files.
    Halves,
}

/// YaRN's numbers: which pairs keep their speed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// Positions that the model was trained for before it was stretched.
    pub original_len: u32,
    /// Pairs that turn more often than this within `original_len` keep their speed.
    pub beta_fast: f32,
    /// Pairs that turn less often than this are stretched in full.
    pub beta_slow: f32,
}

/// How a model rotates its queries and keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeParams {
    /// Elements in a head, even.
    pub head_dim: usize,
    /// Which of them belong together.
    pub pairing: Pairing,
    /// The base of the turns' geometric series.
    pub freq_base: f32,
    /// Positions are divided by this; 1 means no scaling.
    pub scale: f32,
    /// `None`: linear scaling, or none.
    pub yarn: Option<Yarn>,
    /// The rotated vectors are multiplied by this, besides what YaRN asks for.
    pub attn_factor: f32,
}

/// The angles of one model.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Turn of each pair per position, in radians: (head_dim / 2)
    turns: Vec<f64>,
    /// Sines and cosines are multiplied by this.
    magnitude: f64,
    pairing: Pairing,
}

impl Rope {
    /// `factors` (head_dim / 2) divides each pair's turn.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidModel`](crate::ErrorKind::InvalidModel) for an odd length, and for a base,
    /// a scale, an attention factor or a pair's factor that is not above 0.
    pub fn new(params: &RopeParams, factors: Option<&[f32]>) -> Result<Self> {
        let RopeParams {
            head_dim,
            pairing,
            freq_base,
            scale,
            yarn,
            attn_factor,
        } = *params;
        let above_zero = |x: f32| x.is_finite() && x > 0.0;
        if !head_dim.is_multiple_of(2) || head_dim == 0 {
            return Err(Error::invalid_model(format!(
                "heads of {head_dim} elements have no pairs to rotate"
            )));
        }
        if ![freq_base, scale, attn_factor].into_iter().all(above_zero) {
            return Err(Error::invalid_model(format!(
                "rope.freq_base is {freq_base}, the scaling factor {scale} and its attn_factor {attn_factor}; all must be above 0"
            )));
        }
        let (base, scale) = (f64::from(freq_base), f64::from(scale));
        // The pair that turns `beta` times within the original length.
        let pair_of = |yarn: Yarn, beta: f32| {
            let length = f64::from(yarn.original_len) / (f64::from(beta) * 2.0 * PI);
            head_dim as f64 * libm::log(length) / (2.0 * libm::log(base))
        };
        let ramp = yarn.map(|yarn| {
            let low = pair_of(yarn, yarn.beta_fast).floor().max(0.0);
            let high = pair_of(yarn, yarn.beta_slow).ceil();
            (low, high.min((head_dim - 1) as f64))
        });
        let mut turns = Vec::with_capacity(head_dim / 2);
        for pair in 0..head_dim / 2 {
            let exponent = -((2 * pair) as f64) / head_dim as f64;
            let factor = match factors {
                None => 1.0,
                Some(factors) => match factors.get(pair) {
                    Some(&factor) if above_zero(factor) => f64::from(factor),
                    _ => {
                        return Err(Error::invalid_model(format!(
                            "rope_freqs.weight has no factor above 0 for pair {pair}"
                        )));
                    }
                },
            };
            let plain = libm::pow(base, exponent);
            let stretched = plain / scale / factor;
            turns.push(match ramp {
                None => stretched,
                Some((low, high)) => {
                    let place = (pair as f64 - low) / (high - low).max(0.001);
                    let mix = 1.0 - place.clamp(0.0, 1.0);
                    stretched * (1.0 - mix) + plain / factor * mix
                }
            });
        }
        let growth = match yarn {
            Some(_) if scale > 1.0 => 1.0 + 0.1 * libm::log(scale),
            _ => 1.0,
        };
        Ok(Self {
            turns,
            magnitude: growth * f64::from(attn_factor),
            pairing,
        })
    }

    /// Elements in a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        2 * self.turns.len()
    }

    /// The two elements of pair `pair`.
    fn elements(&self, pair: usize) -> [usize; 2] {
        match self.pairing {
            Pairing::Adjacent => [2 * pair, 2 * pair + 1],
            Pairing::Halves => [pair, pair + self.turns.len()],
        }
    }

    /// What [`Self::rotate`] multiplies with at `position`: both (head_dim).
    /// Each pair's cosine stands at both of its elements, its sine too, first
    /// negated.
    pub fn fill(&self, position: usize, cos: &mut [f32], sin: &mut [f32]) {
        assert!(cos.len() == self.head_dim() && sin.len() == self.head_dim());
        for (pair, turn) in self.turns.iter().enumerate() {
            let angle = position as f64 * turn;
            let s = (libm::sin(angle) * self.magnitude) as f32;
            let c = (libm::cos(angle) * self.magnitude) as f32;
            let [a, b] = self.elements(pair);
            (cos[a], cos[b]) = (c, c);
            (sin[a], sin[b]) = (-s, s);
        }
    }

    /// Rotates every head of `x` (heads, head_dim) in place, with what
    /// [`Self::fill`] wrote.
    pub fn rotate(&self, kernels: &Kernels, x: &mut [f32], cos: &[f32], sin: &[f32]) {
        match self.pairing {
            Pairing::Adjacent => (kernels.rope)(x, cos, sin),
            Pairing::Halves => rope_halves(x, cos, sin),
        }
    }
}

/// `Kernels::rope` where the partner of an element lies half a head away: each
/// becomes `x[i] * cos[i] + x[partner of i] * sin[i]`. Plain products and one
/// sum, so the result is the same on every CPU however it is compiled.
fn rope_halves(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len() / 2;
    let ((cos_a, cos_b), (sin_a, sin_b)) = (cos.split_at(half), sin.split_at(half));
    for head in x.chunks_exact_mut(2 * half) {
        let (a, b) = head.split_at_mut(half);
        let turns = cos_a.iter().zip(sin_a).zip(cos_b.iter().zip(sin_b));
        for ((a, b), ((cos_a, sin_a), (cos_b, sin_b))) in a.iter_mut().zip(b).zip(turns) {
            (*a, *b) = (*a * cos_a + *b * sin_a, *b * cos_b + *a * sin_b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: RopeParams = RopeParams {
        head_dim: 4,
        pairing: Pairing::Adjacent,
        freq_base: 10_000.0,
        scale: 1.0,
        yarn: None,
        attn_factor: 1.0,
    };

    fn filled(rope: &Rope, position: usize) -> (Vec<f32>, Vec<f32>) {
        let (mut cos, mut sin) = (vec![0.0; rope.head_dim()], vec![0.0; rope.head_dim()]);
        rope.fill(position, &mut cos, &mut sin);
        (cos, sin)
    }

    #[test]
    fn the_first_pair_turns_one_radian_a_position_and_later_ones_slower() {
        let (c, s) = (3f64.cos() as f32, 3f64.sin() as f32);
        let (c2, s2) = (0.03f64.cos() as f32, 0.03f64.sin() as f32);
        let rope = Rope::new(&PLAIN, None).unwrap();
        let wanted = (vec![c, c, c2, c2], vec![-s, s, -s2, s2]);
        assert_eq!(filled(&rope, 3), wanted);
        let halves = RopeParams {
            pairing: Pairing::Halves,
            ..PLAIN
        };
        let rope = Rope::new(&halves, None).unwrap();
        let wanted = (vec![c, c2, c, c2], vec![-s, -s2, s, s2]);
        assert_eq!(filled(&rope, 3), wanted);
    }

    #[test]
    fn halves_are_adjacent_pairs_in_another_order() {
        let params = |pairing| RopeParams {
            head_dim: 16,
            pairing,
            ..PLAIN
        };
        let adjacent = Rope::new(&params(Pairing::Adjacent), None).unwrap();
        let halves = Rope::new(&params(Pairing::Halves), None).unwrap();
        let value = |i: usize| (i as f32 * 0.37 - 3.0) * 1.1;
        let mut x: Vec<f32> = (0..32).map(value).collect();
        // Element i + 8 h of a head belongs at 2 i + h.
        let mut y = vec![0.0; 32];
        for (i, &x) in x.iter().enumerate() {
            y[i / 16 * 16 + i % 8 * 2 + i % 16 / 8] = x;
        }
        for kernels in Kernels::available() {
            let (cos, sin) = filled(&halves, 5);
            halves.rotate(&kernels, &mut x, &cos, &sin);
            let (cos, sin) = filled(&adjacent, 5);
            adjacent.rotate(&kernels, &mut y, &cos, &sin);
            for (i, &x) in x.iter().enumerate() {
                assert_eq!(x, y[i / 16 * 16 + i % 8 * 2 + i % 16 / 8], "element {i}");
            }
        }
    }

    #[test]
    fn scale_and_factors_divide_the_turn() {
        let params = RopeParams {
            freq_base: 100.0,
            ..PLAIN
        };
        let plain = Rope::new(&params, None).unwrap();
        let params = RopeParams {
            scale: 2.0,
            ..params
        };
        let scaled = Rope::new(&params, Some(&[1.0, 4.0])).unwrap();
        assert_eq!(scaled.turns, [plain.turns[0] / 2.0, plain.turns[1] / 8.0]);
        assert_eq!(scaled.magnitude, 1.0);
    }

    #[test]
    fn yarn_keeps_fast_pairs_stretches_slow_ones_and_grows() {
        let params = RopeParams {
            head_dim: 64,
            ..PLAIN
        };
        let plain = Rope::new(&params, None).unwrap();
        let yarn = Yarn {
            original_len: 4096,
            beta_fast: 32.0,
            beta_slow: 1.0,
        };
        let params = RopeParams {
            scale: 4.0,
            yarn: Some(yarn),
            attn_factor: 0.5,
            ..params
        };
        let rope = Rope::new(&params, None).unwrap();
        // 64 ln(4096 / (32 * 2 pi)) / (2 ln 10000) = 10.47 and, for 1, 22.51.
        let ratio: Vec<f64> = plain
            .turns
            .iter()
            .zip(&rope.turns)
            .map(|(p, r)| r / p)
            .collect();
        assert!(ratio[..=10].iter().all(|&r| r == 1.0), "{ratio:?}");
        assert!(ratio[23..].iter().all(|&r| r == 0.25), "{ratio:?}");
        let middle = 1.0 - 0.75 * 5.0 / 13.0;
        assert!((ratio[15] - middle).abs() < 1e-12, "{}", ratio[15]);
        assert!((rope.magnitude - 0.5 * (1.0 + 0.1 * 4f64.ln())).abs() < 1e-12);
    }

    #[test]
    fn senseless_numbers_are_refused() {
        let refused = |params: RopeParams| Rope::new(&params, None).is_err();
        for head_dim in [0, 3] {
            assert!(refused(RopeParams { head_dim, ..PLAIN }));
        }
        let freq_base = f32::NAN;
        assert!(refused(RopeParams { freq_base, ..PLAIN }));
        assert!(refused(RopeParams {
            scale: 0.0,
            ..PLAIN
        }));
        let attn_factor = -1.0;
        assert!(refused(RopeParams {
            attn_factor,
            ..PLAIN
        }));
        assert!(Rope::new(&PLAIN, Some(&[1.0])).is_err());
        assert!(Rope::new(&PLAIN, Some(&[1.0, -1.0])).is_err());
    }

    #[test]
    fn no_number_of_yarn_makes_an_angle_that_is_none() {
        let numbers = [0.0, -1.0, 1e-30, 1e30, f32::INFINITY, f32::NAN];
        for original_len in [0, 1, u32::MAX] {
            for (beta_fast, beta_slow) in numbers.iter().flat_map(|&a| numbers.map(|b| (a, b))) {
                for freq_base in [1.0, 0.5, 1e4] {
                    let yarn = Some(Yarn {
                        original_len,
                        beta_fast,
                        beta_slow,
                    });
                    let rope = Rope::new(
                        &RopeParams {
                            freq_base,
                            yarn,
                            scale: 8.0,
                            ..PLAIN
                        },
                        None,
                    );
                    assert!(rope.unwrap().turns.iter().all(|turn| turn.is_finite()));
                }
            }
        }
    }
}
