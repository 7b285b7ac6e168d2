//! Sums across the lanes of vectors, and IEEE halves as floats.

use core::arch::wasm32::*;

/// Eight virtual lanes: 0 to 3, and 4 to 7.
pub(super) type Lanes = [v128; 2];

/// Eight lanes of zero.
#[inline]
pub(super) fn zero() -> Lanes {
    [f32x4_splat(0.0); 2]
}

/// Lane `i` of the result is the fold of `parts[i]`:
/// `((0+4) + (2+6)) + ((1+5) + (3+7))`, in that order.
#[inline]
pub(super) fn fold_each(parts: [Lanes; 4]) -> v128 {
    let halves = |[low, high]: Lanes| f32x4_add(low, high);
    let pair = |a, b| {
        f32x4_add(
            i32x4_shuffle::<0, 1, 4, 5>(a, b),
            i32x4_shuffle::<2, 3, 6, 7>(a, b),
        )
    };
    let [a, b, c, d] = parts;
    let (ab, cd) = (pair(halves(a), halves(b)), pair(halves(c), halves(d)));
    f32x4_add(
        i32x4_shuffle::<0, 2, 4, 6>(ab, cd),
        i32x4_shuffle::<1, 3, 5, 7>(ab, cd),
    )
}

/// The fold of one set of lanes.
#[inline]
pub(super) fn fold(lanes: Lanes) -> f32 {
    f32x4_extract_lane::<0>(fold_each([lanes; 4]))
}

/// The four lanes as an array.
#[inline]
pub(super) fn to_array(x: v128) -> [f32; 4] {
    let mut lanes = [0.0; 4];
    // SAFETY: `lanes` has room for four floats, and any alignment will do.
    unsafe { v128_store(lanes.as_mut_ptr().cast(), x) };
    lanes
}

/// IEEE halves in the low 16 bits of each lane, the high ones zero, as floats.
///
/// The bits of a half, moved to the place of a float's, make a number 2^112
/// times too small, subnormal or not; infinity and NaN keep all their bits.
#[inline]
pub(super) fn widen(halves: v128) -> v128 {
    let size = v128_and(halves, u32x4_splat(0x7fff));
    let sign = i32x4_shl(v128_xor(halves, size), 16);
    let number = f32x4_mul(
        i32x4_shl(size, 13),
        f32x4_splat(f32::from_bits((127 + 112) << 23)),
    );
    let endless = i32x4_gt(size, u32x4_splat(0x7bff));
    let number = v128_or(number, v128_and(endless, u32x4_splat(0x7f80_0000)));
    v128_or(number, sign)
}
