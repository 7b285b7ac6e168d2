//! The header parser: GGUF versions 2 and 3, little endian.
//!
//! ```text
//! "GGUF"  u32 version  u64 tensor_count  u64 metadata_count
//! metadata_count x { string key, u32 type, value }
//! tensor_count   x { string name, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset }
//! zeros up to a multiple of the alignment
//! data            each tensor at data_start + offset, padded to the alignment
//! ```
//! A string is a u64 length and UTF-8; an array is a u32 element type, a u64 count and the
//! elements. Layout after ggml's `docs/gguf.md`; the rules are those of its own reader.

use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind, error};
use crate::ggml_type::GgmlType;
use crate::gguf::{Gguf, TensorInfo};
use crate::rules::{MAGIC, alignment, limits, overflow, pad, tensor_bytes, unique};
use crate::value::{Array, Value, ValueType};
use alloc::string::String;

/// key length 8, at least one byte of key, type 4, at least one byte of value
const METADATA_BYTES_MIN: u64 = 14;
/// name length 8, at least one byte of name, n_dims 4, one dimension 8, type 4, offset 8
const TENSOR_BYTES_MIN: u64 = 33;

pub(crate) fn parse(head: &[u8], file_len: u64) -> Result<Gguf, Error> {
    if usize::try_from(file_len).is_err() {
        return Err(error!(
            ErrorKind::TooLarge,
            "a file of {file_len} bytes cannot be addressed here; use a 64-bit build"
        ));
    }
    if head.len() as u64 > file_len {
        return Err(error!(
            ErrorKind::InvalidArgument,
            "{} bytes were passed of a file said to have {file_len}; pass the file's real length",
            head.len()
        ));
    }
    let mut cursor = Cursor::new(head, file_len);
    let version = preamble(&mut cursor)?;
    let tensor_count = cursor.u64("the tensor count")?;
    let metadata_count = cursor.u64("the metadata count")?;
    // Both tables must fit the file before either is read.
    cursor.expect(metadata_count, METADATA_BYTES_MIN, "the metadata table")?;
    cursor.expect(tensor_count, TENSOR_BYTES_MIN, "the tensor table")?;

    let mut metadata = cursor.reserve(metadata_count, METADATA_BYTES_MIN, "the metadata table")?;
    for _ in 0..metadata_count {
        metadata.push(entry(&mut cursor)?);
    }
    unique(
        metadata
            .iter()
            .map(|(key, _): &(String, Value)| key.as_str()),
        "metadata key",
    )?;
    let alignment = alignment(&metadata)?;

    let mut tensors = cursor.reserve(tensor_count, TENSOR_BYTES_MIN, "the tensor table")?;
    let mut data_len = 0;
    for _ in 0..tensor_count {
        let tensor = tensor(&mut cursor, &mut data_len, alignment)?;
        tensors.push(tensor);
    }
    unique(
        tensors
            .iter()
            .map(|tensor: &TensorInfo| tensor.name.as_str()),
        "tensor name",
    )?;

    let data_start = pad(cursor.offset(), alignment).ok_or_else(|| overflow(cursor.offset()))?;
    for tensor in &tensors {
        let end = data_start
            .checked_add(tensor.offset)
            .and_then(|start| start.checked_add(tensor.bytes));
        if end.is_none_or(|end| end > file_len) {
            return Err(error!(
                ErrorKind::Truncated,
                "its {} bytes of data reach past the file's end at {file_len}; the file is cut short, fetch it again",
                tensor.bytes
            )
            .about(&tensor.name)
            .at(data_start.saturating_add(tensor.offset)));
        }
    }
    Ok(Gguf {
        version,
        metadata,
        tensors,
        alignment,
        data_start,
    })
}

/// Magic and version.
fn preamble(cursor: &mut Cursor<'_>) -> Result<u32, Error> {
    let magic = cursor.array::<4>("the magic")?;
    if magic != MAGIC {
        return Err(error!(
            ErrorKind::NotGguf,
            "found {magic:02x?} where a GGUF file has {MAGIC:02x?}; is this a model file?"
        )
        .at(0));
    }
    let version = cursor.u32("the version")?;
    match version {
        2 | 3 => Ok(version),
        _ if version & 0xffff == 0 => Err(error!(
            ErrorKind::UnsupportedVersion,
            "the version reads {version:#010x}, so the file is big endian; convert it to little endian"
        )
        .at(4)),
        _ => Err(error!(
            ErrorKind::UnsupportedVersion,
            "found version {version}, versions 2 and 3 are read; convert the file anew"
        )
        .at(4)),
    }
}

/// One metadata entry.
fn entry(cursor: &mut Cursor<'_>) -> Result<(String, Value), Error> {
    let start = cursor.offset();
    let key = cursor.string(limits::KEY_BYTES_MAX, "a metadata key")?;
    if key.is_empty() {
        return Err(error!(
            ErrorKind::Malformed,
            "a metadata key is empty; the file is damaged"
        )
        .at(start));
    }
    let value = cursor
        .value_type("a value's type")
        .and_then(|ty| value(cursor, ty))
        .map_err(|cause| cause.about(&key))?;
    Ok((key, value))
}

fn value(cursor: &mut Cursor<'_>, ty: ValueType) -> Result<Value, Error> {
    const WHAT: &str = "a value";
    Ok(match ty {
        ValueType::U8 => Value::U8(u8::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::I8 => Value::I8(i8::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::U32 => Value::U32(u32::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::I32 => Value::I32(i32::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::U64 => Value::U64(u64::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::I64 => Value::I64(i64::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::Bool => Value::Bool(boolean(cursor)?),
        ValueType::String => Value::String(cursor.string(limits::STRING_BYTES_MAX, WHAT)?),
        ValueType::Array => Value::Array(array(cursor)?),
    })
}

fn boolean(cursor: &mut Cursor<'_>) -> Result<bool, Error> {
    let start = cursor.offset();
    match cursor.array("a truth value")? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(error!(
            ErrorKind::Malformed,
            "a truth value is {other}, not 0 or 1; the file is damaged"
        )
        .at(start)),
    }
}

fn array(cursor: &mut Cursor<'_>) -> Result<Array, Error> {
    let start = cursor.offset();
    let ty = cursor.value_type("an array's element type")?;
    let count = cursor.u64("an array's count")?;
    if count > limits::ARRAY_LEN_MAX {
        return Err(error!(
            ErrorKind::TooLarge,
            "an array states {count} elements, the limit is {}; the file is damaged",
            limits::ARRAY_LEN_MAX
        )
        .at(start));
    }
    Ok(match ty {
        ValueType::U8 => Array::U8(cursor.scalars(count, u8::from_le_bytes)?),
        ValueType::I8 => Array::I8(cursor.scalars(count, i8::from_le_bytes)?),
        ValueType::U16 => Array::U16(cursor.scalars(count, u16::from_le_bytes)?),
        ValueType::I16 => Array::I16(cursor.scalars(count, i16::from_le_bytes)?),
        ValueType::U32 => Array::U32(cursor.scalars(count, u32::from_le_bytes)?),
        ValueType::I32 => Array::I32(cursor.scalars(count, i32::from_le_bytes)?),
        ValueType::F32 => Array::F32(cursor.scalars(count, f32::from_le_bytes)?),
        ValueType::U64 => Array::U64(cursor.scalars(count, u64::from_le_bytes)?),
        ValueType::I64 => Array::I64(cursor.scalars(count, i64::from_le_bytes)?),
        ValueType::F64 => Array::F64(cursor.scalars(count, f64::from_le_bytes)?),
        ValueType::Bool => {
            let mut items = cursor.reserve(count, ty.bytes_min(), "an array")?;
            for _ in 0..count {
                items.push(boolean(cursor)?);
            }
            Array::Bool(items)
        }
        ValueType::String => {
            cursor.expect(count, ty.bytes_min(), "an array")?;
            Array::String(cursor.strings(count, limits::STRING_BYTES_MAX, "an array's string")?)
        }
        ValueType::Array => {
            return Err(error!(
                ErrorKind::UnsupportedType,
                "an array of arrays is not supported; flatten it when writing the file"
            )
            .at(start));
        }
    })
}

/// One row of the tensor table. `data_len` is the padded length of the tensors before it.
fn tensor(
    cursor: &mut Cursor<'_>,
    data_len: &mut u64,
    alignment: u64,
) -> Result<TensorInfo, Error> {
    let start = cursor.offset();
    let name = cursor.string(limits::NAME_BYTES_MAX, "a tensor name")?;
    if name.is_empty() {
        return Err(error!(
            ErrorKind::Malformed,
            "a tensor name is empty; the file is damaged"
        )
        .at(start));
    }
    let place = |cause: Error| cause.about(&name).at(start);
    let n_dims = cursor
        .u32("a tensor's number of dimensions")
        .map_err(place)?;
    if n_dims == 0 || n_dims as usize > limits::DIMS_MAX {
        return Err(place(error!(
            ErrorKind::Malformed,
            "it states {n_dims} dimensions, 1 to {} are allowed; the file is damaged",
            limits::DIMS_MAX
        )));
    }
    let mut dims = [1; limits::DIMS_MAX];
    for dim in dims.iter_mut().take(n_dims as usize) {
        *dim = cursor.u64("a tensor's dimension").map_err(place)?;
    }
    let ty = cursor
        .u32("a tensor's type")
        .and_then(GgmlType::try_from)
        .map_err(place)?;
    let bytes = tensor_bytes(&dims, ty).map_err(place)?;
    let offset = cursor.u64("a tensor's offset").map_err(place)?;
    if offset != *data_len {
        return Err(place(error!(
            ErrorKind::Malformed,
            "its data is said to start at {offset}, but the tensors before it end at {data_len}; tensors must follow one another without gaps"
        )));
    }
    *data_len = bytes
        .checked_add(offset)
        .and_then(|end| pad(end, alignment))
        .ok_or_else(|| place(overflow(offset)))?;
    Ok(TensorInfo {
        name,
        dims,
        n_dims: n_dims as u8,
        ty,
        offset,
        bytes,
    })
}
