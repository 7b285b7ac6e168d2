//! The CPU's encoder block as a single autodiff operation over `kernels::encoder_block`.

use std::fmt;
use std::sync::{Arc, Mutex};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::tensor::{Tensor, TensorPrimitive};

use super::cpu::{Cpu, Primitive, dense, primitive, to_flex, values};
use super::{EncoderBlock, EncoderContext};
use crate::kernels::encoder_block::{self, N_MATRICES, Saved, Weights};

/// What the backward pass needs; taken once.
#[derive(Clone)]
struct State(Arc<Mutex<Option<Memory>>>);

struct Memory {
    ctx: EncoderContext,
    weights: Weights,
    saved: Vec<Saved>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State")
    }
}

/// Parents: x, the six matrices, the ten vectors.
#[derive(Debug)]
struct Op;

impl Backward<Flex, 17> for Op {
    type State = State;

    fn backward(self, ops: Ops<Self::State, 17>, grads: &mut Gradients, _: &mut Checkpointer) {
        let taken = ops.state.0.lock().ok().and_then(|mut memory| memory.take());
        let mut memory = taken.expect("a block's backward pass runs once");
        let dy = dense(&grads.consume::<Flex>(&ops.node));
        let ctx = &memory.ctx;
        let mut dx = vec![0.0; values(&dy).len()];
        let sums = encoder_block::backward(
            &ctx.spec,
            &memory.weights,
            &ctx.layout,
            ctx.dropout.as_deref(),
            &mut memory.saved,
            values(&dy),
            &mut dx,
        );
        let rows = ctx.layout.spans.len();
        let mut parts = vec![to_flex(dx, [rows, ctx.spec.width])];
        let shapes = ctx.spec.matrix_shapes();
        for (i, sum) in sums.into_params().into_iter().enumerate() {
            parts.push(match shapes.get(i) {
                Some(&(out, inputs)) => to_flex(sum, [out, inputs]),
                None => {
                    let len = sum.len();
                    to_flex(sum, [len])
                }
            });
        }
        for (parent, grad) in ops.parents.into_iter().zip(parts) {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, grad);
            }
        }
    }
}

/// `x` `[N, C]` -> `[N, C]`.
pub(super) fn block(
    x: Tensor<Cpu, 2>,
    block: &EncoderBlock<Cpu>,
    ctx: &EncoderContext,
) -> Tensor<Cpu, 2> {
    let x = primitive(x);
    let matrices: [Primitive<2>; N_MATRICES] =
        std::array::from_fn(|i| primitive(block.matrices[i].val()));
    let vectors: [Primitive<1>; 16 - N_MATRICES] =
        std::array::from_fn(|i| primitive(block.vectors[i].val()));
    let params: [FlexTensor; 16] = std::array::from_fn(|i| match matrices.get(i) {
        Some(matrix) => dense(&matrix.primitive),
        None => dense(&vectors[i - N_MATRICES].primitive),
    });
    let weights = Weights::gather(std::array::from_fn(|i| values(&params[i])));
    let x_values = dense(&x.primitive);
    let mut y = vec![0.0; values(&x_values).len()];
    let saved = encoder_block::forward(
        &ctx.spec,
        &weights,
        &ctx.layout,
        ctx.dropout.as_deref(),
        values(&x_values),
        &mut y,
    );
    let y = to_flex(y, [ctx.layout.spans.len(), ctx.spec.width]);
    let nodes = std::array::from_fn(|i| match i {
        0 => x.node.clone(),
        _ if i <= N_MATRICES => matrices[i - 1].node.clone(),
        _ => vectors[i - 1 - N_MATRICES].node.clone(),
    });
    let out = match Op
        .prepare::<NoCheckpointing>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => {
            let memory = Memory {
                ctx: ctx.clone(),
                weights,
                saved,
            };
            prep.finish(State(Arc::new(Mutex::new(Some(memory)))), y)
        }
        OpsKind::UnTracked(prep) => prep.finish(y),
    };
    Tensor::from_primitive(TensorPrimitive::Float(out))
}
