//! The twelve bytes in which Q4_K and Q5_K keep eight 6-bit scales and eight 6-bit minima.
//!
//! ```text
//! byte j      (0..4)   scale j in bits 0..6,     bits 4..6 of scale j + 4 in bits 6..8
//! byte j + 4  (4..8)   minimum j in bits 0..6,   bits 4..6 of minimum j + 4 in bits 6..8
//! byte j + 8  (8..12)  low four bits of scale j + 4, then of minimum j + 4
//! ```

use super::half_value;

/// Bytes of the packed scales and minima.
pub(super) const BYTES: usize = 12;
/// Sub-blocks of 32 weights in a block of 256.
pub(super) const SUBS: usize = 8;

/// `scales` and `mins` are 0..64.
pub(super) fn pack(scales: &[u8; SUBS], mins: &[u8; SUBS]) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    for j in 0..4 {
        out[j] = scales[j] | (scales[j + 4] >> 4) << 6;
        out[j + 4] = mins[j] | (mins[j + 4] >> 4) << 6;
        out[j + 8] = (scales[j + 4] & 15) | mins[j + 4] << 4;
    }
    out
}

/// (scales, mins), each 0..64.
pub(super) fn unpack(packed: &[u8; BYTES]) -> ([u8; SUBS], [u8; SUBS]) {
    let (mut scales, mut mins) = ([0; SUBS], [0; SUBS]);
    for j in 0..4 {
        scales[j] = packed[j] & 63;
        mins[j] = packed[j + 4] & 63;
        scales[j + 4] = (packed[j + 8] & 15) | (packed[j] >> 6) << 4;
        mins[j + 4] = (packed[j + 8] >> 4) | (packed[j + 4] >> 6) << 4;
    }
    (scales, mins)
}

/// The first 16 bytes of a Q4_K or Q5_K block, as they apply at run time.
pub(super) struct Header {
    d: f32,
    d_min: f32,
    scales: [u8; SUBS],
    mins: [u8; SUBS],
}

impl Header {
    /// From a whole block: f16 d, f16 dmin, the twelve bytes.
    pub(super) fn read<const BLOCK_BYTES: usize>(block: &[u8; BLOCK_BYTES]) -> Self {
        let mut packed = [0; BYTES];
        packed.copy_from_slice(&block[4..16]);
        let (scales, mins) = unpack(&packed);
        Self {
            d: half_value([block[0], block[1]]),
            d_min: half_value([block[2], block[3]]),
            scales,
            mins,
        }
    }

    /// (scale, minimum) of sub-block `j`: a weight is scale * q - minimum.
    pub(super) fn sub(&self, j: usize) -> (f32, f32) {
        (
            self.d * f32::from(self.scales[j]),
            self.d_min * f32::from(self.mins[j]),
        )
    }
}
