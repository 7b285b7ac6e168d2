//! What the architectures have in common besides llama.cpp's judgement: every set of kernels gives the same bits, a
//! file is read in slices or token by token alike, and what the engine does not run it refuses by name.

mod support;

use std::sync::Arc;

use meetara_engine::ErrorKind;
use meetara_engine::generate::Session;
use meetara_engine::kernels::Kernels;
use meetara_engine::model::Model;
use meetara_format::mix::FileType;
use meetara_format::{GgmlType, Gguf, Value, Writer};
use support::tiny::Spec;

fn logits(file: &[u8], kernels: Kernels) -> Vec<u32> {
    let model = Arc::new(Model::load_with(file.to_vec(), kernels).unwrap());
    let mut session = Session::new(model, None).unwrap();
    let tokens: Vec<u32> = (0..70).map(|i| (i * 37 + 11) % 512).collect();
    let logits = session.eval_tokens(&tokens).unwrap();
    logits.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn every_set_of_kernels_gives_the_same_bits() {
    for name in [
        "qwen2",
        "qwen3",
        "qwen2-yarn",
        "qwen3-yarn",
        "llama-factors",
    ] {
        let ftypes: &[FileType] = match name {
            "qwen2" | "qwen3" => &[FileType::Q4_K_M, FileType::Q5_0],
            _ => &[FileType::F32],
        };
        for &ftype in ftypes {
            let file = Spec::named(name).gguf(ftype);
            let mut sets = Kernels::available().into_iter();
            let first = sets.next().unwrap();
            let wanted = logits(&file, first);
            for kernels in sets {
                let same = logits(&file, kernels) == wanted;
                assert!(same, "{name}: {} and {}", kernels.name, first.name);
            }
        }
    }
}

/// The error of loading `spec` in F32 after `change`.
fn refusal(spec: &str, change: impl FnOnce(&mut Writer<'_>)) -> String {
    let file = Spec::named(spec).gguf(FileType::F32);
    let gguf = Gguf::parse(&file, file.len() as u64).unwrap();
    let mut writer = Writer::from_gguf(&gguf, &file).unwrap();
    change(&mut writer);
    let error = Model::load(writer.finish().unwrap()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::UnsupportedModel, "{error}");
    error.message().to_owned()
}

#[test]
fn what_is_not_supported_is_named() {
    let set = |key: &'static str, value: &'static str| {
        refusal("qwen2-plain", move |writer| {
            writer.set(key, value);
        })
    };
    let message = set("general.architecture", "gemma3");
    assert!(
        message.contains("\"gemma3\"") && message.contains("\"qwen3\""),
        "{message}"
    );
    let message = set("tokenizer.ggml.pre", "qwen35");
    assert!(message.contains("\"qwen35\""), "{message}");
    let message = set("qwen2.rope.scaling.type", "longrope");
    assert!(
        message.contains("qwen2.rope.scaling.type is \"longrope\""),
        "{message}"
    );
    let message = refusal("qwen2-plain", |writer| {
        writer.set("qwen2.attention.causal", Value::Bool(false));
    });
    assert!(message.contains("qwen2.attention.causal"), "{message}");
    let message = refusal("qwen2-yarn", |writer| {
        writer.set("qwen2.rope.scaling.yarn_ext_factor", Value::F32(0.5));
    });
    assert!(
        message.contains("qwen2.rope.scaling.yarn_ext_factor is 0.5"),
        "{message}"
    );
    // A norm of queries is no part of Qwen 2: leaving it out would be silently wrong.
    let message = refusal("qwen2-plain", |writer| {
        let ones = 1f32.to_le_bytes().repeat(32);
        let name = "blk.0.attn_q_norm.weight";
        writer.add_tensor(name, &[32], GgmlType::F32, ones).unwrap();
    });
    assert!(
        message.contains("attn_q_norm") && message.contains("qwen2"),
        "{message}"
    );
}

#[test]
fn a_type_without_kernels_is_named() {
    let file = Spec::named("qwen3").gguf(FileType::F32);
    let gguf = Gguf::parse(&file, file.len() as u64).unwrap();
    // The type's field of the table lies before the offset, after the name and the dimensions.
    let name = b"blk.0.ffn_up.weight";
    let at = file.windows(name.len()).position(|w| w == name).unwrap();
    let mut file = file.clone();
    file[at + name.len() + 4 + 16] = 10;
    assert!(gguf.tensor("blk.0.ffn_up.weight").is_some());
    let error = Model::load(file).unwrap_err();
    assert_eq!(error.kind, ErrorKind::UnsupportedModel);
    let message = error.message();
    assert!(
        message.contains("Q2_K") && message.contains("blk.0.ffn_up.weight"),
        "{message}"
    );
}

#[test]
fn a_missing_norm_of_queries_is_named() {
    let file = Spec::named("qwen3-bias").gguf(FileType::F32);
    let name = b"blk.1.attn_q_norm.weight";
    let at = file.windows(name.len()).position(|w| w == name).unwrap();
    let mut file = file;
    file[at] = b'x';
    let error = Model::load(file).unwrap_err();
    assert!(
        error.message().contains("blk.1.attn_q_norm.weight"),
        "{error}"
    );
}
