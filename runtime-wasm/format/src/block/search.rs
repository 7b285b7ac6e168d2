//! The searches for scales that the block types share, all after ggml's `ggml-quants.c`.
//!
//! Their results depend on the order of every `f32` operation, so each loop is split into a
//! part without order (products, which the compiler vectorises) and a part that adds in
//! index order.

/// How the levels of an affine fit are searched: trial `t` in `0..=trials` divides the range
/// into `levels_max + start + step * t` parts.
pub(super) struct Grid {
    /// The highest level; the lowest is 0.
    pub(super) levels_max: i32,
    pub(super) start: f32,
    pub(super) step: f32,
    pub(super) trials: u8,
}

/// x is about `scale * level - min`, with `min` >= 0.
pub(super) struct Affine<const N: usize> {
    pub(super) scale: f32,
    pub(super) min: f32,
    pub(super) levels: [u8; N],
}

/// x is about `scale * (level - levels_half)`.
pub(super) struct Symmetric<const N: usize> {
    pub(super) scale: f32,
    pub(super) levels: [u8; N],
}

/// Below this a group counts as all zeros.
pub(super) const MAGNITUDE_MIN: f32 = 1e-15;

/// Rounds half to even, for magnitudes below 2^22: adding 1.5 * 2^23 leaves the integer in
/// the mantissa. Larger ones wrap, exactly as in ggml.
pub(super) fn nearest(x: f32) -> i32 {
    ((x + 12_582_912.0).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// `nearest` for results in 0..=max whatever comes in.
fn nearest_within(x: f32, max: i32) -> i32 {
    if x > 0.0 {
        nearest(x.min(max as f32))
    } else {
        0
    }
}

/// The weight of the largest magnitude, with its sign; the first of equals.
pub(super) fn signed_largest(x: &[f32]) -> f32 {
    let mut magnitude_max = 0.0;
    let mut largest = 0.0;
    for &x in x {
        if x.abs() > magnitude_max {
            magnitude_max = x.abs();
            largest = x;
        }
    }
    largest
}

/// (smallest, largest).
pub(super) fn range(x: &[f32]) -> (f32, f32) {
    x.iter().fold((f32::MAX, f32::MIN), |(min, max), &x| {
        (if x < min { x } else { min }, if x > max { x } else { max })
    })
}

/// The sum in index order.
pub(super) fn sum(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, x| sum + x)
}

/// The sum of squares in index order.
pub(super) fn sum_squares(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, x| sum + x * x)
}

/// A scale and a minimum for `x`, by weighted least squares for each way of rounding that
/// the grid's trials give; the one with the least squared error wins.
///
/// Once a trial has won, later trials measure from its minimum, while the maximum stays.
/// `GUARDED` bounds the levels before rounding instead of after: ggml does so with an
/// importance matrix, and it only matters where the range has shrunk to almost nothing.
pub(super) fn fit_affine<const N: usize, const GUARDED: bool>(
    x: &[f32; N],
    weights: &[f32; N],
    grid: &Grid,
) -> Affine<N> {
    let (mut min, max) = range(x);
    min = if min > 0.0 { 0.0 } else { min };
    if max <= min {
        return Affine {
            scale: 0.0,
            min: -min,
            levels: [0; N],
        };
    }
    let sum_w = sum(weights);
    let sum_x = sum(&product(weights, x));
    let levels_max = grid.levels_max;
    let parts = levels_max as f32;

    // The levels as f32: they are small integers, so that loses nothing.
    let mut best = [0.0; N];
    let inverse = parts / (max - min);
    for (level, &x) in best.iter_mut().zip(x) {
        *level = nearest(inverse * (x - min)).clamp(0, levels_max) as f32;
    }
    let mut scale = 1.0 / inverse;
    let mut error_min = error(x, weights, &best, scale, min);

    for trial in 0..=grid.trials {
        let inverse = (grid.start + grid.step * f32::from(trial) + parts) / (max - min);
        let mut levels = [0.0; N];
        for (level, &x) in levels.iter_mut().zip(x) {
            let exact = inverse * (x - min);
            *level = if GUARDED {
                nearest_within(exact, levels_max)
            } else {
                nearest(exact).clamp(0, levels_max)
            } as f32;
        }
        let wl = product(weights, &levels);
        let (wl2, wlx) = (product(&wl, &levels), product(&wl, x));
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
        for i in 0..N {
            sum_l += wl[i];
            sum_l2 += wl2[i];
            sum_xl += wlx[i];
        }
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        if determinant > 0.0 {
            let mut trial_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
            let mut trial_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
            if trial_min > 0.0 {
                trial_min = 0.0;
                trial_scale = sum_xl / sum_l2;
            }
            let trial_error = error(x, weights, &levels, trial_scale, trial_min);
            if trial_error < error_min {
                (error_min, scale, min, best) = (trial_error, trial_scale, trial_min, levels);
            }
        }
    }
    Affine {
        scale,
        min: -min,
        levels: best.map(|level| level as u8),
    }
}

/// The weighted squared error of `scale * level + min`.
fn error<const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    levels: &[f32; N],
    scale: f32,
    min: f32,
) -> f32 {
    let mut terms = [0.0; N];
    for i in 0..N {
        let difference = scale * levels[i] + min - x[i];
        terms[i] = weights[i] * (difference * difference);
    }
    sum(&terms)
}

fn product<const N: usize>(a: &[f32; N], b: &[f32; N]) -> [f32; N] {
    core::array::from_fn(|i| a[i] * b[i])
}

/// A scale for `x` on levels -half..half (returned with `half` added), by weighted least
/// squares for nineteen ways of rounding.
pub(super) fn fit_symmetric<const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    half: i32,
) -> Symmetric<N> {
    let largest = signed_largest(x);
    if largest.abs() < MAGNITUDE_MIN {
        return Symmetric {
            scale: 0.0,
            levels: [0; N],
        };
    }
    let wx = product(weights, x);
    let round = |inverse: f32| -> [f32; N] {
        core::array::from_fn(|i| nearest(inverse * x[i]).clamp(-half, half - 1) as f32)
    };
    let sums = |levels: &[f32; N]| {
        let wxl = product(&wx, levels);
        let wl2 = product(&product(weights, levels), levels);
        let (mut sum_xl, mut sum_l2) = (0.0, 0.0);
        for i in 0..N {
            sum_xl += wxl[i];
            sum_l2 += wl2[i];
        }
        (sum_xl, sum_l2)
    };

    let mut best = round(-half as f32 / largest);
    let (sum_xl, sum_l2) = sums(&best);
    let mut scale = if sum_l2 == 0.0 { 0.0 } else { sum_xl / sum_l2 };
    // The error is Σ w x² less this gain.
    let mut gain_max = scale * sum_xl;
    for step in (-9i8..=9).filter(|&step| step != 0) {
        let levels = round(-(half as f32 + 0.1 * f32::from(step)) / largest);
        let (sum_xl, sum_l2) = sums(&levels);
        if sum_l2 > 0.0 && sum_xl * sum_xl > gain_max * sum_l2 {
            best = levels;
            scale = sum_xl / sum_l2;
            gain_max = scale * sum_xl;
        }
    }
    Symmetric {
        scale,
        levels: best.map(|level| (level as i32 + half) as u8),
    }
}

/// A scale for `x` >= 0 on levels 0..=levels_max: nine grids, then up to five passes that
/// move one level at a time while the weighted error falls.
pub(super) fn fit_positive<const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    levels_max: i32,
) -> (f32, [u8; N]) {
    let largest = x
        .iter()
        .fold(0.0f32, |max, &x| if x > max { x } else { max });
    if largest < MAGNITUDE_MIN {
        return (0.0, [0; N]);
    }
    let parts = levels_max as f32;
    // The level that a byte can hold, as ggml stores it.
    let level = |exact: f32| f32::from(nearest(exact).min(levels_max) as u8);
    let grid_error = |inverse: f32| {
        let scale = 1.0 / inverse;
        let mut error = 0.0;
        for i in 0..N {
            let difference = x[i] - scale * nearest(inverse * x[i]).min(levels_max) as f32;
            error += weights[i] * difference * difference;
        }
        error
    };
    let mut inverse = parts / largest;
    let mut error_min = grid_error(inverse);
    for step in (-4i8..=4).filter(|&step| step != 0) {
        let trial = (0.1 * f32::from(step) + parts) / largest;
        let trial_error = grid_error(trial);
        if trial_error < error_min {
            (error_min, inverse) = (trial_error, trial);
        }
    }

    let mut levels = [0.0; N];
    let (mut sum_xl, mut sum_l2) = (0.0, 0.0);
    for i in 0..N {
        levels[i] = level(inverse * x[i]);
        sum_xl += weights[i] * x[i] * levels[i];
        sum_l2 += weights[i] * levels[i] * levels[i];
    }
    for _pass in 0..5 {
        let mut changed = false;
        for i in 0..N {
            let w = weights[i];
            let rest_xl = sum_xl - w * x[i] * levels[i];
            let rest_l2 = sum_l2 - w * levels[i] * levels[i];
            if !(rest_xl > 0.0 && rest_l2 > 0.0) {
                continue;
            }
            let moved = level(x[i] * rest_l2 / rest_xl);
            if moved == levels[i] {
                continue;
            }
            let moved_xl = rest_xl + w * x[i] * moved;
            let moved_l2 = rest_l2 + w * moved * moved;
            if moved_xl * moved_xl * sum_l2 > sum_xl * sum_xl * moved_l2 {
                (levels[i], sum_xl, sum_l2) = (moved, moved_xl, moved_l2);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let scale = if sum_l2 > 0.0 { sum_xl / sum_l2 } else { 0.0 };
    (scale, levels.map(|level| level as u8))
}

/// The trials of an affine fit with an importance matrix.
pub(super) fn weighted_grid(levels_max: i32) -> Grid {
    Grid {
        levels_max,
        start: -0.9,
        step: 0.05,
        trials: 36,
    }
}

/// The mean square of a row.
pub(super) fn mean_square(row: &[f32]) -> f32 {
    sum_squares(row) / row.len() as f32
}

/// How much each weight counts, given its column's importance: that times
/// sqrt(`variance` + its own square).
pub(super) fn column_weights<const N: usize>(
    x: &[f32; N],
    importance: &[f32; N],
    variance: f32,
) -> [f32; N] {
    core::array::from_fn(|i| importance[i] * libm::sqrtf(variance + x[i] * x[i]))
}
