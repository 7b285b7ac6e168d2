//! Rotary position embedding (Su et al., 2021) on adjacent pairs.
//!
//! Pair `i` of a head, elements 2i and 2i+1, turns by
//! `position / scale * base^(-2i / head_dim) / factor[i]`.
//! Angles are formed and their sines and cosines taken in `f64` by the `libm`
//! crate, once for each token and all its layers: at 32 pairs that is a
//! thousandth of the token's time, and no table has to be kept.

use crate::error::{Error, Result};

/// The angles of one model.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Turn of each pair per position, in radians: (head_dim / 2)
    turns: Vec<f64>,
}

impl Rope {
    /// `head_dim` is even; `factors` (head_dim / 2) divides each pair's turn,
    /// `scale` all of them (linear scaling).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidModel`](crate::ErrorKind::InvalidModel) for an odd length, a base or
    /// scale that is not above 0, or factors that are not.
    pub fn new(head_dim: usize, base: f32, scale: f32, factors: Option<&[f32]>) -> Result<Self> {
        let above_zero = |x: f32| x.is_finite() && x > 0.0;
        if !head_dim.is_multiple_of(2) || head_dim == 0 {
            return Err(Error::invalid_model(format!(
                "heads of {head_dim} elements have no pairs to rotate"
            )));
        }
        if !above_zero(base) || !above_zero(scale) {
            return Err(Error::invalid_model(format!(
                "rope.freq_base is {base} and the scaling factor {scale}; both must be above 0"
            )));
        }
        let mut turns = Vec::with_capacity(head_dim / 2);
        for pair in 0..head_dim / 2 {
            let exponent = -((2 * pair) as f64) / head_dim as f64;
            let factor = match factors {
                None => 1.0,
                Some(factors) => match factors.get(pair) {
                    Some(&factor) if above_zero(factor) => factor,
                    _ => {
                        return Err(Error::invalid_model(format!(
                            "rope_freqs.weight has no factor above 0 for pair {pair}"
                        )));
                    }
                },
            };
            let turn = libm::pow(f64::from(base), exponent);
            turns.push(turn / f64::from(scale) / f64::from(factor));
        }
        Ok(Self { turns })
    }

    /// Elements in a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        2 * self.turns.len()
    }

    /// What `Kernels::rope` multiplies with at `position`: both (head_dim).
    pub fn fill(&self, position: usize, cos: &mut [f32], sin: &mut [f32]) {
        let pairs = cos
            .as_chunks_mut::<2>()
            .0
            .iter_mut()
            .zip(sin.as_chunks_mut::<2>().0);
        for ((cos, sin), turn) in pairs.zip(&self.turns) {
            let angle = position as f64 * turn;
            let (s, c) = (libm::sin(angle) as f32, libm::cos(angle) as f32);
            *cos = [c, c];
            *sin = [-s, s];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pair_turns_one_radian_a_position_and_later_ones_slower() {
        let rope = Rope::new(4, 10_000.0, 1.0, None).unwrap();
        let (mut cos, mut sin) = ([0.0; 4], [0.0; 4]);
        rope.fill(3, &mut cos, &mut sin);
        let (c, s) = (3f64.cos() as f32, 3f64.sin() as f32);
        assert_eq!(
            (cos[..2].to_vec(), sin[..2].to_vec()),
            (vec![c, c], vec![-s, s])
        );
        let (c, s) = (0.03f64.cos() as f32, 0.03f64.sin() as f32);
        assert_eq!(
            (cos[2..].to_vec(), sin[2..].to_vec()),
            (vec![c, c], vec![-s, s])
        );
    }

    #[test]
    fn scale_and_factors_divide_the_turn() {
        let plain = Rope::new(4, 100.0, 1.0, None).unwrap();
        let scaled = Rope::new(4, 100.0, 2.0, Some(&[1.0, 4.0])).unwrap();
        assert_eq!(scaled.turns, [plain.turns[0] / 2.0, plain.turns[1] / 8.0]);
    }

    #[test]
    fn senseless_numbers_are_refused() {
        assert!(Rope::new(3, 1e4, 1.0, None).is_err());
        assert!(Rope::new(0, 1e4, 1.0, None).is_err());
        assert!(Rope::new(4, f32::NAN, 1.0, None).is_err());
        assert!(Rope::new(4, 1e4, 0.0, None).is_err());
        assert!(Rope::new(4, 1e4, 1.0, Some(&[1.0])).is_err());
        assert!(Rope::new(4, 1e4, 1.0, Some(&[1.0, -1.0])).is_err());
    }
}
