//! A low-rank adapter as a GGUF file that llama.cpp and our runtime load beside a base.

use anyhow::Result;
use burn::tensor::backend::Backend;
use meetara_engine::model::Model;
use meetara_engine::model::adapter::{BASE_KEY, base_hash};
use meetara_format::{GgmlType, Gguf, Writer};

use super::save::matrix;
use crate::kernels::block::LINEARS;
use crate::model::Lora;

/// The adapter over `base`, loaded from `base_file`, in F16. `metadata` adds keys such as the score and the recipe.
///
/// A pair is stored under its base tensor's name: `.lora_a` with dims `[in, r]`, `.lora_b` `[r, out]`.
/// The base is named, and recognised by the runtime in every quantisation of it ([`BASE_KEY`]).
///
/// # Errors
/// When the weights cannot be read back from their device.
pub fn write<B: Backend>(
    lora: &Lora<B>,
    alpha: f32,
    (base, base_file): (&Model, &[u8]),
    metadata: &[(String, meetara_format::Value)],
) -> Result<Vec<u8>> {
    let config = base.config();
    let mut writer = Writer::new(&config.architecture);
    writer.set("general.type", "adapter");
    writer.set("general.base_model.count", 1_u32);
    writer.set("general.base_model.0.name", config.name.as_str());
    writer.set("adapter.type", "lora");
    writer.set("adapter.lora.alpha", alpha);
    // Parsed again: the header that the engine keeps heads its own copy of the data.
    let head = Gguf::parse(base_file, base_file.len() as u64)?;
    writer.set(BASE_KEY, base_hash(&head, base_file)?);
    for (key, value) in metadata {
        writer.set(key, value.clone());
    }
    for (i, block) in lora.blocks.iter().enumerate() {
        for (name, pair) in LINEARS.iter().zip(&block.pairs) {
            for (suffix, factor) in [("lora_a", &pair.a), ("lora_b", &pair.b)] {
                let (name, dims, values) =
                    matrix(&format!("blk.{i}.{name}.weight.{suffix}"), factor.val())?;
                let bytes =
                    meetara_format::quantize(GgmlType::F16, &values, dims[0] as usize, None)?;
                writer.add_tensor(&name, &dims, GgmlType::F16, bytes)?;
            }
        }
    }
    Ok(writer.finish()?)
}
