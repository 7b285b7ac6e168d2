//! A trained model as tensors and metadata of a GGUF file.

use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use meetara_format::{Array, Value, Writer};

use super::NamedTensor;
use crate::kernels::block::LINEARS;
use crate::model::{Llama, ModelSpec};
use crate::tokenizer::{self, BpeVocab};

/// The pocket model's chat template.
pub const CHAT_TEMPLATE: &str = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}\
{% if add_generation_prompt %}<|assistant|>{% endif %}";

/// Every tensor of the model under its GGUF name. Query and key rows need no reordering: the trainer
/// rotates adjacent pairs, as the format does.
pub fn tensors<B: Backend>(model: &Llama<B>) -> Result<Vec<NamedTensor>> {
    let mut all = vec![matrix("token_embd.weight", model.embed.val())?];
    for (i, block) in model.blocks.iter().enumerate() {
        all.push(vector(
            format!("blk.{i}.attn_norm.weight"),
            block.attn_norm.val(),
        )?);
        all.push(vector(
            format!("blk.{i}.ffn_norm.weight"),
            block.ffn_norm.val(),
        )?);
        for (name, weight) in LINEARS.iter().zip(&block.linears) {
            all.push(matrix(&format!("blk.{i}.{name}.weight"), weight.val())?);
        }
    }
    all.push(vector(
        "output_norm.weight".into(),
        model.output_norm.val(),
    )?);
    Ok(all)
}

/// The values of a tensor, row after row.
pub fn values(data: TensorData) -> Result<Vec<f32>> {
    data.to_vec::<f32>()
        .map_err(|error| anyhow::anyhow!("a tensor is not f32: {error:?}"))
}

/// `[out, in]` -> dims `[in, out]`.
pub fn matrix<B: Backend>(name: &str, tensor: Tensor<B, 2>) -> Result<NamedTensor> {
    let [rows, columns] = tensor.dims();
    Ok((
        name.into(),
        vec![columns as u64, rows as u64],
        values(tensor.into_data())?,
    ))
}

/// A vector as it is.
pub fn vector<B: Backend>(name: String, tensor: Tensor<B, 1>) -> Result<NamedTensor> {
    let [len] = tensor.dims();
    Ok((name, vec![len as u64], values(tensor.into_data())?))
}

/// A writer with the model's shape and tokenizer, without tensors.
pub fn header(spec: &ModelSpec, vocab: &BpeVocab, name: &str) -> Writer<'static> {
    let mut w = Writer::new("llama");
    w.set("general.type", "model");
    w.set("general.name", name);
    w.set("llama.context_length", spec.context_length as u32);
    w.set("llama.embedding_length", spec.embedding_length as u32);
    w.set("llama.block_count", spec.block_count as u32);
    w.set("llama.feed_forward_length", spec.feed_forward_length as u32);
    w.set("llama.attention.head_count", spec.head_count as u32);
    w.set("llama.attention.head_count_kv", spec.head_count_kv as u32);
    w.set("llama.attention.layer_norm_rms_epsilon", spec.rms_eps);
    w.set("llama.rope.dimension_count", spec.head_width() as u32);
    w.set("llama.rope.freq_base", spec.rope_freq_base as f32);
    w.set("llama.vocab_size", spec.vocab_size as u32);
    set_tokenizer(&mut w, vocab);
    w
}

fn set_tokenizer(w: &mut Writer, vocab: &BpeVocab) {
    /// llama.cpp's token types.
    const NORMAL: i32 = 1;
    const CONTROL: i32 = 3;
    let types = (0..vocab.len())
        .map(|id| {
            if id < vocab.n_special {
                CONTROL
            } else {
                NORMAL
            }
        })
        .collect();
    w.set("tokenizer.ggml.model", "gpt2");
    w.set("tokenizer.ggml.pre", "smollm");
    w.set(
        "tokenizer.ggml.tokens",
        Value::Array(Array::String(vocab.tokens.iter().collect())),
    );
    w.set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    w.set(
        "tokenizer.ggml.merges",
        Value::Array(Array::String(vocab.merges.iter().collect())),
    );
    w.set("tokenizer.ggml.bos_token_id", tokenizer::END_OF_TEXT);
    w.set("tokenizer.ggml.eos_token_id", tokenizer::END_OF_TEXT);
    w.set("tokenizer.ggml.eot_token_id", tokenizer::END);
    w.set("tokenizer.ggml.padding_token_id", tokenizer::END_OF_TEXT);
    w.set("tokenizer.ggml.add_bos_token", true);
    w.set("tokenizer.ggml.add_eos_token", false);
    w.set("tokenizer.ggml.add_space_prefix", false);
    w.set("tokenizer.chat_template", CHAT_TEMPLATE);
}

/// Writes beside the final name and renames, so that a file cut short never looks whole.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    std::fs::write(partial, bytes)
        .with_context(|| format!("cannot write {}; is the disk full?", partial.display()))?;
    std::fs::rename(partial, path).with_context(|| format!("cannot write {}", path.display()))
}
