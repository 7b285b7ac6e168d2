//! The CPU's implementation of the seam: a decoder block and the head as single autodiff operations.

use std::fmt;
use std::sync::{Arc, Mutex};

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::tensor::{Tensor, TensorData, TensorPrimitive};

use super::{
    Block, BlockAdapter, BlockContext, EncoderBlock, EncoderContext, Targets, TrainBackend,
};
use crate::kernels::block::{self, Grads, Saved, Wanted, Weights};
use crate::kernels::buffers::Buffer;
use crate::kernels::cross_entropy;
use crate::kernels::gemm::{Mat, MatMut, Store, gemm};
use crate::kernels::linear::LowRank;

/// The CPU back end with gradients.
pub type Cpu = Autodiff<Flex>;

pub(super) type Primitive<const D: usize> = <Tensor<Cpu, D> as PrimitiveOf>::Primitive;

/// Names the autodiff primitive, whose own path is private to burn.
pub(super) trait PrimitiveOf {
    type Primitive;
}

impl<const D: usize> PrimitiveOf for Tensor<Cpu, D> {
    type Primitive = <Cpu as burn::tensor::backend::BackendTypes>::FloatTensorPrimitive;
}

pub(super) fn primitive<const D: usize>(tensor: Tensor<Cpu, D>) -> Primitive<D> {
    tensor.into_primitive().tensor()
}

/// The values of a tensor as one slice, copied only when it is a strided view.
pub(super) fn dense(tensor: &FlexTensor) -> FlexTensor {
    if tensor.as_slice::<f32>().is_some() {
        tensor.clone()
    } else {
        tensor.to_contiguous()
    }
}

pub(super) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor
        .as_slice::<f32>()
        .unwrap_or_else(|| tensor.storage::<f32>())
}

pub(super) fn to_flex<const D: usize>(data: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(data, shape))
}

/// What the backward pass of a block needs; taken once.
struct BlockState(Arc<Mutex<Option<BlockMemory>>>);

struct BlockMemory {
    ctx: BlockContext,
    weights: Weights,
    saved: Vec<Saved>,
    /// The adapter's factors `(A, B)` and scale, when it has one.
    pairs: Vec<(FlexTensor, FlexTensor)>,
    scale: f32,
}

impl Clone for BlockState {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl fmt::Debug for BlockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockState")
    }
}

impl BlockState {
    fn new(memory: BlockMemory) -> Self {
        Self(Arc::new(Mutex::new(Some(memory))))
    }

    fn take(&self) -> BlockMemory {
        let taken = self.0.lock().ok().and_then(|mut memory| memory.take());
        taken.expect("a block's backward pass runs once")
    }
}

/// Parents: x, both norms, the seven matrices.
#[derive(Debug)]
struct FullBlock;

impl Backward<Flex, 10> for FullBlock {
    type State = BlockState;

    fn backward(self, ops: Ops<Self::State, 10>, grads: &mut Gradients, _: &mut Checkpointer) {
        let mut memory = ops.state.take();
        let dy = dense(&grads.consume::<Flex>(&ops.node));
        let (dx, sums) = run_backward(&mut memory, Wanted::Full, values(&dy));
        let Grads::Full(sums) = sums else { return };
        let spec = &memory.ctx.spec;
        let shapes = spec.linear_shapes();
        let mut parts: Vec<FlexTensor> = vec![dx];
        parts.push(to_flex(sums.attn_norm, [spec.width]));
        parts.push(to_flex(sums.ffn_norm, [spec.width]));
        let mut fused = [
            (&sums.qkv, 0),
            (&sums.o, 0),
            (&sums.gate_up, 0),
            (&sums.down, 0),
        ];
        for (i, (out, inputs)) in shapes.into_iter().enumerate() {
            let (source, at) = &mut fused[[0, 0, 0, 1, 2, 2, 3][i]];
            parts.push(to_flex(
                source[*at..*at + out * inputs].to_vec(),
                [out, inputs],
            ));
            *at += out * inputs;
        }
        for (parent, grad) in ops.parents.into_iter().zip(parts) {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, grad);
            }
        }
    }
}

/// Parents: x, then A and B of each of the seven pairs.
#[derive(Debug)]
struct LoraBlock;

impl Backward<Flex, 15> for LoraBlock {
    type State = BlockState;

    fn backward(self, ops: Ops<Self::State, 15>, grads: &mut Gradients, _: &mut Checkpointer) {
        let mut memory = ops.state.take();
        let dy = dense(&grads.consume::<Flex>(&ops.node));
        let pairs = std::mem::take(&mut memory.pairs);
        let shapes = memory.ctx.spec.linear_shapes();
        let rank = values(&pairs[0].0).len() / shapes[0].1;
        let scale = memory.scale;
        let low_rank: [LowRank; 7] = std::array::from_fn(|i| LowRank {
            a: values(&pairs[i].0),
            b: values(&pairs[i].1),
            rank,
            scale,
        });
        let (dx, sums) = run_backward(&mut memory, Wanted::LowRank(&low_rank), values(&dy));
        let Grads::LowRank(sums) = sums else { return };
        let mut parts: Vec<FlexTensor> = vec![dx];
        for ((da, db), (out, inputs)) in sums.into_iter().zip(shapes) {
            parts.push(to_flex(da, [rank, inputs]));
            parts.push(to_flex(db, [out, rank]));
        }
        for (parent, grad) in ops.parents.into_iter().zip(parts) {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, grad);
            }
        }
    }
}

fn run_backward(memory: &mut BlockMemory, wanted: Wanted, dy: &[f32]) -> (FlexTensor, Grads) {
    let ctx = &memory.ctx;
    let mut dx = vec![0.0; dy.len()];
    let sums = block::backward(
        &ctx.spec,
        &memory.weights,
        wanted,
        &mut memory.saved,
        &ctx.starts,
        ctx.positions,
        dy,
        &mut dx,
    );
    let shape = [
        ctx.starts.len() / ctx.positions,
        ctx.positions,
        ctx.spec.width,
    ];
    (to_flex(dx, shape), sums)
}

/// The head's gradients, formed in the forward pass.
#[derive(Clone, Debug)]
struct HeadState {
    /// Gradients for x, norm and embedding.
    parts: Arc<Mutex<Vec<FlexTensor>>>,
}

/// Parents: x, norm, embedding.
#[derive(Debug)]
struct Head;

impl Backward<Flex, 3> for Head {
    type State = HeadState;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let upstream = dense(&grads.consume::<Flex>(&ops.node));
        let scale = values(&upstream)[0];
        let parts = ops
            .state
            .parts
            .lock()
            .map(|mut parts| std::mem::take(&mut *parts))
            .unwrap_or_default();
        for (parent, grad) in ops.parents.into_iter().zip(parts) {
            if let Some(parent) = parent {
                let scaled = Tensor::<Flex, 1>::from_primitive(TensorPrimitive::Float(grad))
                    .mul_scalar(scale);
                grads.register::<Flex>(parent.id, scaled.into_primitive().tensor());
            }
        }
    }
}

impl TrainBackend for Cpu {
    fn block(x: Tensor<Self, 3>, params: &Block<Self>, ctx: &BlockContext) -> Tensor<Self, 3> {
        let x = primitive(x);
        let attn_norm = primitive(params.attn_norm.val());
        let ffn_norm = primitive(params.ffn_norm.val());
        let linears: [Primitive<2>; 7] =
            std::array::from_fn(|i| primitive(params.linears[i].val()));
        let dense_linears: [FlexTensor; 7] = std::array::from_fn(|i| dense(&linears[i].primitive));
        let weights = Weights::gather(
            values(&dense(&attn_norm.primitive)),
            values(&dense(&ffn_norm.primitive)),
            std::array::from_fn(|i| values(&dense_linears[i])),
        );
        let (y, saved) = run_forward(&x.primitive, &weights, ctx);
        let l = &linears;
        let nodes = [
            x.node.clone(),
            attn_norm.node.clone(),
            ffn_norm.node.clone(),
            l[0].node.clone(),
            l[1].node.clone(),
            l[2].node.clone(),
            l[3].node.clone(),
            l[4].node.clone(),
            l[5].node.clone(),
            l[6].node.clone(),
        ];
        let out = match FullBlock
            .prepare::<NoCheckpointing>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let memory = BlockMemory {
                    ctx: ctx.clone(),
                    weights,
                    saved,
                    pairs: Vec::new(),
                    scale: 0.0,
                };
                prep.finish(BlockState::new(memory), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        };
        Tensor::from_primitive(TensorPrimitive::Float(out))
    }

    fn block_lora(
        x: Tensor<Self, 3>,
        frozen: &Block<Self>,
        adapter: &BlockAdapter<Self>,
        ctx: &BlockContext,
    ) -> Tensor<Self, 3> {
        let x = primitive(x);
        let factors: [(Primitive<2>, Primitive<2>); 7] = std::array::from_fn(|i| {
            (
                primitive(adapter.pairs[i].a.val()),
                primitive(adapter.pairs[i].b.val()),
            )
        });
        let pairs: Vec<(FlexTensor, FlexTensor)> = factors
            .iter()
            .map(|(a, b)| (dense(&a.primitive), dense(&b.primitive)))
            .collect();
        let merged: [Buffer; 7] = std::array::from_fn(|i| {
            let base = dense(&primitive(frozen.linears[i].val()).primitive);
            let (out, inputs) = ctx.spec.linear_shapes()[i];
            let mut weight = Buffer::take(out * inputs);
            weight.copy_from_slice(values(&base));
            let rank = values(&pairs[i].0).len() / inputs;
            let (a, b) = (
                Mat::new(values(&pairs[i].0), rank, inputs),
                Mat::new(values(&pairs[i].1), out, rank),
            );
            gemm(
                Store::Add,
                adapter.scale,
                b,
                a,
                MatMut::new(&mut weight, out, inputs),
            );
            weight
        });
        let weights = Weights::gather(
            values(&dense(&primitive(frozen.attn_norm.val()).primitive)),
            values(&dense(&primitive(frozen.ffn_norm.val()).primitive)),
            std::array::from_fn(|i| &merged[i][..]),
        );
        let (y, saved) = run_forward(&x.primitive, &weights, ctx);
        let f = &factors;
        let nodes = [
            x.node.clone(),
            f[0].0.node.clone(),
            f[0].1.node.clone(),
            f[1].0.node.clone(),
            f[1].1.node.clone(),
            f[2].0.node.clone(),
            f[2].1.node.clone(),
            f[3].0.node.clone(),
            f[3].1.node.clone(),
            f[4].0.node.clone(),
            f[4].1.node.clone(),
            f[5].0.node.clone(),
            f[5].1.node.clone(),
            f[6].0.node.clone(),
            f[6].1.node.clone(),
        ];
        let out = match LoraBlock
            .prepare::<NoCheckpointing>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let memory = BlockMemory {
                    ctx: ctx.clone(),
                    weights,
                    saved,
                    pairs,
                    scale: adapter.scale,
                };
                prep.finish(BlockState::new(memory), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        };
        Tensor::from_primitive(TensorPrimitive::Float(out))
    }

    fn head(
        x: Tensor<Self, 3>,
        norm: Tensor<Self, 1>,
        embed: Tensor<Self, 2>,
        targets: &Targets,
    ) -> Tensor<Self, 1> {
        let [rows, t, c] = x.dims();
        let (x, norm, embed) = (primitive(x), primitive(norm), primitive(embed));
        let nodes = [x.node.clone(), norm.node.clone(), embed.node.clone()];
        let wanted = match (x.is_tracked(), embed.is_tracked()) {
            (_, true) => cross_entropy::Wanted::All,
            (true, false) => cross_entropy::Wanted::Input,
            (false, false) => cross_entropy::Wanted::Loss,
        };
        let (x_values, norm_values, embed_values) = (
            dense(&x.primitive),
            dense(&norm.primitive),
            dense(&embed.primitive),
        );
        let out = cross_entropy::run(
            wanted,
            values(&x_values),
            values(&norm_values),
            values(&embed_values),
            &targets.ids,
            &targets.weights,
            targets.rms_eps,
        );
        let loss = to_flex(vec![out.loss_sum as f32], [1]);
        let node = match Head
            .prepare::<NoCheckpointing>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let v = values(&embed_values).len() / c;
                let mut parts = vec![to_flex(out.dx, [rows, t, c])];
                if wanted == cross_entropy::Wanted::All {
                    parts.push(to_flex(out.d_norm, [c]));
                    parts.push(to_flex(out.d_embed, [v, c]));
                }
                prep.finish(
                    HeadState {
                        parts: Arc::new(Mutex::new(parts)),
                    },
                    loss,
                )
            }
            OpsKind::UnTracked(prep) => prep.finish(loss),
        };
        Tensor::from_primitive(TensorPrimitive::Float(node))
    }

    fn encoder_block(
        x: Tensor<Self, 2>,
        block: &EncoderBlock<Self>,
        ctx: &EncoderContext,
    ) -> Tensor<Self, 2> {
        super::cpu_encoder::block(x, block, ctx)
    }
}

fn run_forward(x: &FlexTensor, weights: &Weights, ctx: &BlockContext) -> (FlexTensor, Vec<Saved>) {
    let x = dense(x);
    let mut y = vec![0.0; values(&x).len()];
    let saved = block::forward(
        &ctx.spec,
        weights,
        values(&x),
        &ctx.starts,
        ctx.positions,
        &mut y,
    );
    let shape = [
        ctx.starts.len() / ctx.positions,
        ctx.positions,
        ctx.spec.width,
    ];
    (to_flex(y, shape), saved)
}
