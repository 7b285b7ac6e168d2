//! GELU (Hendrycks and Gimpel 2016) with the error function, as BERT has it.

use super::math::exp;

/// `(Phi(x), e^(-x^2/2) / sqrt(2 pi))`: the normal distribution and its density.
///
/// The error function is Abramowitz and Stegun's 7.1.26; its error stays below 1.5e-7.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4;
    p = p * t - 1.453_152;
    p = p * t + 1.421_413_7;
    p = p * t - 0.284_496_74;
    p = p * t + 0.254_829_6;
    let bell = exp(-z * z);
    let tail = 0.5 * p * t * bell;
    let phi = if x < 0.0 { tail } else { 1.0 - tail };
    (phi, bell * 0.398_942_3)
}

/// `h = x Phi(x)`, element by element.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub fn forward(x: &[f32], h: &mut [f32]) {
    for (h, x) in h.iter_mut().zip(x) {
        *h = x * normal(*x).0;
    }
}

/// Multiplies `dh` by the derivative `Phi(x) + x phi(x)`, in place.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub fn backward(x: &[f32], dh: &mut [f32]) {
    for (dh, x) in dh.iter_mut().zip(x) {
        let (phi, density) = normal(*x);
        *dh *= phi + x * density;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn matches_known_values() {
        // Phi(1) and Phi(2) from tables of the normal distribution.
        let x = [0.0f32, 1.0, -1.0, 2.0, -9.0];
        let mut h = [0.0; 5];
        super::forward(&x, &mut h);
        let want = [0.0f32, 0.841_344_7, -0.158_655_3, 1.954_5, 0.0];
        for (h, want) in h.iter().zip(want) {
            assert!((h - want).abs() < 1e-6, "{h} against {want}");
        }
    }
}
