//! The forward pass against a plain one in `f64`, written here from the model's definition.

use std::sync::Arc;

use meetara_engine::conformance::{Random, Shape, VOCAB_MIN, random_model};
use meetara_engine::generate::Session;
use meetara_engine::model::Model;
use meetara_format::{GgmlType, Gguf, Value, Writer, dequantize};

const SHAPE: Shape = Shape {
    n_layer: 3,
    n_embd: 64,
    n_head: 4,
    n_head_kv: 2,
    n_ff: 96,
    n_vocab: VOCAB_MIN + 7,
    context_len: 128,
};

/// The weights of a file, all of them widened.
struct Weights<'a> {
    gguf: Gguf,
    file: &'a [u8],
}

impl Weights<'_> {
    fn get(&self, name: &str) -> Option<Vec<f64>> {
        let tensor = self.gguf.tensor(name)?;
        let data = self.gguf.tensor_data(tensor, self.file).unwrap();
        let values = dequantize(tensor.ty, data, tensor.elements() as usize).unwrap();
        Some(values.into_iter().map(f64::from).collect())
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = self.get(&format!("{name}.weight")).unwrap();
        let bias = self.get(&format!("{name}.bias"));
        let rows = weight.chunks_exact(x.len()).enumerate();
        rows.map(|(i, row)| {
            let dot: f64 = row.iter().zip(x).map(|(w, x)| w * x).sum();
            dot + bias.as_ref().map_or(0.0, |bias| bias[i])
        })
        .collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = self.get(name).unwrap();
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (mean + 1e-5f32 as f64).sqrt();
        x.iter().zip(weight).map(|(x, w)| x * scale * w).collect()
    }
}

/// What the cache keeps of a number.
fn half(x: f64) -> f64 {
    half::f16::from_f32(x as f32).to_f64()
}

/// Logits after every token.
fn reference(file: &[u8], shape: Shape, base: f64, scale: f64, tokens: &[u32]) -> Vec<Vec<f64>> {
    let w = Weights {
        gguf: Gguf::parse(file, file.len() as u64).unwrap(),
        file,
    };
    let head_dim = shape.n_embd / shape.n_head;
    let factors = w
        .get("rope_freqs.weight")
        .unwrap_or(vec![1.0; head_dim / 2]);
    let rotate = |x: &mut [f64], position: usize| {
        for head in x.chunks_exact_mut(head_dim) {
            for i in 0..head_dim / 2 {
                let turn = base.powf(-2.0 * i as f64 / head_dim as f64) / factors[i] / scale;
                let (sin, cos) = (position as f64 * turn).sin_cos();
                let (a, b) = (head[2 * i], head[2 * i + 1]);
                head[2 * i] = a * cos - b * sin;
                head[2 * i + 1] = a * sin + b * cos;
            }
        }
    };
    let embedding = w.get("token_embd.weight").unwrap();
    let mut keys = vec![Vec::<Vec<f64>>::new(); shape.n_layer];
    let mut values = keys.clone();
    let mut all = Vec::new();
    for (position, &token) in tokens.iter().enumerate() {
        let mut x = embedding[token as usize * shape.n_embd..][..shape.n_embd].to_vec();
        for layer in 0..shape.n_layer {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let normed = w.norm(&name("attn_norm.weight"), &x);
            let mut q = w.linear(&name("attn_q"), &normed);
            let mut k = w.linear(&name("attn_k"), &normed);
            rotate(&mut q, position);
            rotate(&mut k, position);
            keys[layer].push(k.into_iter().map(half).collect());
            values[layer].push(
                w.linear(&name("attn_v"), &normed)
                    .into_iter()
                    .map(half)
                    .collect(),
            );
            let mut attended = vec![0.0; shape.n_embd];
            for head in 0..shape.n_head {
                let at = head / (shape.n_head / shape.n_head_kv) * head_dim;
                let q = &q[head * head_dim..][..head_dim];
                let scores = keys[layer].iter().map(|k| {
                    let dot: f64 = q.iter().zip(&k[at..]).map(|(q, k)| q * k).sum();
                    (dot / (head_dim as f64).sqrt()).exp()
                });
                let scores: Vec<f64> = scores.collect();
                let sum: f64 = scores.iter().sum();
                for (score, v) in scores.iter().zip(&values[layer]) {
                    for i in 0..head_dim {
                        attended[head * head_dim + i] += score / sum * v[at + i];
                    }
                }
            }
            for (x, y) in x.iter_mut().zip(w.linear(&name("attn_output"), &attended)) {
                *x += y;
            }
            let normed = w.norm(&name("ffn_norm.weight"), &x);
            let gate = w.linear(&name("ffn_gate"), &normed);
            let up = w.linear(&name("ffn_up"), &normed);
            let hidden: Vec<f64> = gate
                .iter()
                .zip(up)
                .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                .collect();
            for (x, y) in x.iter_mut().zip(w.linear(&name("ffn_down"), &hidden)) {
                *x += y;
            }
        }
        let normed = w.norm("output_norm.weight", &x);
        let output = if w.gguf.tensor("output.weight").is_some() {
            "output"
        } else {
            "token_embd"
        };
        all.push(w.linear(output, &normed));
    }
    all
}

/// Root mean square difference of the logits over the root mean square of the reference.
fn error(file: Vec<u8>, shape: Shape, base: f64, scale: f64) -> f64 {
    let mut random = Random::new(9);
    let tokens: Vec<u32> = (0..70)
        .map(|_| (random.bits() % shape.n_vocab as u64) as u32)
        .collect();
    let wanted = reference(&file, shape, base, scale, &tokens);
    let mut session = Session::new(Arc::new(Model::load(file).unwrap()), None).unwrap();
    let (mut square, mut size, mut rows) = (0.0, 0.0, 0);
    session
        .score(&tokens, |i, logits| {
            assert_eq!(logits.len(), shape.n_vocab);
            for (&found, wanted) in logits.iter().zip(&wanted[i]) {
                square += (f64::from(found) - wanted).powi(2);
                size += wanted.powi(2);
            }
            rows += 1;
        })
        .unwrap();
    assert_eq!(rows, tokens.len());
    (square / size).sqrt()
}

#[test]
fn float_weights_follow_the_reference_closely() {
    let file = random_model(SHAPE, 4, |_| GgmlType::F32).unwrap();
    let error = error(file, SHAPE, 10_000.0, 1.0);
    assert!(error < 2e-4, "{error}");
}

#[test]
fn eight_bit_activations_cost_little() {
    // Weights are exact in all of these: what differs is the activations' rounding.
    let wide = Shape {
        n_embd: 256,
        n_ff: 512,
        n_layer: 2,
        ..SHAPE
    };
    for (ty, shape, error_max) in [
        (GgmlType::F16, SHAPE, 2e-4),
        (GgmlType::BF16, SHAPE, 2e-4),
        (GgmlType::Q8_0, SHAPE, 0.03),
        (GgmlType::Q4_0, SHAPE, 0.03),
        (GgmlType::Q4_1, SHAPE, 0.03),
        (GgmlType::Q5_0, SHAPE, 0.03),
        (GgmlType::Q5_1, SHAPE, 0.03),
        (GgmlType::Q4_K, wide, 0.04),
        (GgmlType::Q5_K, wide, 0.04),
        (GgmlType::Q6_K, wide, 0.04),
    ] {
        let error = error(
            random_model(shape, 5, |_| ty).unwrap(),
            shape,
            10_000.0,
            1.0,
        );
        eprintln!("{ty}: {error:.5}");
        assert!(error < error_max, "{ty}: {error}");
    }
}

#[test]
fn biases_an_output_matrix_factors_and_scaling_take_part() {
    let plain = random_model(SHAPE, 6, |_| GgmlType::F32).unwrap();
    let gguf = Gguf::parse(&plain, plain.len() as u64).unwrap();
    let mut writer = Writer::from_gguf(&gguf, &plain).unwrap();
    let mut random = Random::new(7);
    let mut add = |name: &str, dims: &[u64], centre: f32, size: f32| {
        let n = dims.iter().product::<u64>();
        let data: Vec<u8> = (0..n)
            .flat_map(|_| (centre + size * random.float()).to_le_bytes())
            .collect();
        writer.add_tensor(name, dims, GgmlType::F32, data).unwrap();
    };
    let (d, kv, ff, vocab) = (64, 32, 96, SHAPE.n_vocab as u64);
    for layer in 0..3 {
        for (part, n) in [
            ("attn_q", d),
            ("attn_k", kv),
            ("attn_v", kv),
            ("attn_output", d),
            ("ffn_gate", ff),
            ("ffn_up", ff),
            ("ffn_down", d),
        ] {
            add(&format!("blk.{layer}.{part}.bias"), &[n], 0.0, 0.5);
        }
    }
    add("output.weight", &[d, vocab], 0.0, 1.0);
    add("output.bias", &[vocab], 0.0, 1.0);
    add("rope_freqs.weight", &[8], 2.0, 1.0);
    writer.set("llama.rope.freq_base", Value::F32(500.0));
    writer.set("llama.rope.scaling.type", "linear");
    writer.set("llama.rope.scaling.factor", Value::F32(4.0));
    let file = writer.finish().unwrap();
    let error = error(file, SHAPE, 500.0, 4.0);
    assert!(error < 2e-4, "{error}");
}
