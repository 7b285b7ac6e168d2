//! Each kernel against the plain function of the same name, two columns at position 3.

use std::sync::Arc;

use meetara_engine::model::Model;
use pollster::block_on;

use super::{Op, attention, embed, matvec, rms_norm, rope, silu_mul};
use crate::device::{Accept, Gpu};
use crate::model::GpuModel;
use crate::readback;
use crate::weights::Weights;

const COLUMNS: usize = 2;
const FIRST: usize = 3;

struct Bench {
    model: Arc<GpuModel>,
    step: wgpu::Buffer,
}

/// The pipelines of a file with rows of 96 and 204, four heads of 24 and two of keys.
fn bench() -> Bench {
    let path = "../../tests/vectors/tiny/tiny-f32.gguf";
    let bytes = std::fs::read(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let gpu = block_on(Gpu::request(Accept::Software)).expect("a Vulkan driver");
    let weights = Weights::upload(&gpu, &bytes).unwrap();
    let model = Model::load(bytes).unwrap();
    let model = block_on(GpuModel::new(gpu, weights, &model)).unwrap();
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let step = buffer(&model.gpu, &[COLUMNS as u32, FIRST as u32, 0, 0], usage);
    Bench { model, step }
}

fn buffer(gpu: &Gpu, words: &[u32], usage: wgpu::BufferUsages) -> wgpu::Buffer {
    let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4 * words.len() as u64,
        usage,
        mapped_at_creation: false,
    });
    gpu.queue
        .write_buffer(&buffer, 0, bytemuck::cast_slice(words));
    buffer
}

impl Bench {
    fn words(&self, words: &[u32]) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::COPY_SRC;
        buffer(&self.model.gpu, words, usage)
    }

    fn floats(&self, floats: &[f32]) -> wgpu::Buffer {
        self.words(bytemuck::cast_slice(floats))
    }

    /// The weights of a tensor of the file, which is F32.
    fn weights(&self, name: &str) -> Vec<f32> {
        let tensor = self.model.weights.get(name).unwrap();
        let len = COLUMNS * tensor.n_in as usize;
        let copy = self.floats(&vec![0.0; len]);
        let pass = Op::new(
            &self.model.gpu,
            &self.model.embed,
            &self.step,
            [tensor.n_in, tensor.row_bytes, 0, 0],
            &[&tensor.buffer, &self.words(&[0, 1]), &copy],
            1,
            super::Columns::Each(1),
        );
        self.run(&pass, &copy, len)
    }

    fn run(&self, op: &Op, out: &wgpu::Buffer, len: usize) -> Vec<f32> {
        let gpu = &self.model.gpu;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let back = buffer(gpu, &vec![0; len], usage);
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        op.encode(
            &mut encoder.begin_compute_pass(&Default::default()),
            COLUMNS as u32,
        );
        encoder.copy_buffer_to_buffer(out, 0, &back, 0, 4 * len as u64);
        gpu.queue.submit([encoder.finish()]);
        let mut floats = vec![0.0; len];
        block_on(readback::read(gpu, &back, &mut floats)).unwrap();
        floats
    }
}

/// Numbers between -1 and 1 without a pattern.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn close(name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(error <= 2e-5, "{name} {i}: {found}, expected {expected}");
    }
}

#[test]
fn kernels_are_their_scalar_twins() {
    let bench = bench();
    let (model, step) = (&bench.model, &bench.step);
    let get = |name| model.weights.get(name).unwrap();

    let table = bench.weights("token_embd.weight");
    let x = bench.floats(&noise(COLUMNS * 96, 1));
    let op = embed::embed(
        model,
        step,
        get("token_embd.weight"),
        &bench.words(&[1, 0]),
        &x,
    );
    let found = bench.run(&op, &x, COLUMNS * 96);
    close("embed", &found, &embed::scalar(&table, 96, &[1, 0]));

    let input = noise(COLUMNS * 204, 2);
    let before = noise(COLUMNS * 96, 3);
    let y = bench.floats(&before);
    let down = get("blk.0.ffn_down.weight");
    let op = matvec::matvec(
        model,
        step,
        down,
        None,
        &bench.floats(&input),
        &y,
        matvec::ADD,
    )
    .unwrap();
    let found = bench.run(&op, &y, COLUMNS * 96);
    // The first two rows are what `weights` reads back.
    let rows = bench.weights("blk.0.ffn_down.weight");
    for c in 0..COLUMNS {
        let mut expected = matvec::scalar(&rows, &input[204 * c..][..204]);
        for (y, before) in expected.iter_mut().zip(&before[96 * c..]) {
            *y += before;
        }
        close("matvec", &found[96 * c..][..2], &expected);
    }

    let input = noise(COLUMNS * 96, 4);
    let norm = get("blk.0.attn_norm.weight");
    let y = bench.floats(&vec![0.0; COLUMNS * 96]);
    let op = rms_norm::rms_norm(model, step, norm, &bench.floats(&input), &y, false);
    let found = bench.run(&op, &y, COLUMNS * 96);
    let weight = &bench.weights("blk.0.attn_norm.weight")[..96];
    for c in 0..COLUMNS {
        let expected = rms_norm::scalar(weight, model.config.rms_eps, &input[96 * c..][..96]);
        close("rms_norm", &found[96 * c..][..96], &expected);
    }

    let mut input = noise(COLUMNS * 96, 5);
    let turns: Vec<f32> = noise(COLUMNS * 12, 6)
        .iter()
        .flat_map(|a| [a.cos(), a.sin()])
        .collect();
    let x = bench.floats(&input);
    let op = rope::rope(model, step, 96, &bench.floats(&turns), &x, false);
    let found = bench.run(&op, &x, COLUMNS * 96);
    let (pairs, _) = turns.as_chunks::<2>();
    for (x, angles) in input.chunks_exact_mut(96).zip(pairs.chunks_exact(12)) {
        rope::scalar(angles, x);
    }
    close("rope", &found, &input);

    let q = noise(COLUMNS * 96, 7);
    let (keys, values) = (noise(5 * 48, 8), noise(5 * 48, 9));
    let out = bench.floats(&vec![0.0; COLUMNS * 96]);
    let op = attention::attention(
        model,
        step,
        &bench.floats(&q),
        &bench.floats(&keys),
        &bench.floats(&values),
        &out,
    );
    let found = bench.run(&op, &out, COLUMNS * 96);
    for c in 0..COLUMNS {
        let visible = 48 * (FIRST + c + 1);
        let q = &q[96 * c..][..96];
        let expected = attention::scalar(q, &keys[..visible], &values[..visible], [4, 2, 24]);
        close("attention", &found[96 * c..][..96], &expected);
    }

    let (mut gate, up) = (noise(COLUMNS * 204, 10), noise(COLUMNS * 204, 11));
    let x = bench.floats(&gate);
    let op = silu_mul::silu_mul(model, step, &x, &bench.floats(&up));
    let found = bench.run(&op, &x, COLUMNS * 204);
    silu_mul::scalar(&mut gate, &up);
    close("silu_mul", &found, &gate);
}
