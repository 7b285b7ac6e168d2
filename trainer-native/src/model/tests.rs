//! The CPU's kernels against the same formulas in burn tensors: losses and every gradient.

use burn::backend::Autodiff;
use burn::backend::flex::Flex;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{ElementConversion, Tensor};

use super::cpu::Cpu;
use super::{Block, BlockAdapter, BlockContext, Llama, Lora, ModelSpec, Targets, init, plain};
use crate::data::pack::Batch;

fn spec() -> ModelSpec {
    ModelSpec {
        embedding_length: 32,
        block_count: 2,
        head_count: 4,
        head_count_kv: 2,
        feed_forward_length: 48,
        vocab_size: 64,
        context_length: 160,
        ..ModelSpec::default()
    }
}

/// Three rows of 150 positions (more than two attention blocks), each of two documents.
fn batch(positions: usize) -> Batch {
    let n = 3 * positions;
    let pick = |i: usize| ((i * 7919 + 13) % 61) as u32;
    Batch {
        positions,
        tokens: (0..n).map(pick).collect(),
        targets: (0..n).map(|i| pick(i + 1)).collect(),
        weights: (0..n).map(|i| [1.0, 0.5, 0.0][i % 3]).collect(),
        starts: (0..n)
            .map(|i| if i % positions < 70 { 0 } else { 70 })
            .collect(),
    }
}

/// Weights without the zeros of a fresh model, so that every gradient is exercised.
fn model(spec: &ModelSpec) -> Llama<Cpu> {
    let device = Default::default();
    let mut model = init::llama::<Cpu>(spec, 3, &device);
    let other = init::llama::<Cpu>(&ModelSpec { ..spec.clone() }, 4, &device);
    for (block, donor) in model.blocks.iter_mut().zip(other.blocks) {
        for i in [3, 6] {
            let shape = block.linears[i].dims();
            let noise = donor.linears[4]
                .val()
                .reshape([-1])
                .narrow(0, 0, shape[0] * shape[1]);
            block.linears[i] = burn::module::Param::from_tensor(noise.reshape(shape).detach());
        }
    }
    model
}

/// The same model through `plain` on an ordinary autodiff back end.
fn plain_loss(
    model: &Llama<Cpu>,
    spec: &ModelSpec,
    batch: &Batch,
    adapter: Option<&Lora<Cpu>>,
) -> Tensor<Autodiff<Flex>, 1> {
    let positions = batch.positions;
    let block_spec = spec.block_spec(positions);
    let ctx = BlockContext {
        spec: block_spec.clone(),
        starts: std::sync::Arc::new(batch.starts.clone()),
        positions,
    };
    let rows = batch.tokens.len() / positions;
    let ids: Vec<i32> = batch.tokens.iter().map(|id| *id as i32).collect();
    let ids = Tensor::<Cpu, 1, burn::tensor::Int>::from_data(
        burn::tensor::TensorData::new(ids, [batch.tokens.len()]),
        &Default::default(),
    );
    let mut x = model
        .embed
        .val()
        .select(0, ids)
        .reshape([rows, positions, spec.embedding_length]);
    for (i, block) in model.blocks.iter().enumerate() {
        let adapter: Option<&BlockAdapter<Cpu>> = adapter.map(|a| &a.blocks[i]);
        let block: &Block<Cpu> = block;
        x = plain::block(x, block, adapter, &ctx);
    }
    let targets = Targets {
        ids: std::sync::Arc::new(batch.targets.clone()),
        weights: std::sync::Arc::new(batch.weights.clone()),
        rms_eps: spec.rms_eps,
    };
    plain::head(x, model.output_norm.val(), model.embed.val(), &targets)
}

pub(super) fn assert_close<const D: usize>(
    name: &str,
    ours: Tensor<Flex, D>,
    theirs: Tensor<Flex, D>,
) {
    let scale = theirs
        .clone()
        .abs()
        .max()
        .into_scalar()
        .elem::<f32>()
        .max(1e-6);
    let gap = (ours - theirs).abs().max().into_scalar().elem::<f32>();
    assert!(
        gap <= 2e-5 * scale.max(1.0) + 2e-4 * scale,
        "{name}: gap {gap} against magnitude {scale}"
    );
}

#[test]
fn kernels_match_plain_tensors_in_loss_and_every_gradient() {
    let spec = spec();
    let positions = 150;
    let batch = batch(positions);
    let model = model(&spec);
    let block_spec = spec.block_spec(positions);

    let ours = model.loss_sum(&block_spec, &batch, None);
    let theirs = plain_loss(&model, &spec, &batch, None);
    let (a, b) = (
        ours.clone().into_scalar().elem::<f64>(),
        theirs.clone().into_scalar().elem::<f64>(),
    );
    assert!((a - b).abs() / b < 1e-5, "loss {a} against {b}");

    let mut ours = GradientsParams::from_grads(ours.backward(), &model);
    let mut theirs = GradientsParams::from_grads(theirs.backward(), &model);
    let mut compared = 0;
    for (i, block) in model.blocks.iter().enumerate() {
        for (j, weight) in block.linears.iter().enumerate() {
            let name = format!("block {i} linear {j}");
            assert_close(
                &name,
                ours.remove::<Flex, 2>(weight.id).unwrap(),
                theirs.remove(weight.id).unwrap(),
            );
            compared += 1;
        }
        for norm in [&block.attn_norm, &block.ffn_norm] {
            let name = format!("block {i} norm");
            assert_close(
                &name,
                ours.remove::<Flex, 1>(norm.id).unwrap(),
                theirs.remove(norm.id).unwrap(),
            );
            compared += 1;
        }
    }
    let norm = model.output_norm.id;
    assert_close(
        "output norm",
        ours.remove::<Flex, 1>(norm).unwrap(),
        theirs.remove(norm).unwrap(),
    );
    let embed = model.embed.id;
    assert_close(
        "embedding",
        ours.remove::<Flex, 2>(embed).unwrap(),
        theirs.remove(embed).unwrap(),
    );
    assert_eq!(compared, 18);
    assert_eq!(ours.len(), 0, "a parameter was not compared");
}

#[test]
fn low_rank_kernels_match_plain_tensors() {
    let spec = spec();
    let positions = 96;
    let batch = batch(positions);
    let model = model(&spec).no_grad();
    let device = Default::default();
    let mut adapter = Lora::<Cpu>::new(&spec, 4, 8.0, &device);
    for block in &mut adapter.blocks {
        for pair in &mut block.pairs {
            let noise = Tensor::random(
                pair.b.dims(),
                burn::tensor::Distribution::Normal(0.0, 0.1),
                &device,
            );
            pair.b = burn::module::Param::from_tensor(noise);
        }
    }
    let ours = model.loss_sum(&spec.block_spec(positions), &batch, Some(&adapter));
    let theirs = plain_loss(&model, &spec, &batch, Some(&adapter));
    let (a, b) = (
        ours.clone().into_scalar().elem::<f64>(),
        theirs.clone().into_scalar().elem::<f64>(),
    );
    assert!((a - b).abs() / b < 1e-5, "loss {a} against {b}");
    let mut ours = GradientsParams::from_grads(ours.backward(), &adapter);
    let mut theirs = GradientsParams::from_grads(theirs.backward(), &adapter);
    for (i, block) in adapter.blocks.iter().enumerate() {
        for (j, pair) in block.pairs.iter().enumerate() {
            for id in [pair.a.id, pair.b.id] {
                let name = format!("block {i} pair {j}");
                assert_close(
                    &name,
                    ours.remove::<Flex, 2>(id).unwrap(),
                    theirs.remove(id).unwrap(),
                );
            }
        }
    }
    assert_eq!(ours.len(), 0);
}

#[test]
fn a_merged_adapter_gives_the_same_loss() {
    let spec = spec();
    let positions = 40;
    let batch = batch(positions);
    let device = Default::default();
    let model = model(&spec).no_grad();
    let mut adapter = Lora::<Cpu>::new(&spec, 4, 8.0, &device);
    for block in &mut adapter.blocks {
        for pair in &mut block.pairs {
            let noise = Tensor::random(
                pair.b.dims(),
                burn::tensor::Distribution::Normal(0.0, 0.1),
                &device,
            );
            pair.b = burn::module::Param::from_tensor(noise);
        }
    }
    let block_spec = spec.block_spec(positions);
    let apart = model
        .loss_sum(&block_spec, &batch, Some(&adapter))
        .into_scalar()
        .elem::<f64>();
    let plain = model
        .loss_sum(&block_spec, &batch, None)
        .into_scalar()
        .elem::<f64>();
    let merged = adapter.merge(model);
    let together = merged
        .loss_sum(&block_spec, &batch, None)
        .into_scalar()
        .elem::<f64>();
    assert!(
        (apart - together).abs() / together < 1e-5,
        "{apart} against {together}"
    );
    assert!(
        (plain - together).abs() > 1e-3,
        "the adapter changed nothing"
    );
}
