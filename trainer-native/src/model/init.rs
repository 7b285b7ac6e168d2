//! Starting weights.

use burn::module::Param;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Block, Llama, ModelSpec};

/// Fresh weights from a seed, the same on every back end.
///
/// Matrices are normal with standard deviation `1 / sqrt(in)`, the embedding 0.02; the two matrices that
/// write into the residual stream start at zero, so that every block begins as the identity.
pub fn llama<B: Backend>(spec: &ModelSpec, seed: u64, device: &B::Device) -> Llama<B> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = |rows: usize, cols: usize, std: f32| {
        let values: Vec<f32> = (0..rows * cols).map(|_| std * gaussian(&mut rng)).collect();
        Param::from_tensor(Tensor::<B, 2>::from_data(
            TensorData::new(values, [rows, cols]),
            device,
        ))
    };
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

/// A standard normal number (Box and Muller 1958).
fn gaussian(rng: &mut impl Rng) -> f32 {
    let u: f32 = rng.random_range(f32::MIN_POSITIVE..1.0);
    let v: f32 = rng.random_range(0.0..std::f32::consts::TAU);
    (-2.0 * u.ln()).sqrt() * v.cos()
}
