//! The element types a tensor can have, and how many bytes they take.

use crate::block;
use crate::error::{Error, ErrorKind, error};
use core::fmt;

/// A tensor's element type. The discriminant is the id in the file.
#[expect(
    non_camel_case_types,
    reason = "the field's own names, as every tool prints them"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
#[non_exhaustive]
pub enum GgmlType {
    /// IEEE single.
    F32 = 0,
    /// IEEE half.
    F16 = 1,
    /// 4 bits, one scale for 32 weights.
    Q4_0 = 2,
    /// 4 bits, a scale and a minimum for 32 weights.
    Q4_1 = 3,
    /// 5 bits, one scale for 32 weights.
    Q5_0 = 6,
    /// 5 bits, a scale and a minimum for 32 weights.
    Q5_1 = 7,
    /// 8 bits, one scale for 32 weights.
    Q8_0 = 8,
    /// 4 bits, a 6-bit scale and minimum for 32 weights, 256 to a block.
    Q4_K = 12,
    /// 5 bits, a 6-bit scale and minimum for 32 weights, 256 to a block.
    Q5_K = 13,
    /// 6 bits, an 8-bit scale for 16 weights, 256 to a block.
    Q6_K = 14,
    /// The upper half of an IEEE single.
    BF16 = 30,
}

impl GgmlType {
    /// Every type, in the order of the ids.
    pub const ALL: [GgmlType; 11] = [
        GgmlType::F32,
        GgmlType::F16,
        GgmlType::Q4_0,
        GgmlType::Q4_1,
        GgmlType::Q5_0,
        GgmlType::Q5_1,
        GgmlType::Q8_0,
        GgmlType::Q4_K,
        GgmlType::Q5_K,
        GgmlType::Q6_K,
        GgmlType::BF16,
    ];

    /// The id in the file.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// Elements in a block. A row holds a whole number of blocks.
    pub const fn block_len(self) -> usize {
        self.block_shape().0
    }

    /// Bytes in a block.
    pub const fn block_bytes(self) -> usize {
        self.block_shape().1
    }

    /// (elements, bytes) of a block, from the files that define them.
    const fn block_shape(self) -> (usize, usize) {
        match self {
            GgmlType::F32 => (block::f32::BLOCK_LEN, block::f32::BLOCK_BYTES),
            GgmlType::F16 => (block::f16::BLOCK_LEN, block::f16::BLOCK_BYTES),
            GgmlType::BF16 => (block::bf16::BLOCK_LEN, block::bf16::BLOCK_BYTES),
            GgmlType::Q4_0 => (block::q4_0::BLOCK_LEN, block::q4_0::BLOCK_BYTES),
            GgmlType::Q4_1 => (block::q4_1::BLOCK_LEN, block::q4_1::BLOCK_BYTES),
            GgmlType::Q5_0 => (block::q5_0::BLOCK_LEN, block::q5_0::BLOCK_BYTES),
            GgmlType::Q5_1 => (block::q5_1::BLOCK_LEN, block::q5_1::BLOCK_BYTES),
            GgmlType::Q8_0 => (block::q8_0::BLOCK_LEN, block::q8_0::BLOCK_BYTES),
            GgmlType::Q4_K => (block::q4_k::BLOCK_LEN, block::q4_k::BLOCK_BYTES),
            GgmlType::Q5_K => (block::q5_k::BLOCK_LEN, block::q5_k::BLOCK_BYTES),
            GgmlType::Q6_K => (block::q6_k::BLOCK_LEN, block::q6_k::BLOCK_BYTES),
        }
    }

    /// Bytes of `n` elements, or `None` when `n` is no whole number of blocks or the
    /// product does not fit.
    pub const fn row_bytes(self, n: usize) -> Option<usize> {
        if !n.is_multiple_of(self.block_len()) {
            return None;
        }
        (n / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Whether weights lose precision to a scale shared by a block (all but the floats).
    pub const fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// The field's name for it, as in `Q4_K`.
    pub const fn name(self) -> &'static str {
        match self {
            GgmlType::F32 => "F32",
            GgmlType::F16 => "F16",
            GgmlType::Q4_0 => "Q4_0",
            GgmlType::Q4_1 => "Q4_1",
            GgmlType::Q5_0 => "Q5_0",
            GgmlType::Q5_1 => "Q5_1",
            GgmlType::Q8_0 => "Q8_0",
            GgmlType::Q4_K => "Q4_K",
            GgmlType::Q5_K => "Q5_K",
            GgmlType::Q6_K => "Q6_K",
            GgmlType::BF16 => "BF16",
        }
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TryFrom<u32> for GgmlType {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::UnsupportedType`], with the type's name where the id is a known one.
    fn try_from(id: u32) -> Result<Self, Error> {
        if let Some(ty) = Self::ALL.into_iter().find(|ty| ty.id() == id) {
            return Ok(ty);
        }
        let known = match id {
            10 => "Q2_K",
            11 => "Q3_K",
            15 => "Q8_K",
            24 => "I8",
            25 => "I16",
            26 => "I32",
            27 => "I64",
            28 => "F64",
            39 => "MXFP4",
            40 => "NVFP4",
            41 => "Q1_0",
            42 => "Q2_0",
            _ => "unknown",
        };
        Err(error!(
            ErrorKind::UnsupportedType,
            "element type {id} ({known}) is not supported; convert the file to Q4_K_M, Q8_0 or F16"
        ))
    }
}
