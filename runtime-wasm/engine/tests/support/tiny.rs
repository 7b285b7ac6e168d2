//! The tiny models again, from their names and seed: the Rust twin of `tests/vectors/tiny/models.py`.
//!
//! Files over a megabyte are not kept in the repository. Their tokenizer and template are those of
//! `tiny-f32.gguf`, which is; their weights follow from this definition:
//!
//! ```text
//! z = splitmix64((fnv1a64("model/tensor") ^ (SEED + seed)) + (i + 1) * 0x9E3779B97F4A7C15)
//! s = (sum of the four 16-bit parts of z) - 131070
//! w = f32(centre + s * (std / 37837.2))
//! ```

use meetara_format::mix::{ArchInfo, FileType, tensor_type};
use meetara_format::{Gguf, Value, Writer};

const SEED: u64 = 0x6D65_6574_6172_6131;
const STD_OF_SUM: f64 = 37837.2;
const N_VOCAB: usize = 512;
const N_CONTROL: usize = 16;

/// One model's shape.
#[derive(Clone, Copy)]
pub struct Spec {
    pub name: &'static str,
    pub n_embd: usize,
    pub n_ff: usize,
    pub n_layer: usize,
    pub n_head: usize,
    pub n_head_kv: usize,
    pub tied: bool,
    /// Added to `SEED`.
    pub seed: u64,
    pub arch: &'static str,
    pub pre: &'static str,
    /// 0: n_embd / n_head, and the file does not say.
    pub key_length: usize,
    /// The linear layers that have one.
    pub biases: &'static [&'static str],
    pub rope_base: f32,
    /// Whether there is a rope_freqs.weight.
    pub rope_factors: bool,
    pub scaling: Option<Scaling>,
}

/// `{arch}.rope.scaling.*`.
#[derive(Clone, Copy)]
pub struct Scaling {
    pub ty: &'static str,
    pub original_len: u32,
    pub attn_factor: f32,
    /// (fast, slow)
    pub betas: Option<(f32, f32)>,
}

/// Where every scaled model is stretched to.
const SCALING_FACTOR: f32 = 4.0;

const TINY: Spec = Spec {
    name: "tiny",
    n_embd: 96,
    n_ff: 204,
    n_layer: 2,
    n_head: 4,
    n_head_kv: 2,
    tied: true,
    seed: 137,
    arch: "llama",
    pre: "smollm",
    key_length: 0,
    biases: &[],
    rope_base: 10_000.0,
    rope_factors: false,
    scaling: None,
};
const WIDE: Spec = Spec {
    name: "wide",
    n_embd: 256,
    n_ff: 256,
    seed: 382,
    ..TINY
};
const SMALL: Spec = Spec {
    n_ff: 160,
    n_head: 3,
    n_head_kv: 1,
    ..TINY
};
const QKV: &[&str] = &["attn_q", "attn_k", "attn_v"];
const LINEAR: &[&str] = &[
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
];
const YARN: Scaling = Scaling {
    ty: "yarn",
    original_len: 64,
    attn_factor: 1.0,
    betas: None,
};

/// `shape` as Qwen 2, with biases.
const fn qwen2(name: &'static str, shape: Spec, seed: u64) -> Spec {
    Spec {
        name,
        seed,
        arch: "qwen2",
        pre: "qwen2",
        biases: QKV,
        rope_base: 1e6,
        ..shape
    }
}

/// `shape` as Qwen 3, with heads of 128.
const fn qwen3(name: &'static str, shape: Spec, seed: u64) -> Spec {
    Spec {
        arch: "qwen3",
        key_length: 128,
        biases: &[],
        ..qwen2(name, shape, seed)
    }
}

const fn small(name: &'static str, seed: u64) -> Spec {
    Spec {
        name,
        seed,
        ..SMALL
    }
}

const fn scaled(spec: Spec, scaling: Scaling) -> Spec {
    Spec {
        scaling: Some(scaling),
        ..spec
    }
}

const UNTIED_SMALL: Spec = Spec {
    tied: false,
    ..SMALL
};

/// The models of `tests/vectors/tiny` (`models.py` says what each is for), then those of
/// `tests/vectors/architectures`.
pub const SPECS: &[Spec] = &[
    TINY,
    WIDE,
    Spec {
        name: "untied",
        n_ff: 512,
        n_layer: 1,
        n_head: 8,
        tied: false,
        seed: 9,
        ..WIDE
    },
    qwen2("qwen2", WIDE, 2),
    qwen2("qwen2-untied", UNTIED_SMALL, 0),
    Spec {
        biases: &[],
        ..qwen2("qwen2-plain", SMALL, 1)
    },
    scaled(qwen2("qwen2-yarn", SMALL, 4), YARN),
    qwen3("qwen3", WIDE, 14),
    qwen3("qwen3-untied", UNTIED_SMALL, 1),
    Spec {
        biases: QKV,
        ..qwen3("qwen3-bias", SMALL, 0)
    },
    scaled(
        qwen3("qwen3-yarn", SMALL, 2),
        Scaling {
            attn_factor: 0.8,
            ..YARN
        },
    ),
    Spec {
        n_embd: 192,
        n_ff: 512,
        n_layer: 2,
        rope_base: 1e5,
        ..small("smollm2", 4)
    },
    Spec {
        biases: LINEAR,
        ..small("llama-bias", 2)
    },
    Spec {
        rope_factors: true,
        ..small("llama-factors", 1)
    },
    scaled(
        small("llama-linear", 0),
        Scaling {
            ty: "linear",
            ..YARN
        },
    ),
    scaled(small("llama-yarn", 5), YARN),
    scaled(
        small("llama-betas", 3),
        Scaling {
            original_len: 256,
            attn_factor: 1.2,
            betas: Some((8.0, 2.0)),
            ..YARN
        },
    ),
];

/// A tensor of F32 values: name, GGUF dims (the row length first), values.
pub struct Tensor {
    pub name: String,
    pub dims: Vec<u64>,
    pub values: Vec<f32>,
}

impl Spec {
    /// The spec called `name`.
    pub fn named(name: &str) -> &'static Spec {
        SPECS
            .iter()
            .find(|s| s.name == name)
            .expect("a model of tests/vectors")
    }

    fn head_dim(&self) -> usize {
        match self.key_length {
            0 => self.n_embd / self.n_head,
            n => n,
        }
    }

    /// Every tensor, in file order.
    pub fn tensors(&self) -> Vec<Tensor> {
        let (d, ff, hd) = (self.n_embd, self.n_ff, self.head_dim());
        let (q, kv) = (self.n_head * hd, self.n_head_kv * hd);
        let by_root = |scale: f64, n: usize| scale / (n as f64).sqrt();
        let mut all = vec![self.tensor("token_embd.weight".into(), &[d, N_VOCAB], 0.0, 0.1)];
        if self.rope_factors {
            all.push(self.tensor("rope_freqs.weight".into(), &[hd / 2], 2.0, 0.3));
        }
        for i in 0..self.n_layer {
            let mut add = |name: &str, dims: &[usize], centre, std| {
                all.push(self.tensor(format!("blk.{i}.{name}"), dims, centre, std));
            };
            add("attn_norm.weight", &[d], 1.0, 0.1);
            add("attn_q.weight", &[d, q], 0.0, by_root(1.3, d));
            add("attn_k.weight", &[d, kv], 0.0, by_root(1.3, d));
            add("attn_v.weight", &[d, kv], 0.0, by_root(1.0, d));
            add("attn_output.weight", &[q, d], 0.0, by_root(1.0, q));
            add("ffn_norm.weight", &[d], 1.0, 0.1);
            add("ffn_gate.weight", &[d, ff], 0.0, by_root(1.2, d));
            add("ffn_up.weight", &[d, ff], 0.0, by_root(1.2, d));
            add("ffn_down.weight", &[ff, d], 0.0, by_root(1.5, ff));
            for &part in self.biases {
                let rows = match part {
                    "attn_q" => q,
                    "attn_k" | "attn_v" => kv,
                    "ffn_gate" | "ffn_up" => ff,
                    _ => d,
                };
                add(&format!("{part}.bias"), &[rows], 0.0, 0.3);
            }
            if self.arch == "qwen3" {
                add("attn_q_norm.weight", &[hd], 1.2, 0.2);
                add("attn_k_norm.weight", &[hd], 1.2, 0.2);
            }
        }
        all.push(self.tensor("output_norm.weight".into(), &[d], 3.0, 0.3));
        if !self.tied {
            all.push(self.tensor("output.weight".into(), &[d, N_VOCAB], 0.0, 0.1));
        }
        all
    }

    fn tensor(&self, name: String, dims: &[usize], centre: f64, std: f64) -> Tensor {
        let start = fnv1a64(&format!("{}/{name}", self.name)) ^ (SEED + self.seed);
        let step = std / STD_OF_SUM;
        let mut values: Vec<f32> = (0..dims.iter().product::<usize>() as u64)
            .map(|i| {
                let z = splitmix64(start.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
                let sum: u64 = (0..4).map(|part| (z >> (16 * part)) & 0xFFFF).sum();
                (centre + (sum as f64 - 131_070.0) * step) as f32
            })
            .collect();
        if name == "token_embd.weight" || name == "output.weight" {
            // Control tokens never win, so that generation runs to its limit.
            values[..N_CONTROL * dims[0]]
                .iter_mut()
                .for_each(|w| *w *= 0.0625);
        }
        Tensor {
            name,
            dims: dims.iter().map(|&n| n as u64).collect(),
            values,
        }
    }

    /// The model as a GGUF file of kind `ftype`: the types are the mix that llama.cpp uses.
    pub fn gguf(&self, ftype: FileType) -> Vec<u8> {
        let kept = super::read("tests/vectors/tiny/tiny-f32.gguf");
        let header = Gguf::parse(&kept, kept.len() as u64).expect("tiny-f32.gguf");
        let mut writer = Writer::new(self.arch);
        let arch_key = |key: &str| format!("{}.{key}", self.arch);
        for (key, value) in &header.metadata {
            match key.strip_prefix("llama.") {
                Some(rest) => writer.set(&arch_key(rest), value.clone()),
                None => writer.set(key, value.clone()),
            };
        }
        writer.set("general.architecture", self.arch);
        writer.set("tokenizer.ggml.pre", self.pre);
        let mut set = |key: &str, value: Value| {
            writer.set(&arch_key(key), value);
        };
        for (key, value) in [
            ("embedding_length", self.n_embd),
            ("block_count", self.n_layer),
            ("feed_forward_length", self.n_ff),
            ("attention.head_count", self.n_head),
            ("attention.head_count_kv", self.n_head_kv),
            ("rope.dimension_count", self.head_dim()),
        ] {
            set(key, Value::U32(value as u32));
        }
        set("rope.freq_base", Value::F32(self.rope_base));
        if self.key_length > 0 {
            set("attention.key_length", Value::U32(self.key_length as u32));
            set("attention.value_length", Value::U32(self.key_length as u32));
        }
        if let Some(scaling) = self.scaling {
            set("rope.scaling.type", Value::String(scaling.ty.into()));
            set("rope.scaling.factor", Value::F32(SCALING_FACTOR));
            set(
                "rope.scaling.original_context_length",
                Value::U32(scaling.original_len),
            );
            set("rope.scaling.attn_factor", Value::F32(scaling.attn_factor));
            if let Some((fast, slow)) = scaling.betas {
                set("rope.scaling.yarn_beta_fast", Value::F32(fast));
                set("rope.scaling.yarn_beta_slow", Value::F32(slow));
            }
        }
        let info = ArchInfo {
            n_layer: self.n_layer as u32,
            tied_embeddings: self.tied,
        };
        for t in self.tensors() {
            let ty = tensor_type(ftype, &info, &t.name, &t.dims);
            let data = meetara_format::quantize(ty, &t.values, t.dims[0] as usize, None)
                .expect("quantize");
            writer
                .add_tensor(&t.name, &t.dims, ty, data)
                .expect("a tensor");
        }
        writer.finish().expect("a model")
    }
}

fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

fn splitmix64(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
