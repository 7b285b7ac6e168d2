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

use meetara_format::{GgmlType, Gguf, Value, Writer};

const SEED: u64 = 0x6D65_6574_6172_6131;
const STD_OF_SUM: f64 = 37837.2;
const N_VOCAB: usize = 512;
const N_CONTROL: usize = 16;

/// One model's shape.
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
}

/// The three models of `tests/vectors/tiny`; `models.py` says what each is for.
pub const SPECS: [Spec; 3] = [
    Spec {
        name: "tiny",
        n_embd: 96,
        n_ff: 204,
        n_layer: 2,
        n_head: 4,
        n_head_kv: 2,
        tied: true,
        seed: 137,
    },
    Spec {
        name: "wide",
        n_embd: 256,
        n_ff: 256,
        n_layer: 2,
        n_head: 4,
        n_head_kv: 2,
        tied: true,
        seed: 382,
    },
    Spec {
        name: "untied",
        n_embd: 256,
        n_ff: 512,
        n_layer: 1,
        n_head: 8,
        n_head_kv: 2,
        tied: false,
        seed: 9,
    },
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
            .expect("a model of tests/vectors/tiny")
    }

    /// Every tensor, in file order.
    pub fn tensors(&self) -> Vec<Tensor> {
        let (d, ff, kv) = (
            self.n_embd,
            self.n_ff,
            self.n_head_kv * (self.n_embd / self.n_head),
        );
        let by_root = |scale: f64, n: usize| scale / (n as f64).sqrt();
        let mut all = vec![self.tensor("token_embd.weight".into(), &[d, N_VOCAB], 0.0, 0.1)];
        for i in 0..self.n_layer {
            let mut add = |name: &str, dims: &[usize], centre, std| {
                all.push(self.tensor(format!("blk.{i}.{name}.weight"), dims, centre, std));
            };
            add("attn_norm", &[d], 1.0, 0.1);
            add("attn_q", &[d, d], 0.0, by_root(1.3, d));
            add("attn_k", &[d, kv], 0.0, by_root(1.3, d));
            add("attn_v", &[d, kv], 0.0, by_root(1.0, d));
            add("attn_output", &[d, d], 0.0, by_root(1.0, d));
            add("ffn_norm", &[d], 1.0, 0.1);
            add("ffn_gate", &[d, ff], 0.0, by_root(1.2, d));
            add("ffn_up", &[d, ff], 0.0, by_root(1.2, d));
            add("ffn_down", &[ff, d], 0.0, by_root(1.5, ff));
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

    /// The model as a GGUF file with every matrix in `ty` (F32, F16 or BF16) and norms in F32.
    pub fn gguf(&self, ty: GgmlType) -> Vec<u8> {
        let kept = super::read("tests/vectors/tiny/tiny-f32.gguf");
        let header = Gguf::parse(&kept, kept.len() as u64).expect("tiny-f32.gguf");
        let mut writer = Writer::new("llama");
        for (key, value) in &header.metadata {
            writer.set(key, value.clone());
        }
        let head_dim = (self.n_embd / self.n_head) as u32;
        for (key, value) in [
            ("embedding_length", self.n_embd as u32),
            ("block_count", self.n_layer as u32),
            ("feed_forward_length", self.n_ff as u32),
            ("attention.head_count", self.n_head as u32),
            ("attention.head_count_kv", self.n_head_kv as u32),
            ("rope.dimension_count", head_dim),
        ] {
            writer.set(&format!("llama.{key}"), Value::U32(value));
        }
        for t in self.tensors() {
            let ty = if t.dims.len() == 1 { GgmlType::F32 } else { ty };
            let data = meetara_format::quantize(ty, &t.values, t.dims[0] as usize, None)
                .expect("quantize");
            writer
                .add_tensor(&t.name, &t.dims, ty, data)
                .expect("a tensor");
        }
        writer.finish().expect("a tiny model")
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
