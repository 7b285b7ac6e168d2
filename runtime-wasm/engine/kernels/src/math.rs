//! `exp`, from one polynomial on every CPU.
//!
//! ```text
//! n = round(x / ln 2)            half to even, -100 <= n <= 128
//! r = x - n * ln 2               |r| <= ln 2 / 2, in two steps (below)
//! e^r = 1 + (r + r^2 * p(r))     p: Taylor, 1/2! .. 1/7!
//! e^x = (e^r * 2^(n/2)) * 2^(n - n/2)
//! ```
//!
//! The first term left out, r^8/8!, is at most 5.2e-9, a twelfth of half an
//! ULP. `ln 2` is split into `LN2_HIGH`, whose 10 bits make `n * LN2_HIGH`
//! exact, and the rest. The scaling takes two factors because 2^128 has no
//! normal `f32`. Against the true value the error is below 1.5 ULP (tested).
//!
//! Below e^-69, about 2^-99.5, the result is 0. Nothing that is added to 1 or
//! to a larger exponential can tell, while CPUs take a hundred times longer
//! for products that end among the subnormal numbers; 2^-99.5 leaves room for
//! what it is multiplied by.

/// Below this, e^x counts as 0.
pub(crate) const EXP_LOW: f32 = -69.0;
/// From this on, e^x overflows to infinity.
pub(crate) const EXP_HIGH: f32 = 89.0;
/// 1 / ln 2.
pub(crate) const LOG2_E: f32 = core::f32::consts::LOG2_E;
/// The first 10 bits of ln 2.
pub(crate) const LN2_HIGH: f32 = 355.0 / 512.0;
/// ln 2 - `LN2_HIGH`.
pub(crate) const LN2_LOW: f32 = -2.121_944_4e-4;
/// 1.5 * 2^23: adding it rounds a small float to an integer, half to even, and
/// leaves that integer in the low bits of the sum.
pub(crate) const ROUND_MAGIC: f32 = 12_582_912.0;
/// 1/2!, 1/3! .. 1/7!.
pub(crate) const EXP_TAYLOR: [f32; 6] = [
    1.0 / 2.0,
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5040.0,
];

/// The integer nearest to `x`, half to even. Exact for |x| <= 2^22.
#[must_use]
pub fn round_half_even(x: f32) -> i32 {
    (x + ROUND_MAGIC).to_bits() as i32 - ROUND_MAGIC.to_bits() as i32
}

/// 2^n for -126 <= n <= 127.
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// e^x, 0 below e^-69. NaN stays NaN.
#[must_use]
pub fn exp(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    if x < EXP_LOW {
        return 0.0;
    }
    let x = x.min(EXP_HIGH);
    let n = round_half_even(x * LOG2_E);
    let whole = n as f32;
    let r = (x - whole * LN2_HIGH) - whole * LN2_LOW;
    let [c2, c3, c4, c5, c6, c7] = EXP_TAYLOR;
    let p = ((((c7 * r + c6) * r + c5) * r + c4) * r + c3) * r + c2;
    let power = 1.0 + (r + (r * r) * p);
    let half = n >> 1;
    (power * power_of_two(half)) * power_of_two(n - half)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance to the true value in units of the last place of the true value.
    fn error_ulp(x: f32) -> f64 {
        let truth = libm::exp(f64::from(x));
        let nearest = truth as f32;
        let ulp = f64::from(f32::from_bits(nearest.to_bits() + 1)) - f64::from(nearest);
        (f64::from(exp(x)) - truth).abs() / ulp
    }

    #[test]
    #[cfg_attr(miri, ignore = "millions of numbers, and nothing unsafe")]
    fn within_1_5_ulp_of_the_true_value() {
        let mut worst = (0.0, 0.0);
        // Every 61st float between -69 and 88.7.
        for sign in [0_u32, 0x8000_0000] {
            let mut bits = 0x3000_0000;
            while f32::from_bits(bits) < 88.72 {
                let x = f32::from_bits(bits | sign);
                if x >= EXP_LOW {
                    let error = error_ulp(x);
                    if error > worst.0 {
                        worst = (error, x);
                    }
                }
                bits += 61;
            }
        }
        assert!(worst.0 < 1.5, "{} ULP at {}", worst.0, worst.1);
        assert!(worst.0 > 0.4, "the search saw nothing: {worst:?}");
    }

    #[test]
    fn ends_of_the_range() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(88.8), f32::INFINITY);
        assert!(exp(EXP_LOW) > 1e-30 && exp(EXP_LOW) < 1.1e-30);
        assert_eq!(exp(-69.1), 0.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(88.7).is_finite());
    }

    #[test]
    fn rounds_half_to_even() {
        let cases = [
            (0.5, 0),
            (1.5, 2),
            (2.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (126.5, 126),
        ];
        for (x, wanted) in cases {
            assert_eq!(round_half_even(x), wanted, "{x}");
        }
    }
}
