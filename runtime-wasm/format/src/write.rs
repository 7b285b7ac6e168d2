//! The writer: metadata and tensors in, the bytes of a GGUF file out.

use crate::error::{Error, ErrorKind, error};
use crate::ggml_type::GgmlType;
use crate::gguf::{Gguf, TensorInfo};
use crate::rules::{MAGIC, alignment, entry, limits, overflow, pad, tensor_bytes, unique};
use crate::value::{Array, Value};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// The version that [`Writer::new`] writes.
const VERSION: u32 = 3;

/// Collects metadata and tensors; [`Writer::finish`] lays them out. Order is kept. Data can
/// be owned or borrowed.
#[derive(Debug, Clone)]
pub struct Writer<'d> {
    version: u32,
    metadata: Vec<(String, Value)>,
    tensors: Vec<Pending<'d>>,
    /// Whether the last section ends on a multiple of the alignment. Readers in the field
    /// expect it; a file that was read without it is written without it.
    pad_end: bool,
}

#[derive(Debug, Clone)]
struct Pending<'d> {
    name: String,
    dims: [u64; 4],
    n_dims: u8,
    ty: GgmlType,
    data: Cow<'d, [u8]>,
}

impl<'d> Writer<'d> {
    /// A file for `architecture`, as in `llama`, with no other metadata and no tensor.
    pub fn new(architecture: &str) -> Self {
        let mut writer = Self {
            version: VERSION,
            metadata: Vec::new(),
            tensors: Vec::new(),
            pad_end: true,
        };
        writer.set("general.architecture", architecture);
        writer
    }

    /// Everything of a file that was read: writing it again gives the same bytes, up to the
    /// end of the last tensor's padding. `file` is the whole file that `gguf` came from; its
    /// data is borrowed.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] when `file` is shorter than `gguf` says.
    pub fn from_gguf(gguf: &Gguf, file: &'d [u8]) -> Result<Self, Error> {
        let mut tensors = Vec::with_capacity(gguf.tensors.len());
        let mut end = gguf.data_start;
        for tensor in &gguf.tensors {
            let data = gguf.tensor_data(tensor, file)?;
            let TensorInfo {
                name,
                dims,
                n_dims,
                ty,
                ..
            } = tensor.clone();
            tensors.push(Pending {
                name,
                dims,
                n_dims,
                ty,
                data: Cow::Borrowed(data),
            });
            end = gguf.tensor_range(tensor).end as u64;
        }
        let padded = pad(end, gguf.alignment).ok_or_else(|| overflow(end))?;
        Ok(Self {
            version: gguf.version,
            metadata: gguf.metadata.clone(),
            tensors,
            pad_end: file.len() as u64 >= padded,
        })
    }

    /// Sets a metadata value; a key that is there keeps its place.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        let value = value.into();
        match self.metadata.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.metadata.push((String::from(key), value)),
        }
        self
    }

    /// The value set for a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// Takes a key out; says whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let before = self.metadata.len();
        self.metadata.retain(|(name, _)| name != key);
        self.metadata.len() < before
    }

    /// Adds a tensor. `dims[0]` is the contiguous dimension; `data` holds the blocks of all
    /// rows, row after row.
    ///
    /// # Errors
    /// When the name is empty or over 63 bytes, there are not 1 to 4 dimensions, a row is no
    /// whole number of blocks, or `data` has not the length that shape and type call for.
    pub fn add_tensor(
        &mut self,
        name: &str,
        dims: &[u64],
        ty: GgmlType,
        data: impl Into<Cow<'d, [u8]>>,
    ) -> Result<&mut Self, Error> {
        let data = data.into();
        if name.is_empty() || name.len() as u64 > limits::NAME_BYTES_MAX {
            return Err(error!(
                ErrorKind::InvalidArgument,
                "a tensor name must have 1 to {} bytes, this has {}",
                limits::NAME_BYTES_MAX,
                name.len()
            )
            .about(name));
        }
        if dims.is_empty() || dims.len() > limits::DIMS_MAX {
            return Err(error!(
                ErrorKind::InvalidArgument,
                "a tensor must have 1 to {} dimensions, this has {}",
                limits::DIMS_MAX,
                dims.len()
            )
            .about(name));
        }
        let mut shape = [1; limits::DIMS_MAX];
        for (place, &dim) in shape.iter_mut().zip(dims) {
            *place = dim;
        }
        let bytes = tensor_bytes(&shape, ty).map_err(|cause| cause.about(name))?;
        if bytes != data.len() as u64 {
            return Err(error!(
                ErrorKind::InvalidArgument,
                "{} bytes of data were given, {ty} {dims:?} takes {bytes}",
                data.len()
            )
            .about(name));
        }
        self.tensors.push(Pending {
            name: String::from(name),
            dims: shape,
            n_dims: dims.len() as u8,
            ty,
            data,
        });
        Ok(self)
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// When a key or a string is over the format's limits, a name is there twice,
    /// `general.alignment` is no power of two, or memory runs out.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        let alignment = self.check()?;
        let data_bytes = self.tensors.iter().try_fold(0u64, |sum, tensor| {
            pad(tensor.data.len() as u64, alignment).and_then(|bytes| bytes.checked_add(sum))
        });
        let data_bytes = data_bytes.ok_or_else(|| overflow(0))?;

        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_string(&mut out, key);
            out.extend_from_slice(&value.value_type().id().to_le_bytes());
            put_value(&mut out, value);
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            put_string(&mut out, &tensor.name);
            out.extend_from_slice(&u32::from(tensor.n_dims).to_le_bytes());
            for dim in tensor.dims.iter().take(usize::from(tensor.n_dims)) {
                out.extend_from_slice(&dim.to_le_bytes());
            }
            out.extend_from_slice(&tensor.ty.id().to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
            // Cannot overflow: data_bytes is the last of these sums.
            offset += (tensor.data.len() as u64).next_multiple_of(alignment);
        }

        let room = data_bytes.saturating_add(alignment);
        usize::try_from(room)
            .ok()
            .and_then(|room| out.try_reserve_exact(room).ok())
            .ok_or_else(|| {
                error!(
                    ErrorKind::OutOfMemory,
                    "no memory for a file with {data_bytes} bytes of tensors"
                )
            })?;
        // Zeros go before each tensor; whether they follow the last is `pad_end`'s to say.
        for tensor in &self.tensors {
            put_padding(&mut out, alignment);
            out.extend_from_slice(&tensor.data);
        }
        if self.pad_end {
            put_padding(&mut out, alignment);
        }
        Ok(out)
    }

    /// Checks what [`Writer::set`] let through; gives the alignment.
    fn check(&self) -> Result<u64, Error> {
        unique(self.tensors.iter().map(|t| t.name.as_str()), "tensor name")?;
        for (key, value) in &self.metadata {
            entry(key, value)?;
        }
        alignment(&self.metadata)
    }
}

fn put_padding(out: &mut Vec<u8>, alignment: u64) {
    let target = (out.len() as u64).next_multiple_of(alignment);
    // `finish` has reserved this much, so it fits usize.
    out.resize(target as usize, 0);
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => out.push(*v),
        Value::I8(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::String(v) => put_string(out, v),
        Value::Array(array) => put_array(out, array),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    out.extend_from_slice(&array.element_type().id().to_le_bytes());
    out.extend_from_slice(&(array.len() as u64).to_le_bytes());
    match array {
        Array::U8(v) => out.extend_from_slice(v),
        Array::I8(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
        Array::U16(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
        Array::I16(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
        Array::U32(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
        Array::I32(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
        Array::F32(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
        Array::U64(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
        Array::I64(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
        Array::F64(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
        Array::Bool(v) => out.extend(v.iter().map(|&b| u8::from(b))),
        Array::String(v) => v.iter().for_each(|text| put_string(out, text)),
    }
}
