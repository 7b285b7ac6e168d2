//! Range scans that the 32-weight types share.

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
