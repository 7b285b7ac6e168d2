//! The CPU's encoder block against the same formulas in burn tensors: values and every gradient.

use std::sync::Arc;

use burn::backend::flex::Flex;
use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Distribution, Tensor, TensorData};

use super::cpu::Cpu;
use super::encoder::{
    Activation, Encoder, EncoderBlock, EncoderContext, HeadTargets, Heads, Texts,
};
use super::tests::assert_close;
use super::{TrainBackend, plain};
use crate::kernels::encoder_block::{Dropout, Layout, PARAMS, Spec};

const SPEC: Spec = Spec {
    width: 24,
    ff: 40,
    n_head: 3,
    norm_eps: 1e-12,
};

fn random<const D: usize>(shape: [usize; D], std: f64) -> Tensor<Cpu, D> {
    Tensor::random(shape, Distribution::Normal(0.0, std), &Default::default())
}

fn block() -> EncoderBlock<Cpu> {
    let lens = SPEC.param_lens();
    EncoderBlock {
        matrices: SPEC
            .matrix_shapes()
            .map(|(out, inputs)| Param::from_tensor(random([out, inputs], 0.2)))
            .to_vec(),
        vectors: (6..PARAMS.len())
            .map(|i| {
                let around = if i >= 12 && i % 2 == 0 { 1.0 } else { 0.0 };
                Param::from_tensor(random([lens[i]], 0.1) + around)
            })
            .collect(),
    }
}

/// Texts of many lengths: some span two attention blocks, and there is more than one part.
const LENGTHS: [usize; 7] = [3, 90, 1, 64, 17, 2, 40];

#[test]
fn the_kernel_matches_plain_tensors_in_values_and_every_gradient() {
    let n: usize = LENGTHS.iter().sum();
    let kept = |seed: usize| -> Vec<f32> {
        (0..n * SPEC.width)
            .map(|i| {
                if (i * 7919 + seed).is_multiple_of(10) {
                    0.0
                } else {
                    1.0 / 0.9
                }
            })
            .collect()
    };
    let dropout: Dropout = [kept(1), kept(5)];
    for dropout in [None, Some(Arc::new(dropout))] {
        let ctx = EncoderContext {
            spec: SPEC,
            layout: Arc::new(Layout::new(&LENGTHS, 50)),
            dropout,
        };
        assert!(ctx.layout.parts.len() > 2, "several parts");
        let block = block();
        let x = random([n, SPEC.width], 1.0).require_grad();
        // Weights of the sum, so that no gradient is the same for all rows.
        let mix = random([n, SPEC.width], 1.0);
        let ours = Cpu::encoder_block(x.clone(), &block, &ctx);
        let theirs = plain::encoder_block(x.clone(), &block, &ctx);
        assert_close("values", ours.clone().inner(), theirs.clone().inner());

        let ours = (ours * mix.clone()).sum().backward();
        let theirs = (theirs * mix).sum().backward();
        assert_close(
            "input",
            x.grad(&ours).expect("tracked"),
            x.grad(&theirs).expect("tracked"),
        );
        let mut ours = GradientsParams::from_grads(ours, &block);
        let mut theirs = GradientsParams::from_grads(theirs, &block);
        for (name, weight) in PARAMS.iter().zip(&block.matrices) {
            assert_close(
                name,
                ours.remove::<Flex, 2>(weight.id).expect("a gradient"),
                theirs.remove(weight.id).expect("a gradient"),
            );
        }
        for (name, values) in PARAMS[6..].iter().zip(&block.vectors) {
            assert_close(
                name,
                ours.remove::<Flex, 1>(values.id).expect("a gradient"),
                theirs.remove(values.id).expect("a gradient"),
            );
        }
        assert_eq!(ours.len(), 0, "a parameter was not compared");
    }
}

fn encoder() -> Encoder<Cpu> {
    Encoder {
        words: Param::from_tensor(random([30, SPEC.width], 0.5)),
        positions: Param::from_tensor(random([100, SPEC.width], 0.5)),
        norm_weight: Param::from_tensor(random([SPEC.width], 0.1) + 1.0),
        norm_bias: Param::from_tensor(random([SPEC.width], 0.1)),
        blocks: vec![block(), block()],
    }
}

#[test]
fn a_text_reads_the_same_alone_and_among_others() {
    let encoder = encoder();
    let ids: Vec<Vec<u32>> = LENGTHS
        .iter()
        .map(|len| {
            (0..*len as u32)
                .map(|i| (i * 7 + *len as u32) % 30)
                .collect()
        })
        .collect();
    let mut together = Texts::default();
    ids.iter().for_each(|ids| together.push(ids));
    let all = encoder.means(&SPEC, &together, None);
    for (i, ids) in ids.iter().enumerate() {
        let mut alone = Texts::default();
        alone.push(ids);
        let row = all.clone().narrow(0, i, 1).inner();
        assert_close("mean", row, encoder.means(&SPEC, &alone, None).inner());
    }
}

#[test]
fn losses_are_those_of_the_definition() {
    let one = |values: Vec<f32>| {
        let n = values.len();
        Param::from_tensor(Tensor::<Cpu, 1>::from_data(
            TensorData::new(values, [n]),
            &Default::default(),
        ))
    };
    let zeros = || Param::from_tensor(Tensor::<Cpu, 2>::zeros([2, 3], &Default::default()));
    let heads = Heads {
        weights: vec![zeros(), zeros()],
        biases: vec![one(vec![1.0, -2.0]), one(vec![0.5, 0.0])],
    };
    let target = |head, activation, wanted: &[f32]| HeadTargets {
        head,
        activation,
        texts: vec![0, 2],
        wanted: wanted.to_vec(),
        weight: [1.0, 2.0][head],
    };
    let means = Tensor::<Cpu, 2>::ones([3, 3], &Default::default());
    let loss = heads.loss_sum(
        &means,
        &[
            target(0, Activation::Sigmoid, &[1.0, 0.0, 0.0, 0.0]),
            target(1, Activation::Softmax, &[1.0, 0.0, 0.5, 0.5]),
        ],
    );
    let softplus = |x: f64| (1.0 + x.exp()).ln();
    let sigmoid = softplus(-1.0) + softplus(1.0) + 2.0 * softplus(-2.0);
    let total = (0.5f64.exp() + 1.0).ln();
    let softmax = (total - 0.5) + 0.5 * (total - 0.5) + 0.5 * total;
    let got: f64 = burn::tensor::ElementConversion::elem(loss.into_scalar());
    assert!((got - (sigmoid + 2.0 * softmax)).abs() < 1e-5, "{got}");
}
