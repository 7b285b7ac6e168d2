//! One number that tells two builds apart.
//!
//! [`logits_hash`] makes two small models of random weights that use every
//! weight type, evaluates a list of tokens with each, in slices and one by
//! one, and hashes the bits of all logits. Every build on every CPU must give
//! [`LOGITS_HASH`]; one that does not computes something else.
//!
//! The same maker of models serves tests and benches.

use std::sync::Arc;

use meetara_format::{Array, GgmlType, Value, Writer};

use crate::error::Result;
use crate::generate::Session;
use crate::kernels::Kernels;
use crate::model::Model;

/// What [`logits_hash`] gives for every set of kernels.
pub const LOGITS_HASH: u64 = 0x84bc_e52f_d7af_7ce8;

/// Tokens that a model of random weights has at least: control tokens and one for each byte.
pub const VOCAB_MIN: usize = CONTROL.len() + 256;

/// Control tokens, the first ids of the vocabulary.
const CONTROL: [&str; 5] = [
    "<|endoftext|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
];

const TEMPLATE: &str = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}\
                        {% if add_generation_prompt %}<|assistant|>{% endif %}";

/// The sizes of a llama model of random weights.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names of `model::Config`")]
pub struct Shape {
    pub n_layer: usize,
    pub n_embd: usize,
    pub n_head: usize,
    pub n_head_kv: usize,
    pub n_ff: usize,
    /// At least [`VOCAB_MIN`].
    pub n_vocab: usize,
    pub context_len: usize,
}

/// splitmix64 (Steele, Lea and Flood, 2014): small, and the same on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number between -1 and 1.
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// The bytes of a GGUF file of random weights, of about the size that lets
/// numbers neither grow nor fade from layer to layer. `types` gives the type of
/// each matrix from its name. The output matrix is tied.
///
/// # Errors
/// Those of the writer, for a type whose blocks do not fill a row.
pub fn random_model(shape: Shape, seed: u64, types: impl Fn(&str) -> GgmlType) -> Result<Vec<u8>> {
    let mut random = Random::new(seed);
    let mut writer = Writer::new("llama");
    let key = |name: &str| format!("llama.{name}");
    writer.set("general.name", "random");
    for (name, value) in [
        ("context_length", shape.context_len),
        ("embedding_length", shape.n_embd),
        ("block_count", shape.n_layer),
        ("feed_forward_length", shape.n_ff),
        ("attention.head_count", shape.n_head),
        ("attention.head_count_kv", shape.n_head_kv),
    ] {
        writer.set(&key(name), Value::U32(value as u32));
    }
    writer.set(&key("attention.layer_norm_rms_epsilon"), Value::F32(1e-5));
    set_vocabulary(&mut writer, shape.n_vocab);

    let kv = shape.n_embd / shape.n_head * shape.n_head_kv;
    let mut matrix = |writer: &mut Writer<'_>, name: &str, n_in: usize, n_out: usize| {
        let ty = types(name);
        let scale = if n_out == shape.n_vocab {
            1.0
        } else {
            1.7 / (n_in as f32).sqrt()
        };
        let data = random_blocks(&mut random, ty, n_in * n_out, scale);
        writer
            .add_tensor(name, &[n_in as u64, n_out as u64], ty, data)
            .map(|_| ())
    };
    let mut norms = Random::new(!seed);
    let mut norm = |writer: &mut Writer<'_>, name: &str| {
        let weights = (0..shape.n_embd).flat_map(|_| (1.0 + 0.3 * norms.float()).to_le_bytes());
        let data: Vec<u8> = weights.collect();
        writer
            .add_tensor(name, &[shape.n_embd as u64], GgmlType::F32, data)
            .map(|_| ())
    };
    matrix(
        &mut writer,
        "token_embd.weight",
        shape.n_embd,
        shape.n_vocab,
    )?;
    for n in 0..shape.n_layer {
        let name = |part: &str| format!("blk.{n}.{part}.weight");
        norm(&mut writer, &name("attn_norm"))?;
        matrix(&mut writer, &name("attn_q"), shape.n_embd, shape.n_embd)?;
        matrix(&mut writer, &name("attn_k"), shape.n_embd, kv)?;
        matrix(&mut writer, &name("attn_v"), shape.n_embd, kv)?;
        matrix(
            &mut writer,
            &name("attn_output"),
            shape.n_embd,
            shape.n_embd,
        )?;
        norm(&mut writer, &name("ffn_norm"))?;
        matrix(&mut writer, &name("ffn_gate"), shape.n_embd, shape.n_ff)?;
        matrix(&mut writer, &name("ffn_up"), shape.n_embd, shape.n_ff)?;
        matrix(&mut writer, &name("ffn_down"), shape.n_ff, shape.n_embd)?;
    }
    norm(&mut writer, "output_norm.weight")?;
    Ok(writer.finish()?)
}

/// A vocabulary of control tokens, bytes, and words that no text contains.
fn set_vocabulary(writer: &mut Writer<'_>, n_vocab: usize) {
    let control = CONTROL.iter().map(|&token| token.to_owned());
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let words = (VOCAB_MIN..n_vocab.max(VOCAB_MIN)).map(|n| format!("\u{2581}\u{1}{n}"));
    let tokens: Vec<String> = control.chain(bytes).chain(words).collect();
    let kind = |i: usize| match i {
        i if i < CONTROL.len() => 3,
        i if i < VOCAB_MIN => 6,
        _ => 1,
    };
    writer.set("tokenizer.ggml.model", "llama");
    writer.set(
        "tokenizer.ggml.token_type",
        Value::Array(Array::I32((0..tokens.len()).map(kind).collect())),
    );
    writer.set(
        "tokenizer.ggml.scores",
        Value::Array(Array::F32(vec![0.0; tokens.len()])),
    );
    writer.set(
        "tokenizer.ggml.tokens",
        Value::Array(Array::String(tokens.into())),
    );
    for (name, id) in [("bos", 0), ("eos", 0), ("unknown", 0), ("eot", 4)] {
        writer.set(&format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
    }
    writer.set("tokenizer.ggml.add_bos_token", Value::Bool(true));
    writer.set("tokenizer.ggml.add_space_prefix", Value::Bool(false));
    writer.set("tokenizer.chat_template", TEMPLATE);
}

/// `n` random weights of about `size`, in blocks of `ty`.
fn random_blocks(random: &mut Random, ty: GgmlType, n: usize, size: f32) -> Vec<u8> {
    let float = |random: &mut Random| size * random.float();
    match ty {
        GgmlType::F32 => return (0..n).flat_map(|_| float(random).to_le_bytes()).collect(),
        GgmlType::F16 => {
            let half = |random: &mut Random| half::f16::from_f32(float(random)).to_le_bytes();
            return (0..n).flat_map(|_| half(random)).collect();
        }
        GgmlType::BF16 => {
            let upper = |random: &mut Random| {
                [
                    float(random).to_bits() >> 16 & 0xff,
                    float(random).to_bits() >> 24,
                ]
            };
            return (0..n)
                .flat_map(|_| upper(random).map(|b| b as u8))
                .collect();
        }
        _ => {}
    }
    // Any bytes are weights; the scales, with where they lie, bring them to size.
    let scales: &[(usize, f32)] = match ty {
        GgmlType::Q4_0 => &[(0, 1.0 / 8.0)],
        GgmlType::Q4_1 => &[(0, 1.0 / 8.0), (2, -7.5 / 8.0)],
        GgmlType::Q5_0 => &[(0, 1.0 / 16.0)],
        GgmlType::Q5_1 => &[(0, 1.0 / 16.0), (2, -15.5 / 16.0)],
        GgmlType::Q8_0 => &[(0, 1.0 / 128.0)],
        GgmlType::Q4_K => &[(0, 1.0 / 400.0), (2, 7.5 / 400.0)],
        GgmlType::Q5_K => &[(0, 1.0 / 800.0), (2, 15.5 / 800.0)],
        GgmlType::Q6_K => &[(208, 1.0 / 2400.0)],
        _ => &[],
    };
    let mut blocks = Vec::with_capacity(n / ty.block_len() * ty.block_bytes());
    for _ in 0..n / ty.block_len() {
        let start = blocks.len();
        let words = (0..ty.block_bytes().div_ceil(8)).flat_map(|_| random.bits().to_le_bytes());
        blocks.extend(words.take(ty.block_bytes()));
        let spread = 1.0 + 0.3 * random.float();
        for &(at, scale) in scales {
            let scale = half::f16::from_f32(size * scale * spread).to_le_bytes();
            blocks[start + at..start + at + 2].copy_from_slice(&scale);
        }
    }
    blocks
}

/// Two files that use every weight type between them.
fn models() -> Result<[Vec<u8>; 2]> {
    let blocks_256 = Shape {
        n_layer: 2,
        n_embd: 256,
        n_head: 4,
        n_head_kv: 2,
        n_ff: 512,
        n_vocab: VOCAB_MIN,
        context_len: 128,
    };
    let blocks_32 = Shape {
        n_embd: 96,
        n_head: 3,
        n_head_kv: 1,
        n_ff: 160,
        ..blocks_256
    };
    let has = |name: &str, parts: &[&str]| parts.iter().any(|part| name.contains(part));
    Ok([
        random_model(blocks_256, 1, |name| match name {
            _ if has(name, &["attn_v", "ffn_down", "token_embd"]) => GgmlType::Q6_K,
            _ if has(name, &["attn_k", "ffn_up"]) => GgmlType::Q5_K,
            _ => GgmlType::Q4_K,
        })?,
        random_model(blocks_32, 2, |name| match name {
            "token_embd.weight" => GgmlType::Q8_0,
            _ if has(name, &["attn_q"]) => GgmlType::Q4_0,
            _ if has(name, &["attn_k"]) => GgmlType::F16,
            _ if has(name, &["attn_v"]) => GgmlType::Q5_1,
            _ if has(name, &["attn_output"]) => GgmlType::BF16,
            _ if has(name, &["ffn_gate"]) => GgmlType::Q4_1,
            _ if has(name, &["ffn_up"]) => GgmlType::Q5_0,
            _ => GgmlType::F32,
        })?,
    ])
}

/// A hash (FNV-1a) of the bits of many logits, computed with `kernels`.
/// Compare it with [`LOGITS_HASH`].
///
/// # Errors
/// None that a sound build on a machine with a few megabytes free could give.
pub fn logits_hash(kernels: Kernels) -> Result<u64> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |logits: &[f32]| {
        for byte in logits.iter().flat_map(|x| x.to_bits().to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for (seed, file) in (3..).zip(models()?) {
        let model = Arc::new(Model::load_with(file, kernels)?);
        let mut session = Session::new(model, None)?;
        let mut random = Random::new(seed);
        let tokens: Vec<u32> = (0..75)
            .map(|_| (random.bits() % VOCAB_MIN as u64) as u32)
            .collect();
        session.score(&tokens, |_, logits| add(logits))?;
        // One by one, too: matvec instead of matmul.
        session.reset();
        for &token in &tokens[..20] {
            add(session.append_token(token)?);
        }
    }
    Ok(hash)
}
