//! `meetara-train bench`: how long one training step takes on the pocket model's shape.
//!
//! The shapes are those of `bench/torch_reference.py`: P is pre-training, batch 32 x 256; L is an adapter
//! of rank 8, batch 6 x 256. Both use AdamW, so that only the model's passes are compared.

use std::time::Instant;

use anyhow::Result;
use burn::optim::{GradientsAccumulator, GradientsParams, Optimizer};
use clap::ValueEnum;
use cpu_time::ProcessTime;
use serde_json::json;

use crate::data::pack::Batch;
use crate::model::cpu::Cpu;
use crate::model::{Llama, Lora, ModelSpec, init};
use crate::train::driver::Learner;
use crate::train::lora::Adapter;
use crate::train::optimiser::adamw;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Which step.
    #[arg(long, value_enum)]
    which: Which,
    /// Steps measured, after one that is not.
    #[arg(long, default_value_t = 3)]
    steps: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// Pre-training.
    #[value(name = "P")]
    Pretrain,
    /// An adapter.
    #[value(name = "L")]
    Lora,
}

const POSITIONS: usize = 256;

/// Runs the command.
pub fn run(args: Args, as_json: bool) -> Result<()> {
    let spec = ModelSpec::default();
    let block_spec = spec.block_spec(POSITIONS);
    let device = Default::default();
    let base = init::llama::<Cpu>(&spec, 7, &device);
    let rows = match args.which {
        Which::Pretrain => 32,
        Which::Lora => 6,
    };
    let batch = batch(rows, spec.vocab_size);
    let total: f32 = batch.weights.iter().sum();
    let mut step: Box<dyn FnMut()> = match args.which {
        Which::Pretrain => {
            let mut model = base;
            let mut optimiser = adamw(0.999, 0.01).init::<Cpu, Llama<Cpu>>();
            Box::new(move || {
                let mut grads = GradientsAccumulator::new();
                for micro in batch.split(8) {
                    let loss = model.loss_sum(&block_spec, &micro, None) / total;
                    grads.accumulate(&model, GradientsParams::from_grads(loss.backward(), &model));
                }
                model = optimiser.step(3e-4, model.clone(), grads.grads());
            })
        }
        Which::Lora => {
            let lora = Lora::new(&spec, 8, 16.0, &device);
            let mut adapter = Adapter::<Cpu>::new(base, lora, 3e-4, &device);
            Box::new(move || {
                adapter.accumulate(&block_spec, &batch, total);
                adapter.update(1.0);
            })
        }
    };
    step();
    let mut cpu_s = Vec::new();
    let mut wall_s = Vec::new();
    for _ in 0..args.steps.max(1) {
        let (cpu, wall) = (ProcessTime::try_now()?, Instant::now());
        step();
        cpu_s.push(cpu.try_elapsed()?.as_secs_f64());
        wall_s.push(wall.elapsed().as_secs_f64());
    }
    let (cpu_s, wall_s, tokens) = (median(cpu_s), median(wall_s), rows * POSITIONS);
    if as_json {
        println!(
            "{}",
            json!({"engine": "meetara", "cpu_s": cpu_s, "wall_s": wall_s, "tokens": tokens})
        );
    } else {
        println!("{cpu_s:.3} CPU s, {wall_s:.3} s a step of {tokens} tokens");
    }
    Ok(())
}

fn batch(rows: usize, vocab: usize) -> Batch {
    let n = rows * POSITIONS;
    let token = |i: usize| ((i * 7919 + 13) % vocab) as u32;
    Batch {
        positions: POSITIONS,
        tokens: (0..n).map(token).collect(),
        targets: (0..n).map(|i| token(i + 1)).collect(),
        weights: vec![1.0; n],
        starts: vec![0; n],
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
