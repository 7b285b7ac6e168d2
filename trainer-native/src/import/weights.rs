//! The tensors of a folder, whatever file they are in, as `f32`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn_store::pytorch::PytorchReader;
use meetara_format::GgmlType;
use safetensors::{Dtype, SafeTensors};

/// Shape, outermost first, and values.
pub type Weight = (Vec<usize>, Vec<f32>);
/// By name.
pub type Weights = BTreeMap<String, Weight>;

/// Reads `model.safetensors`, or else `pytorch_model.bin`.
pub fn read(folder: &Path) -> Result<Weights> {
    let safetensors = folder.join("model.safetensors");
    let pytorch = folder.join("pytorch_model.bin");
    if safetensors.is_file() {
        read_safetensors(&safetensors).with_context(|| safetensors.display().to_string())
    } else if pytorch.is_file() {
        read_pytorch(&pytorch).with_context(|| pytorch.display().to_string())
    } else if folder.join("model.safetensors.index.json").is_file() {
        bail!(
            "{} holds its weights in several files; save them as one (save_pretrained with a max_shard_size above their size)",
            folder.display()
        )
    } else {
        bail!(
            "{} has neither model.safetensors nor pytorch_model.bin",
            folder.display()
        )
    }
}

fn read_safetensors(path: &Path) -> Result<Weights> {
    let file = std::fs::read(path)?;
    let tensors = SafeTensors::deserialize(&file).context("this is no sound safetensors file")?;
    let weights = tensors.iter().map(|(name, view)| {
        let ty = match view.dtype() {
            Dtype::F32 => GgmlType::F32,
            Dtype::F16 => GgmlType::F16,
            Dtype::BF16 => GgmlType::BF16,
            // Position ids and the like, which nothing takes.
            Dtype::I64 | Dtype::I32 | Dtype::BOOL => {
                return Ok((name.to_owned(), (Vec::new(), Vec::new())));
            }
            other => bail!("tensor {name} has type {other:?}; F32, F16 and BF16 are supported"),
        };
        let count = view.shape().iter().product();
        let values = meetara_format::dequantize(ty, view.data(), count)?;
        Ok((name.to_owned(), (view.shape().to_vec(), values)))
    });
    weights.collect()
}

fn read_pytorch(path: &Path) -> Result<Weights> {
    let reader = PytorchReader::new(path).map_err(|error| {
        anyhow::anyhow!(
            "this is no PyTorch file that can be read ({error}); save the model as safetensors"
        )
    })?;
    let mut weights = Weights::new();
    for (name, snapshot) in reader.into_tensors() {
        let data = snapshot
            .to_data()
            .map_err(|error| anyhow::anyhow!("tensor {name}: {error:?}"))?;
        if !data.dtype.is_float() {
            weights.insert(name, (Vec::new(), Vec::new()));
            continue;
        }
        let shape: Vec<usize> = data.shape.iter().copied().collect();
        let values = data.convert::<f32>().to_vec::<f32>();
        let values = values.map_err(|error| anyhow::anyhow!("tensor {name}: {error:?}"))?;
        ensure!(
            values.len() == shape.iter().product::<usize>(),
            "tensor {name} has {} values for its shape {shape:?}",
            values.len()
        );
        weights.insert(name, (shape, values));
    }
    Ok(weights)
}
