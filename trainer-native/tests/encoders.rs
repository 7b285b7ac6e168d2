//! Imported encoders against what Hugging Face's transformers says about them
//! (`tests/vectors/encoders/make.py`), and what the importer says of what it cannot take.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use meetara_engine::encoder::{Activation, Encoder};
use meetara_format::Gguf;
use meetara_format::mix::FileType;
use meetara_train::import;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    labels: Vec<String>,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
    tokens_cut: usize,
    logits: Vec<f32>,
    probabilities: Vec<f32>,
    embedding: Vec<f32>,
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/encoders")
}

fn expected() -> BTreeMap<String, Expected> {
    let text = std::fs::read_to_string(vectors().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// The ids that were read: all, or as many as there is room for with the last marker.
fn ids_read(encoder: &Encoder, text: &str) -> Vec<u32> {
    let mut ids = encoder.tokenize(text).unwrap();
    if ids.len() > encoder.tokens_max() {
        let last = *ids.last().unwrap();
        ids.truncate(encoder.tokens_max() - 1);
        ids.push(last);
    }
    ids
}

#[test]
fn imported_encoders_say_what_transformers_says() {
    let all = expected();
    assert_eq!(all.len(), 3);
    for (name, expected) in &all {
        let bytes = import::encoder(&vectors().join(name), FileType::F32).unwrap();
        let encoder = Encoder::load(bytes).unwrap();
        let head = &encoder.heads()[0];
        assert_eq!(head.labels, expected.labels, "{name}");
        let multi = name == "bert";
        let activation = if multi {
            Activation::Sigmoid
        } else {
            Activation::Softmax
        };
        assert_eq!(head.activation, activation, "{name}");
        assert_eq!(expected.texts.len(), 9);
        for wanted in &expected.texts {
            let what = format!("{name}: {:?}", wanted.text);
            assert_eq!(ids_read(&encoder, &wanted.text), wanted.ids, "{what}");
            let reading = encoder.encode(&wanted.text).unwrap();
            assert_eq!(reading.tokens, wanted.ids.len(), "{what}");
            assert_eq!(reading.tokens_cut, wanted.tokens_cut, "{what}");
            let found = &reading.heads[0];
            // F32 against F32, and an erf of our own: rounding is all that differs.
            assert!(distance(&found.logits, &wanted.logits) < 2e-5, "{what}");
            assert!(
                distance(&found.probabilities, &wanted.probabilities) < 1e-5,
                "{what}"
            );
            assert!(
                distance(&reading.embedding, &wanted.embedding) < 1e-5,
                "{what}"
            );
            assert!(cosine(&found.logits, &wanted.logits) > 0.999_999, "{what}");
            assert!(
                cosine(&reading.embedding, &wanted.embedding) > 0.999_999,
                "{what}"
            );
        }
    }
}

/// Random networks magnify rounding, so quantised ones are held to a looser bound than MiniLM is.
#[test]
fn quantised_imports_stay_near() {
    for (name, expected) in &expected() {
        for (kind, cosine_min) in [
            (FileType::F16, 0.999_99),
            (FileType::Q8_0, 0.999),
            (FileType::Q5_1, 0.98),
            (FileType::Q4_1, 0.95),
        ] {
            let bytes = import::encoder(&vectors().join(name), kind).unwrap();
            let encoder = Encoder::load(bytes).unwrap();
            for wanted in &expected.texts {
                let reading = encoder.encode(&wanted.text).unwrap();
                let found = cosine(&reading.embedding, &wanted.embedding);
                assert!(
                    found > cosine_min,
                    "{name} {kind} {:?}: {found}",
                    wanted.text
                );
            }
        }
    }
}

/// all-MiniLM-L6-v2 (Apache-2.0), which others trained. Its files are not kept in the repository: they
/// are looked for at `MEETARA_MINILM`, then in `target/models/`; `cargo xtask models minilm` puts them there.
#[test]
fn minilm_embeds_as_it_does_in_transformers() {
    let folder = std::env::var_os("MEETARA_MINILM").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/models/all-MiniLM-L6-v2"),
        PathBuf::from,
    );
    if !folder.is_dir() {
        eprintln!(
            "SKIPPED: {} is not there; cargo xtask models minilm fetches it",
            folder.display()
        );
        return;
    }
    #[derive(Deserialize)]
    struct Wanted {
        text: String,
        ids: Vec<u32>,
        embedding: Vec<f32>,
    }
    let text = std::fs::read_to_string(vectors().join("minilm.json")).unwrap();
    let wanted: Vec<Wanted> = serde_json::from_str(&text).unwrap();
    assert!(wanted.len() > 10);
    for (kind, cosine_min) in [
        (FileType::F32, 0.999_999),
        (FileType::F16, 0.999_99),
        (FileType::Q8_0, 0.999),
        // The least of them for a word of 99 equal letters; sentences lie above 0.96.
        (FileType::Q4_1, 0.93),
    ] {
        let bytes = import::encoder(&folder, kind).unwrap();
        let size = bytes.len();
        let encoder = Encoder::load(bytes).unwrap();
        let mut worst: f64 = 1.0;
        for wanted in &wanted {
            assert_eq!(
                ids_read(&encoder, &wanted.text),
                wanted.ids,
                "{:?}",
                wanted.text
            );
            let reading = encoder.encode(&wanted.text).unwrap();
            let found = cosine(&reading.embedding, &wanted.embedding);
            assert!(found > cosine_min, "{kind} {:?}: {found}", wanted.text);
            worst = worst.min(found);
        }
        println!("{kind}: {size} bytes, cosine at least {worst:.7}");
    }
}

/// A copy of one of the folders, which is removed at the end.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str, case: usize) -> Self {
        let id = std::process::id();
        let path = std::env::temp_dir().join(format!("meetara-import-{name}-{id}-{case}"));
        std::fs::create_dir_all(&path).unwrap();
        for file in std::fs::read_dir(vectors().join(name)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), path.join(file.file_name())).unwrap();
        }
        Self(path)
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.0.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    fn remove(&self, file: &str) {
        std::fs::remove_file(self.0.join(file)).unwrap();
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_cannot_be_imported_is_an_error_that_says_why() {
    type Spoil = fn(&Copy);
    let cases: [(&str, &str, Spoil); 18] = [
        ("bert", "config.json", |c| c.remove("config.json")),
        ("bert", "distilbert", |c| {
            c.edit(
                "config.json",
                "\"model_type\": \"bert\"",
                "\"model_type\": \"distilbert\"",
            )
        }),
        ("bert", "hidden_act", |c| {
            c.edit("config.json", "\"gelu\"", "\"relu\"")
        }),
        ("bert", "is_decoder", |c| {
            c.edit(
                "config.json",
                "\"is_decoder\": false",
                "\"is_decoder\": true",
            )
        }),
        ("bert", "position_embedding_type", |c| {
            c.edit(
                "config.json",
                "{",
                "{\"position_embedding_type\": \"relative_key\",",
            )
        }),
        ("bert", "ForTokenClassification", |c| {
            c.edit(
                "config.json",
                "BertForSequenceClassification",
                "BertForTokenClassification",
            )
        }),
        ("bert", "vocab_size", |c| {
            c.edit("config.json", "\"vocab_size\": ", "\"vocab_size\": 9")
        }),
        ("bert", "id2label", |c| {
            c.edit("config.json", "\"0\": \"joy\"", "\"7\": \"joy\"")
        }),
        ("bert", "problem_type", |c| {
            c.edit("config.json", "multi_label_classification", "regression")
        }),
        ("bert", "model.safetensors", |c| {
            c.remove("model.safetensors")
        }),
        ("bert", "sound safetensors", |c| {
            let path = c.0.join("model.safetensors");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("roberta", "PyTorch", |c| {
            let path = c.0.join("pytorch_model.bin");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("bert", "vocab.txt", |c| c.remove("vocab.txt")),
        ("bert", "[SEP]", |c| c.edit("vocab.txt", "[SEP]", "[SIP]")),
        ("roberta", "merges.txt", |c| c.remove("merges.txt")),
        ("distilroberta", "add_prefix_space", |c| {
            c.edit(
                "tokenizer.json",
                "\"add_prefix_space\": false",
                "\"add_prefix_space\": true",
            )
        }),
        ("distilroberta", "Unigram", |c| {
            c.edit(
                "tokenizer.json",
                "\"type\": \"BPE\"",
                "\"type\": \"Unigram\"",
            )
        }),
        ("bert", "Dense", |c| {
            let text = r#"[{"type": "sentence_transformers.models.Dense"}]"#;
            std::fs::write(c.0.join("modules.json"), text).unwrap();
        }),
    ];
    for (case, (name, named, spoil)) in cases.into_iter().enumerate() {
        let copy = Copy::new(name, case);
        spoil(&copy);
        let error = import::encoder(&copy.0, FileType::F32).expect_err(named);
        let message = format!("{error:#}");
        assert!(message.contains(named), "{named}: {message}");
    }
}

#[test]
fn a_sentence_transformers_folder_says_how_rows_become_an_embedding() {
    let copy = Copy::new("bert", 99);
    let pooling = |mean: bool, cls: bool| {
        std::fs::create_dir_all(copy.0.join("1_Pooling")).unwrap();
        let text =
            format!(r#"{{"pooling_mode_mean_tokens": {mean}, "pooling_mode_cls_token": {cls}}}"#);
        std::fs::write(copy.0.join("1_Pooling/config.json"), text).unwrap();
        let bytes = import::encoder(&copy.0, FileType::F32)?;
        let gguf = Gguf::parse(&bytes, bytes.len() as u64)?;
        anyhow::Ok(gguf.get_u32("bert.pooling_type")?)
    };
    assert_eq!(pooling(true, false).unwrap(), Some(1));
    assert_eq!(pooling(false, true).unwrap(), Some(2));
    assert!(
        pooling(false, false)
            .unwrap_err()
            .to_string()
            .contains("1_Pooling")
    );
}
