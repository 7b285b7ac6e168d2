//! Q6_K: 256 weights in 210 bytes, sixteen sub-blocks of 16 with a scale each.
//!
//! ```text
//! byte 0            128        192              208      210
//!      u8 ql[128]   u8 qh[64]  i8 scales[16]    f16 d             (d comes last)
//!
//! w = d * scale_(i / 16) * (q - 32)         q = 0..64
//! ```
//! Two halves of 128 weights, each with 64 bytes of `ql` and 32 of `qh`. In a half, for
//! `l` = 0..32:
//!
//! ```text
//! weight       low four bits     high two bits
//! l            ql[l] & 15        qh[l] bits 0, 1
//! l + 32       ql[l + 32] & 15   qh[l] bits 2, 3
//! l + 64       ql[l] >> 4        qh[l] bits 4, 5
//! l + 96       ql[l + 32] >> 4   qh[l] bits 6, 7
//! ```

use super::{decode_blocks, half_value};

/// Weights in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 210;

/// `src` [210 n] to `dst` [256 n].
///
/// # Panics
/// When the lengths do not fit.
pub fn dequantize_row(src: &[u8], dst: &mut [f32]) {
    decode_blocks(
        src,
        dst,
        |block: &[u8; BLOCK_BYTES], x: &mut [f32; BLOCK_LEN]| {
            let d = half_value([block[208], block[209]]);
            let (halves, _) = x.as_chunks_mut::<128>();
            for (h, x) in halves.iter_mut().enumerate() {
                let ql = &block[64 * h..64 * h + 64];
                let qh = &block[128 + 32 * h..160 + 32 * h];
                let scales = &block[192 + 8 * h..200 + 8 * h];
                for l in 0..32 {
                    let levels = [
                        (ql[l] & 15) | (qh[l] & 3) << 4,
                        (ql[l + 32] & 15) | (qh[l] >> 2 & 3) << 4,
                        (ql[l] >> 4) | (qh[l] >> 4 & 3) << 4,
                        (ql[l + 32] >> 4) | (qh[l] >> 6) << 4,
                    ];
                    for (quarter, &q) in levels.iter().enumerate() {
                        let scale = f32::from(scales[2 * quarter + l / 16] as i8);
                        x[32 * quarter + l] = d * scale * (f32::from(q) - 32.0);
                    }
                }
            }
        },
    );
}
