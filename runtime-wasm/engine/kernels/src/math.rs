//! `exp` and `erf`, each from one formula on every CPU.
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
//!
//! `erf` is the odd rational function nearest to it up to |x| = 4, from where on an `f32` is 1:
//!
//! ```text
//! t = x^2                        |x| <= 4
//! erf x = (x * P(t)) / Q(t)      P, Q of degree 5, by least squares on the relative error
//! ```
//!
//! Against the true value the error is below 7 ULP, most of it rounding (tested).

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

/// From here on, erf counts as 1.
pub(crate) const ERF_HIGH: f32 = 4.0;
/// P of `erf`, from the highest power down.
pub(crate) const ERF_P: [f32; 6] = [
    1.986_801_9e-6,
    2.845_654_7e-4,
    3.883_289e-3,
    5.310_157e-2,
    1.935_436_6e-1,
    core::f32::consts::FRAC_2_SQRT_PI,
];
/// Q of `erf`, from the highest power down.
pub(crate) const ERF_Q: [f32; 6] = [
    3.742_036e-5,
    1.185_559_6e-3,
    1.520_713_7e-2,
    1.153_494_3e-1,
    5.048_562e-1,
    1.0,
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

/// The error function. NaN stays NaN.
///
/// Plain sums, products and one quotient without a branch, so that a loop over it becomes vectors
/// wherever it is compiled, with the same bits.
#[inline(always)]
#[must_use]
pub fn erf(x: f32) -> f32 {
    let x = x.clamp(-ERF_HIGH, ERF_HIGH);
    let t = x * x;
    let [p5, p4, p3, p2, p1, p0] = ERF_P;
    let [q5, q4, q3, q2, q1, q0] = ERF_Q;
    let p = ((((p5 * t + p4) * t + p3) * t + p2) * t + p1) * t + p0;
    let q = ((((q5 * t + q4) * t + q3) * t + q2) * t + q1) * t + q0;
    (x * p) / q
}

/// The Gaussian error linear unit, `(x / 2) * (1 + erf(x / sqrt 2))`.
#[inline(always)]
#[must_use]
pub fn gelu(x: f32) -> f32 {
    (0.5 * x) * (1.0 + erf(x * core::f32::consts::FRAC_1_SQRT_2))
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
    #[cfg_attr(miri, ignore = "millions of numbers, and nothing unsafe")]
    fn erf_is_within_7_ulp_of_the_true_value() {
        let mut worst = (0.0, 0.0);
        let mut bits = 0x3000_0000;
        while f32::from_bits(bits) < 5.0 {
            let x = f32::from_bits(bits);
            let truth = libm::erf(f64::from(x));
            let nearest = truth as f32;
            let ulp = f64::from(nearest) - f64::from(f32::from_bits(nearest.to_bits() - 1));
            let error = (f64::from(erf(x)) - truth).abs() / ulp;
            if error > worst.0 {
                worst = (error, x);
            }
            assert_eq!(erf(-x), -erf(x), "erf is odd");
            bits += 61;
        }
        assert!(worst.0 < 7.0, "{} ULP at {}", worst.0, worst.1);
        assert!(worst.0 > 0.4, "the search saw nothing: {worst:?}");
    }

    #[test]
    fn ends_of_erf_and_gelu() {
        assert_eq!([erf(0.0), erf(4.0), erf(-4.0)], [0.0, 1.0, -1.0]);
        assert_eq!([erf(f32::INFINITY), erf(-1e30)], [1.0, -1.0]);
        assert!(erf(f32::NAN).is_nan() && gelu(f32::NAN).is_nan());
        assert_eq!([gelu(0.0), gelu(100.0), gelu(-100.0)], [0.0, 100.0, 0.0]);
        // By hand: Phi(1) = 0.8413447, Phi(-0.5) = 0.3085375.
        assert!((gelu(1.0) - 0.841_344_7).abs() < 2e-7);
        assert!((gelu(-0.5) + 0.154_268_77).abs() < 1e-7);
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
