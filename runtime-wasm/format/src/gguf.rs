//! A parsed header: metadata, the tensor table, and where each tensor's bytes lie.

use crate::error::{Error, ErrorKind, error};
use crate::ggml_type::GgmlType;
use crate::read;
use crate::strings::Strings;
use crate::value::{Array, Value};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// One row of the tensor table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Unique in the file, under 64 bytes.
    pub name: String,
    /// Shape. `dims[0]` is the contiguous dimension, that is the row length: a matrix with
    /// `n_in` inputs and `n_out` outputs is `[n_in, n_out, 1, 1]`. Unused places are 1.
    pub dims: [u64; 4],
    /// How many of `dims` the file states, 1..=4.
    pub n_dims: u8,
    /// Element type; `dims[0]` is a multiple of its block length.
    pub ty: GgmlType,
    /// Bytes from the start of the data section.
    pub offset: u64,
    /// Bytes of the data, padding not counted.
    pub bytes: u64,
}

impl TensorInfo {
    /// How many elements.
    pub fn elements(&self) -> u64 {
        self.dims.iter().fold(1, |n, &dim| n.saturating_mul(dim))
    }

    /// The dimensions that the file states.
    pub fn shape(&self) -> &[u64] {
        self.dims
            .get(..usize::from(self.n_dims))
            .unwrap_or(&self.dims)
    }
}

/// A GGUF file's header. Holds no tensor data.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    /// 2 or 3; the layouts are the same.
    pub version: u32,
    /// Keys and values in the order of the file. Keys are unique.
    pub metadata: Vec<(String, Value)>,
    /// The tensor table in the order of the file, which is also the order of the data.
    pub tensors: Vec<TensorInfo>,
    /// Each tensor's data starts at a multiple of this from `data_start`. A power of two.
    pub alignment: u64,
    /// Where in the file the data section starts: the end of the header, padded.
    pub data_start: u64,
}

impl Gguf {
    /// Parses the header.
    ///
    /// `head` is the start of the file: all of it, or a prefix that holds the header.
    /// `file_len` is the length in bytes of the whole file, against which every count,
    /// length and offset is checked before memory is taken; what is taken is at most a
    /// small multiple of `head.len()`. Bytes after the last tensor are ignored.
    ///
    /// # Errors
    /// [`ErrorKind::NeedMore`] when `head` ends inside the header although the file goes
    /// on; [`ErrorKind::Truncated`] when the file itself ends too early (also inside the
    /// tensor data); other kinds when the content breaks a rule. Each names the key or
    /// tensor and the offset.
    pub fn parse(head: &[u8], file_len: u64) -> Result<Gguf, Error> {
        read::parse(head, file_len)
    }

    /// A metadata value by its key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// An integer of any width that fits `u32`; `None` when the key is missing.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`] when it is no integer, negative, or too large.
    pub fn get_u32(&self, key: &str) -> Result<Option<u32>, Error> {
        self.typed(key, "u32", |value| {
            value.as_u64().and_then(|v| u32::try_from(v).ok())
        })
    }

    /// An integer of any width that fits `u64`; `None` when the key is missing.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`] when it is no integer, or negative.
    pub fn get_u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.typed(key, "u64", Value::as_u64)
    }

    /// An `f32`; `None` when the key is missing.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`] when it is something else.
    pub fn get_f32(&self, key: &str) -> Result<Option<f32>, Error> {
        self.typed(key, "f32", |value| match value {
            Value::F32(v) => Some(*v),
            _ => None,
        })
    }

    /// A string; `None` when the key is missing.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`] when it is something else.
    pub fn get_str(&self, key: &str) -> Result<Option<&str>, Error> {
        self.typed(key, "string", |value| match value {
            Value::String(v) => Some(v.as_str()),
            _ => None,
        })
    }

    /// A truth value; `None` when the key is missing.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`] when it is something else.
    pub fn get_bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "bool", |value| match value {
            Value::Bool(v) => Some(*v),
            _ => None,
        })
    }

    /// An array of strings; `None` when the key is missing.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`] when it is something else.
    pub fn get_string_array(&self, key: &str) -> Result<Option<&Strings>, Error> {
        self.typed(key, "array of string", |value| match value {
            Value::Array(Array::String(v)) => Some(v),
            _ => None,
        })
    }

    /// An array of `f32`; `None` when the key is missing.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`] when it is something else.
    pub fn get_f32_array(&self, key: &str) -> Result<Option<&[f32]>, Error> {
        self.typed(key, "array of f32", |value| match value {
            Value::Array(Array::F32(v)) => Some(v.as_slice()),
            _ => None,
        })
    }

    /// An array of `i32`; `None` when the key is missing.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`] when it is something else.
    pub fn get_i32_array(&self, key: &str) -> Result<Option<&[i32]>, Error> {
        self.typed(key, "array of i32", |value| match value {
            Value::Array(Array::I32(v)) => Some(v.as_slice()),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        cast: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match cast(value) {
            Some(value) => Ok(Some(value)),
            None => {
                let found = match value.as_u64() {
                    Some(number) => alloc::format!("{} {number}", value.type_name()),
                    None => value.type_name(),
                };
                Err(error!(
                    ErrorKind::WrongType,
                    "wanted {wanted}, found {found}; the file was written for another reader, or its writer is at fault"
                )
                .about(key))
            }
        }
    }

    /// A tensor by its name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Where a tensor's bytes lie in the whole file. For the tensors of this header the
    /// range lies within the `file_len` that was given to [`Gguf::parse`].
    pub fn tensor_range(&self, tensor: &TensorInfo) -> Range<usize> {
        let start = self.data_start.saturating_add(tensor.offset);
        let end = start.saturating_add(tensor.bytes);
        // `parse` has refused files that `usize` cannot address.
        let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        index(start)..index(end)
    }

    /// A tensor's bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] when `file` is shorter than the file that was parsed.
    pub fn tensor_data<'f>(&self, tensor: &TensorInfo, file: &'f [u8]) -> Result<&'f [u8], Error> {
        file.get(self.tensor_range(tensor)).ok_or_else(|| {
            error!(
                ErrorKind::Truncated,
                "its {} bytes reach past the {} bytes at hand; pass the whole file",
                tensor.bytes,
                file.len()
            )
            .about(&tensor.name)
            .at(self.data_start.saturating_add(tensor.offset))
        })
    }
}
