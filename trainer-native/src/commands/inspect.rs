//! `meetara-train inspect`: what a GGUF file holds.

use std::path::PathBuf;

use anyhow::{Context, Result};
use meetara_format::{Array, Gguf, Value};
use serde_json::{Value as Json, json};

use super::read_file;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The file.
    file: PathBuf,
}

/// Longer arrays are shown by their first elements.
const SHOWN: usize = 6;

/// Runs the command.
pub fn run(args: Args, as_json: bool) -> Result<()> {
    let bytes = read_file(&args.file)?;
    let gguf =
        Gguf::parse(&bytes, bytes.len() as u64).with_context(|| args.file.display().to_string())?;
    let weights: u64 = gguf.tensors.iter().map(|tensor| tensor.elements()).sum();
    if as_json {
        let metadata: serde_json::Map<String, Json> = gguf
            .metadata
            .iter()
            .map(|(key, value)| (key.clone(), to_json(value)))
            .collect();
        let tensors: Vec<Json> = gguf
            .tensors
            .iter()
            .map(|t| json!({"name": t.name, "dims": t.shape(), "type": t.ty.name(), "offset": t.offset, "bytes": t.bytes}))
            .collect();
        println!(
            "{}",
            json!({"version": gguf.version, "bytes": bytes.len(), "weights": weights, "metadata": metadata, "tensors": tensors})
        );
        return Ok(());
    }
    println!(
        "{}: GGUF version {}, {} bytes, {weights} weights",
        args.file.display(),
        gguf.version,
        bytes.len()
    );
    for (key, value) in &gguf.metadata {
        println!("  {key} = {}", shorten(&to_json(value)));
    }
    for t in &gguf.tensors {
        println!("  {:<28} {:>6} {:?}", t.name, t.ty.name(), t.shape());
    }
    Ok(())
}

fn shorten(value: &Json) -> String {
    let text = value.to_string();
    match text.char_indices().nth(120) {
        Some((at, _)) => format!("{} ...", &text[..at]),
        None => text,
    }
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::U8(v) => json!(v),
        Value::I8(v) => json!(v),
        Value::U16(v) => json!(v),
        Value::I16(v) => json!(v),
        Value::U32(v) => json!(v),
        Value::I32(v) => json!(v),
        Value::F32(v) => json!(v),
        Value::Bool(v) => json!(v),
        Value::String(v) => json!(v),
        Value::U64(v) => json!(v),
        Value::I64(v) => json!(v),
        Value::F64(v) => json!(v),
        Value::Array(array) => array_to_json(array),
    }
}

fn array_to_json(array: &Array) -> Json {
    fn first<T: serde::Serialize>(values: &[T]) -> Json {
        json!(values[..values.len().min(SHOWN)])
    }
    let shown = match array {
        Array::U8(v) => first(v),
        Array::I8(v) => first(v),
        Array::U16(v) => first(v),
        Array::I16(v) => first(v),
        Array::U32(v) => first(v),
        Array::I32(v) => first(v),
        Array::F32(v) => first(v),
        Array::Bool(v) => first(v),
        Array::String(v) => json!(v.iter().take(SHOWN).collect::<Vec<_>>()),
        Array::U64(v) => first(v),
        Array::I64(v) => first(v),
        Array::F64(v) => first(v),
    };
    json!({"length": array.len(), "first": shown})
}
