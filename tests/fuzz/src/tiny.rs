//! Models, adapters and encoders of a few kilobytes: seeds, and what adapters and texts are given to.
//!
//! ```text
//! layers 1, heads 2 of D/2, key/value heads 1, n_ff D, 20 tokens, context 32, tied
//! ```

use std::sync::{Arc, OnceLock};

use meetara_engine::emotion::Emotion;
use meetara_engine::encoder::Encoder;
use meetara_engine::model::Model;
use meetara_engine::reader::Reader;
use meetara_engine::reader::{DOMAINS, OUT_OF_SCOPE};
use meetara_engine::safety::Category;
use meetara_format::{Array, Error, GgmlType, Value, Writer, quantize};

/// Width of [`base`].
pub const BASE_WIDTH: usize = 8;
/// Tokens of every model here: 4 control tokens, then single characters and merges.
const TOKENS: [&str; 20] = [
    "<|endoftext|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "a",
    "b",
    "c",
    "d",
    "e",
    "h",
    "i",
    "l",
    "o",
    "Ġ",
    "!",
    "he",
    "ll",
    "hell",
    "hello",
    "Ġa",
];
const MERGES: [&str; 5] = ["h e", "l l", "he ll", "hell o", "Ġ a"];
const TEMPLATE: &str = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}\
    {% if add_generation_prompt %}<|assistant|>{% endif %}";

/// The model that adapters are loaded for: F32, [`BASE_WIDTH`] wide.
///
/// # Panics
/// When the file that this module itself writes does not load.
pub fn base() -> Arc<Model> {
    static BASE: OnceLock<Arc<Model>> = OnceLock::new();
    let load = || {
        let file = model(GgmlType::F32, BASE_WIDTH).expect("the writer takes our own model");
        Arc::new(Model::load(file).expect("our own model loads"))
    };
    Arc::clone(BASE.get_or_init(load))
}

/// The metadata of the tokenizer and the chat template.
pub fn vocabulary() -> Vec<(String, Value)> {
    let strings = |list: &[&str]| Value::Array(Array::String(list.iter().collect()));
    let kinds = (0..TOKENS.len()).map(|id| if id < 4 { 3 } else { 1 });
    [
        ("model", Value::from("gpt2")),
        ("pre", Value::from("smollm")),
        ("tokens", strings(&TOKENS)),
        ("token_type", Value::Array(Array::I32(kinds.collect()))),
        ("merges", strings(&MERGES)),
        ("bos_token_id", Value::U32(0)),
        ("eos_token_id", Value::U32(0)),
        ("add_bos_token", Value::Bool(true)),
    ]
    .into_iter()
    .map(|(key, value)| (format!("tokenizer.ggml.{key}"), value))
    .chain([("tokenizer.chat_template".to_owned(), Value::from(TEMPLATE))])
    .collect()
}

/// A model file with its matrices in `ty`. `width` is a multiple of `ty`'s block and of 4.
///
/// # Errors
/// Those of [`Writer`], when `width` does not fit `ty`.
pub fn model(ty: GgmlType, width: usize) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::new("llama");
    writer.set("general.name", "seed");
    let half = width / 2;
    for (key, value) in [
        ("context_length", 32),
        ("embedding_length", width),
        ("block_count", 1),
        ("feed_forward_length", width),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("rope.dimension_count", half),
    ] {
        writer.set(&format!("llama.{key}"), Value::U32(value as u32));
    }
    writer.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    for (key, value) in vocabulary() {
        writer.set(&key, value);
    }
    let shapes: [(&str, &[usize]); 11] = [
        ("token_embd", &[width, TOKENS.len()]),
        ("blk.0.attn_norm", &[width]),
        ("blk.0.attn_q", &[width, width]),
        ("blk.0.attn_k", &[width, half]),
        ("blk.0.attn_v", &[width, half]),
        ("blk.0.attn_output", &[width, width]),
        ("blk.0.ffn_norm", &[width]),
        ("blk.0.ffn_gate", &[width, width]),
        ("blk.0.ffn_up", &[width, width]),
        ("blk.0.ffn_down", &[width, width]),
        ("output_norm", &[width]),
    ];
    for (index, (name, dims)) in shapes.into_iter().enumerate() {
        let ty = if dims.len() == 1 { GgmlType::F32 } else { ty };
        let values = waves(dims.iter().product(), index);
        let data = quantize(ty, &values, width, None)?;
        let dims: Vec<u64> = dims.iter().map(|&dim| dim as u64).collect();
        writer.add_tensor(&format!("{name}.weight"), &dims, ty, data)?;
    }
    writer.finish()
}

/// An adapter file for [`base`] of rank `rank` for `weights`, its matrices in `ty`.
///
/// # Errors
/// Those of [`Writer`].
pub fn adapter(rank: usize, weights: &[&str], ty: GgmlType) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::new("llama");
    writer.set("general.type", "adapter");
    writer.set("adapter.type", "lora");
    writer.set("adapter.lora.alpha", Value::F32(4.0));
    for (index, name) in weights.iter().enumerate() {
        let n_out = match *name {
            "attn_k" | "attn_v" => BASE_WIDTH / 2,
            _ => BASE_WIDTH,
        };
        let mut add = |half: &str, dims: [usize; 2]| {
            let values = waves(dims[0] * dims[1], index);
            let data = quantize(ty, &values, dims[0], None)?;
            let name = format!("blk.0.{name}.weight.{half}");
            writer
                .add_tensor(&name, &dims.map(|dim| dim as u64), ty, data)
                .map(drop)
        };
        add("lora_a", [BASE_WIDTH, rank])?;
        add("lora_b", [rank, n_out])?;
    }
    writer.finish()
}

/// How an encoder cuts texts into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// BERT's.
    WordPiece,
    /// RoBERTa's.
    Bytes,
}

/// What [`encoder`] has on its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadsOf {
    /// The four heads of a [`Reader`].
    Reader,
    /// A Hugging Face classifier of two labels.
    Classifier,
}

/// Reads texts: an encoder of WordPiece, F32, 8 wide.
///
/// # Panics
/// When the file that this module itself writes does not load.
pub fn reader() -> &'static Reader {
    static READER: OnceLock<Reader> = OnceLock::new();
    READER.get_or_init(|| {
        let file = encoder(
            GgmlType::F32,
            BASE_WIDTH,
            Pieces::WordPiece,
            HeadsOf::Reader,
        )
        .expect("the writer takes our own encoder");
        let encoder = Encoder::load(file).expect("our own encoder loads");
        Reader::new(encoder).expect("our own encoder has a reader's heads")
    })
}

/// An encoder file of one layer, its matrices in `ty`. `width` is a multiple of `ty`'s block and of 2.
///
/// # Errors
/// Those of [`Writer`], when `width` does not fit `ty`.
pub fn encoder(
    ty: GgmlType,
    width: usize,
    pieces: Pieces,
    heads: HeadsOf,
) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::new("bert");
    for (key, value) in [
        ("context_length", 16),
        ("embedding_length", width),
        ("block_count", 1),
        ("feed_forward_length", width),
        ("attention.head_count", 2),
        ("pooling_type", 1),
    ] {
        writer.set(&format!("bert.{key}"), Value::U32(value as u32));
    }
    writer.set("bert.attention.causal", Value::Bool(false));
    writer.set("bert.attention.layer_norm_epsilon", Value::F32(1e-12));
    let n_vocab = match pieces {
        Pieces::WordPiece => word_pieces(&mut writer),
        Pieces::Bytes => {
            for (key, value) in vocabulary() {
                writer.set(&key, value);
            }
            TOKENS.len()
        }
    };
    let mut tensors: Vec<(String, Vec<usize>)> = vec![
        ("token_embd.weight".into(), vec![width, n_vocab]),
        ("position_embd.weight".into(), vec![width, 16]),
        ("token_types.weight".into(), vec![width, 2]),
    ];
    let norms = [
        "token_embd_norm",
        "blk.0.attn_output_norm",
        "blk.0.layer_output_norm",
    ];
    for name in norms {
        tensors.push((format!("{name}.weight"), vec![width]));
        tensors.push((format!("{name}.bias"), vec![width]));
    }
    for name in [
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_up",
        "ffn_down",
    ] {
        tensors.push((format!("blk.0.{name}.weight"), vec![width, width]));
        tensors.push((format!("blk.0.{name}.bias"), vec![width]));
    }
    let texts = |list: &[&str]| Value::Array(Array::String(list.iter().collect()));
    match heads {
        HeadsOf::Classifier => {
            writer.set("bert.classifier.output_labels", texts(&["no", "yes"]));
            tensors.push(("cls.weight".into(), vec![width, width]));
            tensors.push(("cls.output.weight".into(), vec![width, 2]));
        }
        HeadsOf::Reader => {
            let mut domains: Vec<&str> = DOMAINS.iter().map(|domain| domain.name).collect();
            domains.push(OUT_OF_SCOPE);
            let heads: [(&str, Vec<&str>); 4] = [
                ("emotion", Emotion::ALL.map(Emotion::name).to_vec()),
                ("goemotions", vec!["joy", "grief"]),
                ("domain", domains),
                ("safety", Category::ALL.map(Category::name).to_vec()),
            ];
            writer.set("meetara.heads", texts(&heads.each_ref().map(|head| head.0)));
            for (name, labels) in &heads {
                writer.set(&format!("meetara.head.{name}.labels"), texts(labels));
                tensors.push((format!("head.{name}.weight"), vec![width, labels.len()]));
                tensors.push((format!("head.{name}.bias"), vec![labels.len()]));
            }
            for name in ["goemotions", "safety"] {
                writer.set(&format!("meetara.head.{name}.activation"), "sigmoid");
            }
            writer.set("meetara.head.emotion.temperature", Value::F32(1.5));
            let thresholds = Value::Array(Array::F32(vec![0.4, 0.5, 0.6]));
            writer.set("meetara.head.safety.thresholds", thresholds);
        }
    }
    for (index, (name, dims)) in tensors.into_iter().enumerate() {
        let ty = if dims.len() == 1 { GgmlType::F32 } else { ty };
        let data = quantize(ty, &waves(dims.iter().product(), index), dims[0], None)?;
        let dims: Vec<u64> = dims.iter().map(|&dim| dim as u64).collect();
        writer.add_tensor(&name, &dims, ty, data)?;
    }
    writer.finish()
}

/// Sets a vocabulary of words and pieces; gives how many tokens it has.
fn word_pieces(writer: &mut Writer) -> usize {
    let tokens = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "▁i", "▁am", "▁so", "▁sad", "▁the", "▁a",
        "▁to", "▁my", "▁not", "▁h", "el", "lo", "s", "e", "l", "o", "p", "▁!", "▁.", "▁'", "▁want",
        "▁die", "▁it", "▁is", "▁you",
    ];
    let kinds = (0..tokens.len()).map(|id| if id < 5 { 3 } else { 1 });
    writer.set("tokenizer.ggml.model", "bert");
    writer.set(
        "tokenizer.ggml.tokens",
        Value::Array(Array::String(tokens.iter().collect())),
    );
    writer.set(
        "tokenizer.ggml.token_type",
        Value::Array(Array::I32(kinds.collect())),
    );
    for (name, id) in [("unknown", 1), ("cls", 2), ("seperator", 3)] {
        writer.set(&format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
    }
    tokens.len()
}

/// `n` numbers between -1 and 1 in which no pattern of a block's length repeats.
fn waves(n: usize, seed: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0)
        .collect()
}
