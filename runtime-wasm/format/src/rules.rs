//! The rules of a file that the reader and the writer share.

use crate::error::{Error, ErrorKind, error};
use crate::ggml_type::GgmlType;
use crate::value::{Array, Value};
use alloc::collections::BTreeSet;
use alloc::string::String;

/// What the reader refuses, and the writer too.
pub mod limits {
    /// Bytes of a metadata key (the written specification's limit).
    pub const KEY_BYTES_MAX: u64 = 65_535;
    /// Bytes of a tensor name. ggml keeps 64 with a closing zero.
    pub const NAME_BYTES_MAX: u64 = 63;
    /// Bytes of a string value.
    pub const STRING_BYTES_MAX: u64 = 1 << 30;
    /// Elements of an array value.
    pub const ARRAY_LEN_MAX: u64 = 1 << 30;
    /// Dimensions of a tensor.
    pub const DIMS_MAX: usize = 4;
    /// The alignment when `general.alignment` is not there.
    pub const ALIGNMENT_DEFAULT: u64 = 32;
}

pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";

/// Checks a metadata entry against the limits; the reader does so as it reads.
pub(crate) fn entry(key: &str, value: &Value) -> Result<(), Error> {
    let too_long = |text: &str| text.len() as u64 > limits::STRING_BYTES_MAX;
    let fault = match value {
        _ if key.is_empty() => "the key is empty",
        _ if key.len() as u64 > limits::KEY_BYTES_MAX => "the key is over 65535 bytes",
        Value::String(text) if too_long(text) => "the string is over 1 GiB",
        Value::Array(array) if array.len() as u64 > limits::ARRAY_LEN_MAX => {
            "the array has over 2^30 elements"
        }
        Value::Array(Array::String(texts)) if texts.iter().any(too_long) => {
            "a string of the array is over 1 GiB"
        }
        _ => return Ok(()),
    };
    Err(error!(
        ErrorKind::InvalidArgument,
        "{fault}; no reader would take it"
    )
    .about(key))
}

/// `general.alignment`, or the default where it is not there.
pub(crate) fn alignment(metadata: &[(String, Value)]) -> Result<u64, Error> {
    let found = metadata.iter().find(|(key, _)| key == ALIGNMENT_KEY);
    match found.map(|(_, value)| value) {
        None => Ok(limits::ALIGNMENT_DEFAULT),
        Some(Value::U32(n)) if n.is_power_of_two() => Ok(u64::from(*n)),
        Some(Value::U32(n)) => Err(error!(
            ErrorKind::Malformed,
            "the alignment is {n}; it must be a power of two, 32 is usual"
        )
        .about(ALIGNMENT_KEY)),
        Some(other) => Err(error!(
            ErrorKind::WrongType,
            "the alignment must be a u32, found {}",
            other.type_name()
        )
        .about(ALIGNMENT_KEY)),
    }
}

/// Bytes of a tensor's data. Dimensions must be positive, the row a whole number of blocks.
pub(crate) fn tensor_bytes(dims: &[u64; 4], ty: GgmlType) -> Result<u64, Error> {
    if dims.contains(&0) {
        return Err(error!(
            ErrorKind::Malformed,
            "a dimension of {dims:?} is 0; the file is damaged"
        ));
    }
    let block_len = ty.block_len() as u64;
    if !dims[0].is_multiple_of(block_len) {
        return Err(error!(
            ErrorKind::Malformed,
            "rows of {} elements are no whole number of {ty} blocks of {block_len}; choose another type for this tensor",
            dims[0]
        ));
    }
    dims.iter()
        .try_fold(1u64, |n, &dim| n.checked_mul(dim))
        .filter(|&n| i64::try_from(n).is_ok())
        .and_then(|n| (n / block_len).checked_mul(ty.block_bytes() as u64))
        .ok_or_else(|| {
            error!(
                ErrorKind::TooLarge,
                "the shape {dims:?} has more elements than can be counted; the file is damaged"
            )
        })
}

/// `n` rounded up to a multiple of `alignment`, a power of two.
pub(crate) fn pad(n: u64, alignment: u64) -> Option<u64> {
    n.checked_next_multiple_of(alignment)
}

pub(crate) fn overflow(offset: u64) -> Error {
    error!(
        ErrorKind::TooLarge,
        "sizes add up to more than can be counted after {offset}; the file is damaged"
    )
}

pub(crate) fn unique<'a>(names: impl Iterator<Item = &'a str>, what: &str) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(error!(
                ErrorKind::Malformed,
                "the {what} is there twice; each must be unique"
            )
            .about(name));
        }
    }
    Ok(())
}
