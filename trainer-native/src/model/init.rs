//! Starting weights.

use burn::module::Param;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Block, Encoder, EncoderBlock, Llama, ModelSpec};
use crate::kernels::encoder_block::{N_MATRICES, PARAMS, Spec};

/// Fresh weights from a seed, the same on every back end.
///
/// Matrices are normal with standard deviation `1 / sqrt(in)`, the embedding 0.02; the two matrices that
/// write into the residual stream start at zero, so that every block begins as the identity.
pub fn llama<B: Backend>(spec: &ModelSpec, seed: u64, device: &B::Device) -> Llama<B> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = |rows, cols, std| normal(&mut rng, rows, cols, std, device);
    let embed = normal(spec.vocab_size, spec.embedding_length, 0.02);
    let ones = || Param::from_tensor(Tensor::<B, 1>::ones([spec.embedding_length], device));
    let shapes = spec.block_spec(0).linear_shapes();
    let blocks = (0..spec.block_count)
        .map(|_| Block {
            attn_norm: ones(),
            ffn_norm: ones(),
            linears: shapes
                .iter()
                .enumerate()
                .map(|(i, &(out, inputs))| {
                    let writes_residual = i == 3 || i == 6;
                    normal(
                        out,
                        inputs,
                        if writes_residual {
                            0.0
                        } else {
                            (inputs as f32).powf(-0.5)
                        },
                    )
                })
                .collect(),
        })
        .collect();
    Llama {
        embed,
        blocks,
        output_norm: ones(),
    }
}

/// Fresh weights of an encoder from a seed, as BERT begins (Devlin et al. 2019): matrices and embeddings
/// normal with standard deviation 0.02, biases zero, norms one.
pub fn encoder<B: Backend>(
    spec: &Spec,
    (vocab_size, positions, block_count): (usize, usize, usize),
    seed: u64,
    device: &B::Device,
) -> Encoder<B> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = |rows, cols| normal(&mut rng, rows, cols, 0.02, device);
    let flat =
        |value: f32, len: usize| Param::from_tensor(Tensor::<B, 1>::full([len], value, device));
    let lens = spec.param_lens();
    Encoder {
        words: normal(vocab_size, spec.width),
        positions: normal(positions, spec.width),
        norm_weight: flat(1.0, spec.width),
        norm_bias: flat(0.0, spec.width),
        blocks: (0..block_count)
            .map(|_| EncoderBlock {
                matrices: spec
                    .matrix_shapes()
                    .iter()
                    .map(|&(out, inputs)| normal(out, inputs))
                    .collect(),
                vectors: (N_MATRICES..PARAMS.len())
                    .map(|at| {
                        let is_norm = PARAMS[at].ends_with("_norm.weight");
                        flat(if is_norm { 1.0 } else { 0.0 }, lens[at])
                    })
                    .collect(),
            })
            .collect(),
    }
}

/// Normal numbers of standard deviation `std`, `[rows, cols]`.
pub fn normal<B: Backend>(
    rng: &mut impl Rng,
    rows: usize,
    cols: usize,
    std: f32,
    device: &B::Device,
) -> Param<Tensor<B, 2>> {
    let values: Vec<f32> = (0..rows * cols).map(|_| std * gaussian(rng)).collect();
    Param::from_tensor(Tensor::from_data(
        TensorData::new(values, [rows, cols]),
        device,
    ))
}

/// A standard normal number (Box and Muller 1958).
fn gaussian(rng: &mut impl Rng) -> f32 {
    let u: f32 = rng.random_range(f32::MIN_POSITIVE..1.0);
    let v: f32 = rng.random_range(0.0..std::f32::consts::TAU);
    (-2.0 * u.ln()).sqrt() * v.cos()
}
