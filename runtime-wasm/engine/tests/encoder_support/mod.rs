//! Encoders of random weights with heads, made in memory.

use meetara_engine::conformance::Random;
use meetara_engine::tokenizer::wordpiece_token;
use meetara_format::{Array, GgmlType, Value, Writer, quantize};

/// Words of the vocabulary behind its five special tokens.
pub const WORDS: [&str; 14] = [
    "i", "am", "so", "happy", "sad", "to", "##day", "the", "!", ".", "cat", "##s", "x", "##x",
];

/// The sizes of an encoder.
#[derive(Clone, Copy)]
pub struct Shape {
    pub n_layer: usize,
    pub n_embd: usize,
    pub n_head: usize,
    pub n_ff: usize,
    pub context_len: usize,
}

pub const SMALL: Shape = Shape {
    n_layer: 2,
    n_embd: 32,
    n_head: 4,
    n_ff: 64,
    context_len: 40,
};

/// A file in parts, so that tests can spoil one of them.
pub struct File {
    pub metadata: Vec<(String, Value)>,
    /// Name, dims, values.
    pub tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl File {
    /// Random weights and two heads: `mood`, softmax, whose three labels are calibrated, and
    /// `probe`, whose logits are the mean itself.
    pub fn new(shape: Shape, seed: u64) -> Self {
        let (d, ff) = (shape.n_embd, shape.n_ff);
        let words = WORDS.iter().map(|word| wordpiece_token(word));
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
        let tokens: Vec<String> = special.into_iter().chain(words).collect();
        let n_vocab = tokens.len();
        let number = |n: usize| Value::U32(n as u32);
        let strings = |texts: &[&str]| {
            Value::Array(Array::String(texts.iter().map(|&t| t.to_owned()).collect()))
        };
        let probe: Vec<String> = (0..d).map(|i| format!("element {i}")).collect();
        let metadata = vec![
            ("bert.block_count", number(shape.n_layer)),
            ("bert.embedding_length", number(d)),
            ("bert.feed_forward_length", number(ff)),
            ("bert.attention.head_count", number(shape.n_head)),
            ("bert.context_length", number(shape.context_len)),
            ("bert.attention.layer_norm_epsilon", Value::F32(1e-12)),
            ("bert.attention.causal", Value::Bool(false)),
            ("tokenizer.ggml.model", Value::from("bert")),
            (
                "tokenizer.ggml.tokens",
                Value::Array(Array::String(tokens.into())),
            ),
            ("meetara.heads", strings(&["mood", "probe"])),
            (
                "meetara.head.mood.labels",
                strings(&["low", "middle", "high"]),
            ),
            ("meetara.head.mood.activation", Value::from("softmax")),
            ("meetara.head.mood.temperature", Value::F32(2.0)),
            (
                "meetara.head.probe.labels",
                Value::Array(Array::String(probe.into())),
            ),
            ("meetara.head.probe.activation", Value::from("sigmoid")),
            (
                "meetara.head.probe.thresholds",
                Value::Array(Array::F32(vec![0.5; d])),
            ),
        ];
        let mut random = Random::new(seed);
        let mut tensors = Vec::new();
        let mut add = |name: &str, dims: &[usize], middle: f32, size: f32| {
            let count = dims.iter().product();
            let values = (0..count).map(|_| middle + size * random.float());
            tensors.push((name.to_owned(), dims.to_vec(), values.collect()));
        };
        add("token_embd.weight", &[d, n_vocab], 0.0, 1.0);
        add("position_embd.weight", &[d, shape.context_len], 0.0, 1.0);
        add("token_types.weight", &[d, 2], 0.0, 1.0);
        let norms = |name: &str| [format!("{name}.weight"), format!("{name}.bias")];
        let mut names = norms("token_embd_norm").to_vec();
        for n in 0..shape.n_layer {
            for (part, n_in, n_out) in [
                ("attn_q", d, d),
                ("attn_k", d, d),
                ("attn_v", d, d),
                ("attn_output", d, d),
                ("ffn_up", d, ff),
                ("ffn_down", ff, d),
            ] {
                let size = 2.5 / (n_in as f32).sqrt();
                add(&format!("blk.{n}.{part}.weight"), &[n_in, n_out], 0.0, size);
                add(&format!("blk.{n}.{part}.bias"), &[n_out], 0.0, 0.3);
            }
            names.extend(norms(&format!("blk.{n}.attn_output_norm")));
            names.extend(norms(&format!("blk.{n}.layer_output_norm")));
        }
        for name in names {
            let middle = f32::from(u8::from(name.ends_with("weight")));
            add(&name, &[d], middle, 0.3);
        }
        add("head.mood.weight", &[d, 3], 0.0, 1.0);
        add("head.mood.bias", &[3], 0.0, 1.0);
        let identity = (0..d * d).map(|i| f32::from(u8::from(i % (d + 1) == 0)));
        tensors.push(("head.probe.weight".into(), vec![d, d], identity.collect()));
        Self {
            metadata: metadata
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
            tensors,
        }
    }

    /// Sets a key, or takes it away.
    pub fn set(&mut self, key: &str, value: Option<Value>) {
        self.metadata.retain(|(name, _)| name != key);
        self.metadata
            .extend(value.map(|value| (key.to_owned(), value)));
    }

    pub fn tensor(&mut self, name: &str) -> &mut (String, Vec<usize>, Vec<f32>) {
        let tensor = self.tensors.iter_mut().find(|tensor| tensor.0 == name);
        tensor.unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// The bytes, matrices in the types that `types` gives them.
    pub fn bytes(&self, types: impl Fn(&str) -> GgmlType) -> Vec<u8> {
        let mut writer = Writer::new("bert");
        for (key, value) in &self.metadata {
            writer.set(key, value.clone());
        }
        for (name, dims, values) in &self.tensors {
            let is_matrix = dims.len() == 2 && !name.starts_with("head.");
            let ty = if is_matrix {
                types(name)
            } else {
                GgmlType::F32
            };
            let blocks = quantize(ty, values, dims[0], None).unwrap();
            let dims: Vec<u64> = dims.iter().map(|&dim| dim as u64).collect();
            writer.add_tensor(name, &dims, ty, blocks).unwrap();
        }
        writer.finish().unwrap()
    }

    pub fn f32(&self) -> Vec<u8> {
        self.bytes(|_| GgmlType::F32)
    }
}
