//! Encoders: the same bits from every set of kernels, heads, long and empty texts, damaged files.
//!
//! That the numbers are BERT's and RoBERTa's is tested with the importer, against `transformers`
//! (`trainer-native/tests/encoders.rs`).
#![cfg(feature = "encoder")]

#[path = "encoder_support/mod.rs"]
mod support;

use meetara_engine::ErrorKind;
use meetara_engine::encoder::{Encoder, Pooling, TOKENS_MAX};
use meetara_engine::kernels::Kernels;
use meetara_engine::model::Model;
use meetara_format::{Array, GgmlType, Value};
use support::{File, SMALL, Shape};

const TEXT: &str = "I am SO happy today! The cats; the cat. xxxx";

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn every_set_of_kernels_gives_the_same_bits_in_every_type() {
    let wide = Shape {
        n_embd: 256,
        n_ff: 256,
        ..SMALL
    };
    // 96 is no multiple of 256, nor of 64; 12 elements to a head fill no vector.
    let narrow = Shape {
        n_embd: 96,
        n_head: 8,
        n_ff: 160,
        ..SMALL
    };
    let long = "i am happy the cat ".repeat(9);
    for (shape, ty) in [
        (narrow, GgmlType::F32),
        (narrow, GgmlType::F16),
        (narrow, GgmlType::BF16),
        (narrow, GgmlType::Q4_0),
        (narrow, GgmlType::Q4_1),
        (narrow, GgmlType::Q5_0),
        (narrow, GgmlType::Q5_1),
        (narrow, GgmlType::Q8_0),
        (wide, GgmlType::Q4_K),
        (wide, GgmlType::Q5_K),
        (wide, GgmlType::Q6_K),
    ] {
        let bytes = File::new(shape, 1).bytes(|_| ty);
        let read = |kernels: Kernels| {
            let encoder = Encoder::load_with(bytes.clone(), kernels).unwrap();
            ["x", TEXT, &long].map(|text| {
                let reading = encoder.encode(text).unwrap();
                let heads = reading.heads.iter();
                let heads = heads.map(|head| (bits(&head.logits), bits(&head.probabilities)));
                (bits(&reading.embedding), heads.collect::<Vec<_>>())
            })
        };
        let scalar = read(Kernels::scalar());
        for kernels in Kernels::available() {
            assert_eq!(read(kernels), scalar, "{ty} on {}", kernels.name);
        }
    }
}

#[test]
fn heads_read_the_mean_and_are_calibrated_each_in_its_way() {
    let mut file = File::new(SMALL, 2);
    let encoder = Encoder::load(file.f32()).unwrap();
    let names: Vec<&str> = encoder.heads().iter().map(|h| h.name.as_str()).collect();
    assert_eq!(names, ["mood", "probe"]);
    let reading = encoder.encode(TEXT).unwrap();
    let [mood, probe] = &reading.heads[..] else {
        panic!("two heads")
    };
    assert_eq!(mood.head.labels, ["low", "middle", "high"]);
    assert_eq!(mood.head.thresholds, None);
    assert_eq!(probe.head.thresholds.as_ref().unwrap().len(), SMALL.n_embd);

    // The probe's weights are the identity, so its logits are the mean of the rows.
    let mean = &probe.logits;
    let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
    for (x, e) in mean.iter().zip(&reading.embedding) {
        assert!((x / length - e).abs() < 1e-6);
    }
    let weight = file.tensor("head.mood.weight").2.clone();
    let bias = file.tensor("head.mood.bias").2.clone();
    let rows = weight.chunks(SMALL.n_embd).zip(bias);
    let logits: Vec<f32> = rows
        .map(|(row, b)| row.iter().zip(mean).map(|(w, x)| w * x).sum::<f32>() + b)
        .collect();
    let total: f32 = logits.iter().map(|x| (x / 2.0).exp()).sum();
    for (i, logit) in logits.iter().enumerate() {
        assert!((mood.logits[i] - logit).abs() < 1e-5);
        assert!((mood.probabilities[i] - (logit / 2.0).exp() / total).abs() < 1e-6);
    }
    for (p, x) in probe.probabilities.iter().zip(mean) {
        assert!((p - 1.0 / (1.0 + (-x).exp())).abs() < 1e-6);
    }

    // The first row instead of the mean changes the embedding, and nothing else.
    file.set("bert.pooling_type", Some(Value::U32(2)));
    let first = Encoder::load(file.f32()).unwrap();
    assert_eq!(first.config().pooling, Pooling::First);
    let other = first.encode(TEXT).unwrap();
    assert_ne!(other.embedding, reading.embedding);
    assert_eq!(other.heads[0].logits, mood.logits);
}

#[test]
fn every_token_sees_every_other() {
    let encoder = Encoder::load(File::new(SMALL, 3).f32()).unwrap();
    let read = |text: &str| encoder.encode(text).unwrap().embedding;
    let (base, last, first) = (read("cat sad sad"), read("cat sad x"), read("x sad sad"));
    assert_ne!(base, last);
    assert_ne!(base, first);
    assert_eq!(base, read("  CAT\tsad sad\n"), "the same tokens");
    assert_ne!(base, read("sad sad cat"), "an order");
}

#[test]
fn long_texts_are_cut_and_say_so_and_empty_ones_are_refused() {
    let encoder = Encoder::load(File::new(SMALL, 4).f32()).unwrap();
    assert_eq!(encoder.tokens_max(), 40);
    let read = |text: &str| {
        let reading = encoder.encode(text).unwrap();
        (reading.tokens, reading.tokens_cut, reading.embedding)
    };
    let (tokens, cut, _) = read(&"x ".repeat(38));
    assert_eq!((tokens, cut), (40, 0));
    let (tokens, cut, embedding) = read(&"cat ".repeat(25_000));
    assert_eq!((tokens, cut), (40, 25_002 - 40));
    assert_eq!(embedding, read(&"cat ".repeat(38)).2);
    // One word of 100,000 letters, and as many marks.
    assert_eq!(read(&"é".repeat(100_000)).0, 3);
    assert_eq!(read(&"!".repeat(100_000)).0, 40);
    for empty in ["", "  \n\t", "\u{200d}\u{0}"] {
        let error = encoder.encode(empty).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidRequest, "{empty:?}");
        assert!(error.message().contains("empty"));
    }
    let roomy = Shape {
        context_len: 300,
        ..SMALL
    };
    let encoder = Encoder::load(File::new(roomy, 4).f32()).unwrap();
    let reading = encoder.encode(&"cat ".repeat(300)).unwrap();
    assert_eq!((reading.tokens, reading.tokens_cut), (TOKENS_MAX, 46));
}

#[test]
fn files_that_contradict_themselves_are_refused_by_name() {
    type Spoil = fn(&mut File);
    let cases: [(&str, Spoil); 21] = [
        ("bert.block_count", |f| f.set("bert.block_count", None)),
        ("bert.block_count", |f| {
            f.set("bert.block_count", Some(Value::U32(0)))
        }),
        ("blk.2.attn_q", |f| {
            f.set("bert.block_count", Some(Value::U32(3)))
        }),
        ("blk.1.", |f| f.set("bert.block_count", Some(Value::U32(1)))),
        ("heads", |f| {
            f.set("bert.attention.head_count", Some(Value::U32(5)))
        }),
        ("position_embd", |f| {
            f.set("bert.context_length", Some(Value::U32(41)))
        }),
        ("causal", |f| {
            f.set("bert.attention.causal", Some(Value::Bool(true)))
        }),
        ("pooling_type", |f| {
            f.set("bert.pooling_type", Some(Value::U32(3)))
        }),
        ("layer_norm_epsilon", |f| {
            f.set("bert.attention.layer_norm_epsilon", Some(Value::F32(-1.0)))
        }),
        ("mood.labels", |f| f.set("meetara.head.mood.labels", None)),
        ("head.mood.weight", |f| {
            let labels = Array::String(["one"].iter().collect());
            f.set("meetara.head.mood.labels", Some(Value::Array(labels)))
        }),
        ("mood.activation", |f| {
            f.set("meetara.head.mood.activation", Some(Value::from("relu")))
        }),
        ("mood.temperature", |f| {
            f.set("meetara.head.mood.temperature", Some(Value::F32(0.0)))
        }),
        ("mood.thresholds", |f| {
            let thresholds = Array::F32(vec![0.5]);
            f.set(
                "meetara.head.mood.thresholds",
                Some(Value::Array(thresholds)),
            )
        }),
        ("meetara.heads", |f| {
            let names = Array::String(["mood", "mood"].iter().collect());
            f.set("meetara.heads", Some(Value::Array(names)))
        }),
        ("head.probe", |f| {
            let names = Array::String(["mood"].iter().collect());
            f.set("meetara.heads", Some(Value::Array(names)))
        }),
        ("token_embd_norm.bias", |f| {
            f.tensors.retain(|t| t.0 != "token_embd_norm.bias")
        }),
        ("ffn_up.bias", |f| {
            let bias = f.tensor("blk.0.ffn_up.bias");
            bias.1[0] -= 1;
            bias.2.pop();
        }),
        ("[SEP]", |f| {
            let tokens = ["[UNK]", "[CLS]", "▁a"].map(str::to_owned).to_vec();
            f.set(
                "tokenizer.ggml.tokens",
                Some(Value::Array(Array::String(tokens.into()))),
            )
        }),
        ("[UNK]", |f| {
            let tokens = ["[SEP]", "[CLS]", "▁a"].map(str::to_owned).to_vec();
            f.set(
                "tokenizer.ggml.tokens",
                Some(Value::Array(Array::String(tokens.into()))),
            )
        }),
        ("▁", |f| {
            let tokens = ["[SEP]", "[CLS]", "[UNK]", "a"].map(str::to_owned).to_vec();
            f.set(
                "tokenizer.ggml.tokens",
                Some(Value::Array(Array::String(tokens.into()))),
            )
        }),
    ];
    for (named, spoil) in cases {
        let mut file = File::new(SMALL, 5);
        spoil(&mut file);
        let error = Encoder::load(file.f32()).unwrap_err();
        assert!(error.message().contains(named), "{named}: {error}");
    }
}

#[test]
fn a_file_cut_anywhere_or_of_another_kind_is_an_error() {
    let bytes = File::new(SMALL, 6).f32();
    for len in (0..bytes.len()).step_by(97) {
        assert!(Encoder::load(bytes[..len].to_vec()).is_err(), "{len} bytes");
    }
    let error = Model::load(bytes).unwrap_err();
    assert_eq!(error.kind, ErrorKind::UnsupportedModel);
    assert!(error.message().contains("encoder"), "{error}");
    let tiny = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/vectors/tiny/tiny-q8_0.gguf"
    );
    let error = Encoder::load(std::fs::read(tiny).unwrap()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::UnsupportedModel);
    assert!(error.message().contains("llama"), "{error}");
}

/// `tests/vectors/encoders/hashes.json`. The tests of the browser's builds read it too.
#[derive(serde::Deserialize)]
struct Hashes {
    texts: Vec<String>,
    /// By file: FNV-1a, 64 bits, of each text's embedding and probabilities as little-endian bytes.
    hashes: std::collections::BTreeMap<String, String>,
}

#[test]
fn kept_encoders_have_the_hashes_that_the_browser_is_held_to() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/encoders/");
    let text = std::fs::read_to_string(format!("{folder}hashes.json")).unwrap();
    let expected: Hashes = serde_json::from_str(&text).unwrap();
    assert!(expected.hashes.len() >= 2 && expected.texts.len() >= 9);
    for kernels in Kernels::available() {
        for (name, wanted) in &expected.hashes {
            let bytes = std::fs::read(format!("{folder}{name}")).unwrap();
            let encoder = Encoder::load_with(bytes, kernels).unwrap();
            let mut hash = 0xcbf2_9ce4_8422_2325_u64;
            for text in &expected.texts {
                let reading = encoder.encode(text).unwrap();
                let heads = reading.heads.iter().flat_map(|head| &head.probabilities);
                for byte in reading
                    .embedding
                    .iter()
                    .chain(heads)
                    .flat_map(|x| x.to_le_bytes())
                {
                    hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
            }
            assert_eq!(
                &format!("{hash:016x}"),
                wanted,
                "{name} on {}",
                kernels.name
            );
        }
    }
}
