//! A GGUF model file as a trainable model.

use anyhow::{Context, Result, ensure};
use burn::module::Param;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use meetara_engine::model::Model;
use meetara_format::Gguf;

use crate::kernels::block::LINEARS;
use crate::model::{Block, Llama, ModelSpec};

/// The shape of a model that the engine has loaded.
///
/// # Errors
/// When the model has a part that the trainer does not: an output matrix of its own, biases, scaled
/// positions, or heads whose width is not `C / H`.
pub fn spec(model: &Model) -> Result<ModelSpec> {
    let c = model.config();
    ensure!(
        c.architecture == "llama",
        "this base is a {} model; only llama models can be trained",
        c.architecture
    );
    ensure!(
        model.gguf().tensor("output.weight").is_none(),
        "this base has an output matrix of its own; only models with tied embeddings can be trained"
    );
    ensure!(
        c.head_dim * c.n_head == c.n_embd,
        "this base has heads of width {}, not {} / {}; it cannot be trained here",
        c.head_dim,
        c.n_embd,
        c.n_head
    );
    ensure!(
        c.rope.scale == 1.0 && c.rope.yarn.is_none() && c.rope.attn_factor == 1.0,
        "this base scales its positions; it cannot be trained here"
    );
    if let Some(extra) = model
        .gguf()
        .tensors
        .iter()
        .find(|t| t.name.ends_with(".bias") || t.name == "rope_freqs.weight")
    {
        anyhow::bail!(
            "this base has {}, which the trainer does not know",
            extra.name
        );
    }
    let spec = ModelSpec {
        embedding_length: c.n_embd,
        block_count: c.n_layer,
        head_count: c.n_head,
        head_count_kv: c.n_head_kv,
        feed_forward_length: c.n_ff,
        vocab_size: c.n_vocab,
        context_length: c.context_len,
        rope_freq_base: f64::from(c.rope.freq_base),
        rms_eps: c.rms_eps,
    };
    spec.validate()?;
    Ok(spec)
}

/// The weights of `file`, dequantised, with the shape that [`spec`] gave.
pub fn llama<B: Backend>(spec: &ModelSpec, file: &[u8], device: &B::Device) -> Result<Llama<B>> {
    // The header that the engine keeps heads its own copy of the data, not the file.
    let gguf = Gguf::parse(file, file.len() as u64)?;
    let read = |name: &str| -> Result<Vec<f32>> {
        let tensor = gguf
            .tensor(name)
            .with_context(|| format!("the base has no tensor {name}"))?;
        let count = usize::try_from(tensor.elements())?;
        Ok(meetara_format::dequantize(
            tensor.ty,
            gguf.tensor_data(tensor, file)?,
            count,
        )?)
    };
    let matrix = |name: &str, rows: usize, columns: usize| -> Result<Param<Tensor<B, 2>>> {
        let values = read(name)?;
        ensure!(
            values.len() == rows * columns,
            "{name} does not have {rows} rows of {columns}"
        );
        Ok(Param::from_tensor(Tensor::from_data(
            TensorData::new(values, [rows, columns]),
            device,
        )))
    };
    let vector = |name: &str| -> Result<Param<Tensor<B, 1>>> {
        let values = read(name)?;
        ensure!(
            values.len() == spec.embedding_length,
            "{name} does not have {} values",
            spec.embedding_length
        );
        Ok(Param::from_tensor(Tensor::from_data(
            TensorData::new(values, [spec.embedding_length]),
            device,
        )))
    };
    let shapes = spec.block_spec(0).linear_shapes();
    let blocks = (0..spec.block_count)
        .map(|i| {
            Ok(Block {
                attn_norm: vector(&format!("blk.{i}.attn_norm.weight"))?,
                ffn_norm: vector(&format!("blk.{i}.ffn_norm.weight"))?,
                linears: LINEARS
                    .iter()
                    .zip(shapes)
                    .map(|(name, (out, inputs))| {
                        matrix(&format!("blk.{i}.{name}.weight"), out, inputs)
                    })
                    .collect::<Result<_>>()?,
            })
        })
        .collect::<Result<_>>()?;
    Ok(Llama {
        embed: matrix("token_embd.weight", spec.vocab_size, spec.embedding_length)?,
        blocks,
        output_norm: vector("output_norm.weight")?,
    })
}
