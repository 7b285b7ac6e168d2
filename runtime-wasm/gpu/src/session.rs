//! One conversation's keys and values on the GPU, and the passes that fill them.

use std::cell::Cell;
use std::sync::Arc;

use meetara_engine::nn::COLUMNS_MAX;

use crate::kernels::matvec::{ADD, CACHE, ONE};
use crate::kernels::{Op, attention, embed, matvec, rms_norm, rope, silu_mul};
use crate::model::GpuModel;
use crate::readback;
use crate::reason::Reason;

/// Evaluates tokens; every buffer and dispatch is made once.
#[derive(Debug)]
pub struct GpuSession {
    model: Arc<GpuModel>,
    /// Tokens whose keys and values the cache holds, by position.
    tokens: Vec<u32>,
    context_max: usize,
    /// The dispatches of a pass, in order.
    pass: Vec<Op>,
    /// Those that make logits of its last column.
    head: Vec<Op>,
    step: wgpu::Buffer,
    /// (C)
    token_ids: wgpu::Buffer,
    /// (cos, sin): (C, head_dim / 2)
    angles: wgpu::Buffer,
    /// (n_vocab)
    logits: wgpu::Buffer,
    /// The same, for the CPU to read.
    readback: wgpu::Buffer,
    /// (n_vocab)
    out: Vec<f32>,
    /// (C, head_dim / 2) of (cos, sin)
    turned: Vec<f32>,
    /// Of the session's buffers, the model's not counted.
    bytes: u64,
}

impl GpuSession {
    /// A session over `model` of at most `context_max` tokens; keys and values are kept as F32.
    ///
    /// # Errors
    /// [`Reason::Unsupported`] for a tensor that is missing or too long for the device,
    /// [`Reason::Failed`] when the memory cannot be had.
    pub async fn new(model: Arc<GpuModel>, context_max: u32) -> Result<Self, Reason> {
        let (gpu, config, weights) = (&model.gpu, &model.config, &model.weights);
        let context_max = context_max as usize;
        let (n_embd, n_ff) = (config.n_embd, config.n_ff);
        let (n_q, n_kv) = (config.n_embd_q(), config.n_embd_kv());
        let limits = gpu.device.limits();
        let bytes_max = limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size);
        let cache_bytes = 4 * context_max as u64 * n_kv as u64;
        if cache_bytes > bytes_max {
            return Err(Reason::unsupported(format!(
                "a layer's keys take {cache_bytes} bytes, the device allows {bytes_max} in one buffer"
            )));
        }
        let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let bytes = Cell::new(0);
        let buffer = |label, floats: usize, usage| {
            let size = 4 * floats.max(4) as u64;
            bytes.set(bytes.get() + size);
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let storage = |label, floats| buffer(label, floats, wgpu::BufferUsages::STORAGE);
        let written = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let read = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let mappable = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let uniform = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let step = buffer("step", 4, uniform);
        let token_ids = buffer("tokens", COLUMNS_MAX, written);
        let angles = buffer("angles", COLUMNS_MAX * config.head_dim, written);
        let logits = buffer("logits", config.n_vocab, read);
        let readback = buffer("readback", config.n_vocab, mappable);
        let x = storage("x", COLUMNS_MAX * n_embd);
        let normed = storage("normed", COLUMNS_MAX * n_embd);
        let q = storage("q", COLUMNS_MAX * n_q);
        let attended = storage("attended", COLUMNS_MAX * n_q);
        let gate = storage("gate", COLUMNS_MAX * n_ff);
        let up = storage("up", COLUMNS_MAX * n_ff);

        let linear =
            |name: &str, [n_in, n_out]: [usize; 2], x: &wgpu::Buffer, y: &wgpu::Buffer, flags| {
                let weight = weights.matrix(&format!("{name}.weight"), n_in, n_out)?;
                let bias = weights.get(&format!("{name}.bias"));
                matvec::matvec(&model, &step, weight, bias, x, y, flags).ok_or_else(|| {
                    Reason::unsupported(format!("there is no kernel for {name}.weight"))
                })
            };
        let norm = |name: &str, x: &wgpu::Buffer, y: &wgpu::Buffer, last| {
            let weight = weights.matrix(name, n_embd, 1)?;
            Ok::<_, Reason>(rms_norm::rms_norm(&model, &step, weight, x, y, last))
        };
        let table = weights.matrix("token_embd.weight", n_embd, config.n_vocab)?;
        let mut pass = vec![embed::embed(&model, &step, table, &token_ids, &x)];
        for layer in 0..config.n_layer {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let keys = storage("keys", context_max * n_kv);
            let values = storage("values", context_max * n_kv);
            pass.extend([
                norm(&name("attn_norm.weight"), &x, &normed, false)?,
                linear(&name("attn_q"), [n_embd, n_q], &normed, &q, 0)?,
                linear(&name("attn_k"), [n_embd, n_kv], &normed, &keys, CACHE)?,
                linear(&name("attn_v"), [n_embd, n_kv], &normed, &values, CACHE)?,
                rope::rope(&model, &step, n_q, &angles, &q, false),
                rope::rope(&model, &step, n_kv, &angles, &keys, true),
                attention::attention(&model, &step, &q, &keys, &values, &attended),
                linear(&name("attn_output"), [n_q, n_embd], &attended, &x, ADD)?,
                norm(&name("ffn_norm.weight"), &x, &normed, false)?,
                linear(&name("ffn_gate"), [n_embd, n_ff], &normed, &gate, 0)?,
                linear(&name("ffn_up"), [n_embd, n_ff], &normed, &up, 0)?,
                silu_mul::silu_mul(&model, &step, &gate, &up),
                linear(&name("ffn_down"), [n_ff, n_embd], &gate, &x, ADD)?,
            ]);
        }
        let output = match weights.get("output.weight") {
            Some(_) => "output",
            None => "token_embd",
        };
        let head = vec![
            norm("output_norm.weight", &x, &normed, true)?,
            linear(output, [n_embd, config.n_vocab], &normed, &logits, ONE)?,
        ];
        let groups_max = limits.max_compute_workgroups_per_dimension;
        if let Some(op) = pass.iter().chain(&head).find(|op| op.groups() > groups_max) {
            return Err(Reason::unsupported(format!(
                "a matrix needs {} workgroups, the device allows {groups_max}",
                op.groups()
            )));
        }
        if let Some(error) = scope.pop().await {
            return Err(Reason::Failed {
                what: error.to_string(),
            });
        }
        gpu.check()?;
        Ok(Self {
            tokens: Vec::with_capacity(context_max),
            context_max,
            pass,
            head,
            step,
            token_ids,
            angles,
            logits,
            readback,
            out: vec![0.0; config.n_vocab],
            turned: vec![0.0; COLUMNS_MAX * config.head_dim],
            bytes: bytes.get(),
            model,
        })
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<GpuModel> {
        &self.model
    }

    /// GPU memory of the model's weights and of the session's own buffers, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.model.weights.bytes + self.bytes
    }

    /// The logits after the last of `context` and then `next`: (n_vocab). What these share with the
    /// tokens of the call before is not evaluated again.
    ///
    /// # Errors
    /// Those of [`Self::feed`].
    pub async fn eval(&mut self, context: &[u32], next: &[u32]) -> Result<&[f32], Reason> {
        self.enqueue(context, next, true)?;
        let result = readback::read(&self.model.gpu, &self.readback, &mut self.out).await;
        if let Err(reason) = result {
            self.tokens.clear();
            return Err(reason);
        }
        Ok(&self.out)
    }

    /// Evaluates as [`Self::eval`] does, and waits for nothing: the logits are not needed.
    ///
    /// # Errors
    /// [`Reason::Unsupported`] when there is no token, one outside the vocabulary, or more than the
    /// context holds; [`Reason::DeviceLost`] and [`Reason::Failed`].
    pub fn feed(&mut self, context: &[u32], next: &[u32]) -> Result<(), Reason> {
        self.enqueue(context, next, false)
    }

    fn enqueue(&mut self, context: &[u32], next: &[u32], logits: bool) -> Result<(), Reason> {
        let total = context.len() + next.len();
        let n_vocab = self.model.config.n_vocab;
        let all = || context.iter().chain(next).copied();
        if total == 0 || total > self.context_max || all().any(|id| id as usize >= n_vocab) {
            return Err(Reason::unsupported(format!(
                "{total} tokens for a context of {}, each below {n_vocab}",
                self.context_max
            )));
        }
        self.model.gpu.check()?;
        let shared = all().zip(&self.tokens).take_while(|(a, b)| a == *b).count();
        self.tokens.truncate(shared.min(total - 1));
        while self.tokens.len() < total {
            let first = self.tokens.len();
            let end = total.min(first + COLUMNS_MAX);
            self.tokens.extend(all().skip(first).take(end - first));
            self.submit(first, logits && end == total);
        }
        Ok(())
    }

    /// One pass over the tokens from `first` on: a single submission. With `head` also the logits.
    fn submit(&mut self, first: usize, head: bool) {
        let gpu = &self.model.gpu;
        let tokens = &self.tokens[first..];
        let columns = tokens.len();
        let head_dim = self.model.config.head_dim;
        let (mut cos, mut sin) = (vec![0.0; head_dim], vec![0.0; head_dim]);
        let turned = &mut self.turned[..columns * head_dim];
        for (position, turned) in (first..).zip(turned.chunks_exact_mut(head_dim)) {
            self.model.rope.fill(position, &mut cos, &mut sin);
            let (pairs, _) = turned.as_chunks_mut::<2>();
            for (i, pair) in pairs.iter_mut().enumerate() {
                *pair = [cos[2 * i], sin[2 * i + 1]];
            }
        }
        let step = [columns as u32, first as u32, 0, 0];
        gpu.queue
            .write_buffer(&self.step, 0, bytemuck::cast_slice(&step));
        gpu.queue
            .write_buffer(&self.token_ids, 0, bytemuck::cast_slice(tokens));
        gpu.queue
            .write_buffer(&self.angles, 0, bytemuck::cast_slice(turned));
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            let head = if head { self.head.as_slice() } else { &[] };
            for op in self.pass.iter().chain(head) {
                op.encode(&mut pass, columns as u32);
            }
        }
        if head {
            let bytes = 4 * self.out.len() as u64;
            encoder.copy_buffer_to_buffer(&self.logits, 0, &self.readback, 0, bytes);
        }
        gpu.queue.submit([encoder.finish()]);
    }
}
