//! Tensors into a GGUF file of some kind, and one file into another.

use anyhow::{Context, Result};
use meetara_format::mix::{ArchInfo, FileType, tensor_type};
use meetara_format::{Gguf, Writer};
use rayon::prelude::*;

use super::NamedTensor;

/// Adds the tensors in the types that `kind` gives them, and finishes the file.
pub fn write(
    mut writer: Writer,
    kind: FileType,
    arch: &ArchInfo,
    tensors: &[NamedTensor],
) -> Result<Vec<u8>> {
    writer.set("general.file_type", kind.id());
    if kind.base_type().is_quantized() {
        writer.set("general.quantization_version", 2u32);
    }
    let blocks: Vec<_> = tensors
        .par_iter()
        .map(|(name, dims, values)| {
            let ty = tensor_type(kind, arch, name, dims);
            meetara_format::quantize(ty, values, dims[0] as usize, None)
                .map(|bytes| (ty, bytes))
                .with_context(|| format!("tensor {name}"))
        })
        .collect::<Result<_>>()?;
    for ((name, dims, _), (ty, bytes)) in tensors.iter().zip(blocks) {
        writer.add_tensor(name, dims, ty, bytes)?;
    }
    Ok(writer.finish()?)
}

/// A GGUF model file in another type; metadata is kept.
pub fn convert(file: &[u8], kind: FileType) -> Result<Vec<u8>> {
    let gguf = Gguf::parse(file, file.len() as u64)?;
    let arch = ArchInfo::from_gguf(&gguf)?;
    let mut writer = Writer::new(gguf.get_str("general.architecture")?.unwrap_or_default());
    for (key, value) in &gguf.metadata {
        writer.set(key, value.clone());
    }
    let tensors = gguf
        .tensors
        .par_iter()
        .map(|tensor| {
            let values = meetara_format::dequantize(
                tensor.ty,
                gguf.tensor_data(tensor, file)?,
                usize::try_from(tensor.elements())?,
            )?;
            Ok((tensor.name.clone(), tensor.shape().to_vec(), values))
        })
        .collect::<Result<Vec<_>>>()?;
    write(writer, kind, &arch, &tensors)
}
