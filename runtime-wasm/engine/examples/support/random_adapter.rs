//! A LoRA adapter of random weights, for measurements.

use std::error::Error;

use meetara_engine::conformance::Random;
use meetara_engine::model::Model;
use meetara_format::{GgmlType, Writer, quantize};

/// As the trainer's recipe has it.
const RANK: u64 = 8;

/// The file of an adapter with a pair for every matrix of the layers of `model`.
///
/// # Errors
/// None that a sound model could give.
pub fn random_adapter(model: &Model, seed: u64) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut random = Random::new(seed);
    let mut writer = Writer::new(&model.config().architecture);
    writer.set("general.type", "adapter");
    writer.set("adapter.type", "lora");
    writer.set("adapter.lora.alpha", 16.0_f32);
    let matrices = model.gguf().tensors.iter();
    for weight in matrices.filter(|t| t.shape().len() == 2 && t.name.starts_with("blk.")) {
        let [n_in, n_out, ..] = weight.dims;
        for (suffix, dims) in [("lora_a", [n_in, RANK]), ("lora_b", [RANK, n_out])] {
            let values: Vec<f32> = (0..dims[0] * dims[1])
                .map(|_| 0.02 * random.float())
                .collect();
            let data = quantize(GgmlType::F16, &values, dims[0] as usize, None)?;
            let name = format!("{}.{suffix}", weight.name);
            writer.add_tensor(&name, &dims, GgmlType::F16, data)?;
        }
    }
    Ok(writer.finish()?)
}
