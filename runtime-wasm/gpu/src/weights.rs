//! The tensors of a GGUF file in GPU memory, byte for byte.

use std::collections::HashMap;

use meetara_format::{GgmlType, Gguf};

use crate::blocks;
use crate::device::Gpu;
use crate::reason::Reason;

/// A matrix (n_out, n_in), or a vector (n_in) with `n_out` 1.
#[derive(Debug)]
pub(crate) struct Tensor {
    pub buffer: wgpu::Buffer,
    pub ty: GgmlType,
    pub n_in: u32,
    pub n_out: u32,
    pub row_bytes: u32,
}

/// The tensors of one file by name.
#[derive(Debug)]
pub struct Weights {
    tensors: HashMap<String, Tensor>,
    /// Of all buffers together.
    pub(crate) bytes: u64,
}

impl Weights {
    /// Copies every tensor of `file`, the bytes of a GGUF file as they were read. An engine that was
    /// given the bytes may lay them out anew, so upload first.
    ///
    /// # Errors
    /// [`Reason::Unsupported`] names the tensor that is too large or of a type without kernels.
    pub fn upload(gpu: &Gpu, file: &[u8]) -> Result<Self, Reason> {
        let bad = |error: meetara_format::Error| Reason::unsupported(error.to_string());
        let gguf = Gguf::parse(file, file.len() as u64).map_err(bad)?;
        let limits = gpu.device.limits();
        let bytes_max = limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size)
            .min(u64::from(u32::MAX));
        let mut tensors = HashMap::new();
        for info in &gguf.tensors {
            let name = &info.name;
            let data = gguf.tensor_data(info, file).map_err(bad)?;
            if blocks::source(info.ty).is_none() {
                return Err(Reason::unsupported(format!(
                    "tensor {name} has type {}, for which there is no kernel",
                    info.ty
                )));
            }
            let n_in = u32::try_from(info.dims[0]).ok();
            let n_out = u32::try_from(info.dims[1..].iter().product::<u64>()).ok();
            let row_bytes = n_in
                .and_then(|n| info.ty.row_bytes(n as usize))
                .and_then(|n| u32::try_from(n).ok());
            let (Some(n_in), Some(n_out), Some(row_bytes), true) =
                (n_in, n_out, row_bytes, data.len() as u64 + 4 <= bytes_max)
            else {
                return Err(Reason::unsupported(format!(
                    "tensor {name} takes {} bytes, the device allows {bytes_max} in one buffer",
                    data.len()
                )));
            };
            let tensor = Tensor {
                buffer: upload(gpu, name, data),
                ty: info.ty,
                n_in,
                n_out,
                row_bytes,
            };
            tensors.insert(name.clone(), tensor);
        }
        gpu.check()?;
        let bytes = tensors.values().map(|t: &Tensor| t.buffer.size()).sum();
        Ok(Self { tensors, bytes })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The tensor `name`, which must have this shape.
    pub(crate) fn matrix(&self, name: &str, n_in: usize, n_out: usize) -> Result<&Tensor, Reason> {
        match self.get(name) {
            Some(tensor) if (tensor.n_in as usize, tensor.n_out as usize) == (n_in, n_out) => {
                Ok(tensor)
            }
            _ => Err(Reason::unsupported(format!(
                "the file has no tensor {name} of shape [{n_in}, {n_out}]"
            ))),
        }
    }

    /// Every type that a matrix of the file has.
    pub(crate) fn types(&self) -> impl Iterator<Item = GgmlType> {
        self.tensors.values().map(|tensor| tensor.ty)
    }
}

/// A buffer of whole words: what does not fill the last one is padded with 0.
fn upload(gpu: &Gpu, name: &str, data: &[u8]) -> wgpu::Buffer {
    let (words, rest) = data.as_chunks::<4>();
    let whole = 4 * words.len();
    let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(name),
        size: (data.len().next_multiple_of(4)).max(4) as u64,
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    gpu.queue.write_buffer(&buffer, 0, &data[..whole]);
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        gpu.queue.write_buffer(&buffer, whole as u64, &last);
    }
    buffer
}
