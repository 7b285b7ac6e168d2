//! Encoders from a Hugging Face folder to a GGUF file, as llama.cpp's architecture `bert` has it.
//!
//! | file | subject |
//! |---|---|
//! | `weights` | tensors of `model.safetensors` or `pytorch_model.bin`, as `f32` |
//! | `bert` | `config.json`, and what each tensor is called |
//! | `vocabulary` | WordPiece and byte-level BPE as metadata |

mod bert;
mod vocabulary;
mod weights;

use std::path::Path;

use anyhow::{Context, Result, bail};
use meetara_format::mix::{ArchInfo, FileType};
use meetara_format::{Array, Value, Writer};
use serde::de::DeserializeOwned;

use crate::gguf::quantise;
use bert::{Body, Config};
use vocabulary::Vocabulary;

/// The bytes of a GGUF file of the encoder in `folder`.
///
/// # Errors
/// Names the file and the setting or tensor that is missing, damaged or not supported.
pub fn encoder(folder: &Path, kind: FileType) -> Result<Vec<u8>> {
    let config: Config = read_json(&folder.join("config.json"))?.with_context(|| {
        format!(
            "{} has no config.json; it must be a model folder as Hugging Face's libraries save it",
            folder.display()
        )
    })?;
    let body = config.body()?;
    let weights = weights::read(folder)?;
    let (tensors, labels) = bert::tensors(&config, body, weights)?;
    let vocabulary = match body {
        Body::Bert => Vocabulary::wordpiece(folder, config.vocab_size)?,
        Body::Roberta => Vocabulary::byte_bpe(folder, config.vocab_size)?,
    };

    let mut writer = Writer::new("bert");
    let name = folder.canonicalize().ok();
    let name = name.as_deref().and_then(Path::file_name);
    let name = name.map_or_else(|| "encoder".into(), |name| name.to_string_lossy());
    writer.set("general.type", "model");
    writer.set("general.name", &*name);
    for (key, value) in [
        ("context_length", config.positions(body)?),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("block_count", config.num_hidden_layers),
        ("attention.head_count", config.num_attention_heads),
        ("pooling_type", pooling(folder)?),
    ] {
        writer.set(&format!("bert.{key}"), value);
    }
    writer.set("bert.attention.layer_norm_epsilon", config.layer_norm_eps);
    writer.set("bert.attention.causal", false);
    writer.set("tokenizer.ggml.token_type_count", config.type_vocab_size);
    vocabulary.write(&mut writer);
    if let Some(labels) = labels {
        let activation = config.activation(labels.len())?;
        writer.set("meetara.head.classifier.activation", activation);
        writer.set(
            "bert.classifier.output_labels",
            Value::Array(Array::String(labels.into())),
        );
    }
    let arch = ArchInfo {
        n_layer: config.num_hidden_layers,
        tied_embeddings: true,
    };
    quantise::write(writer, kind, &arch, &tensors)
}

/// llama.cpp's number of how rows become an embedding: 1, the mean, unless the folder is one of
/// sentence-transformers that says otherwise.
fn pooling(folder: &Path) -> Result<u32> {
    #[derive(serde::Deserialize)]
    struct Module {
        #[serde(rename = "type")]
        kind: String,
    }
    #[derive(serde::Deserialize)]
    struct Pooling {
        #[serde(default)]
        pooling_mode_cls_token: bool,
        #[serde(default)]
        pooling_mode_mean_tokens: bool,
    }
    let modules: Vec<Module> = read_json(&folder.join("modules.json"))?.unwrap_or_default();
    for module in &modules {
        let kind = module.kind.rsplit('.').next().unwrap_or_default();
        if !["Transformer", "Pooling", "Normalize"].contains(&kind) {
            bail!(
                "modules.json has a module {kind:?} after the encoder; only Pooling and Normalize are supported"
            );
        }
    }
    let Some(pooling) = read_json::<Pooling>(&folder.join("1_Pooling/config.json"))? else {
        return Ok(1);
    };
    match (
        pooling.pooling_mode_mean_tokens,
        pooling.pooling_mode_cls_token,
    ) {
        (true, false) => Ok(1),
        (false, true) => Ok(2),
        _ => bail!(
            "1_Pooling/config.json asks for neither the mean nor the first token alone; other ways are not supported"
        ),
    }
}

/// What a JSON file holds; `None` when there is no such file.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value = serde_json::from_slice(&text);
    value
        .map(Some)
        .with_context(|| format!("{} is not as expected", path.display()))
}
