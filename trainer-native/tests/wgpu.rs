//! The GPU path against the CPU's kernels: the same run gives the same losses.
//!
//! Built with `--features wgpu`; on a machine without a GPU, Debian's `mesa-vulkan-drivers` computes it.
#![cfg(feature = "wgpu")]

use std::process::Command;

use serde_json::Value;

fn losses(device: &str, config: &str, output: &str) -> Vec<f64> {
    let result = Command::new(env!("CARGO_BIN_EXE_meetara-train"))
        // The software driver compiles shaders on a thread of ours and needs far more stack than usual.
        .env("RUST_MIN_STACK", "268435456")
        .args([
            "--json",
            "--device",
            device,
            "pretrain",
            "--config",
            config,
            "--output-dir",
            output,
        ])
        .output()
        .unwrap();
    assert!(
        result.status.success(),
        "{device}: {}",
        String::from_utf8_lossy(&result.stderr)
    );
    let text = String::from_utf8(result.stdout).unwrap();
    text.lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["loss"]
                .as_f64()
                .unwrap()
        })
        .collect()
}

#[test]
fn four_steps_on_the_gpu_give_the_cpus_losses() {
    let folder = std::env::temp_dir().join(format!("meetara-wgpu-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let chat = |i: usize| {
        format!(
            "{{\"prompt\":\"what is number {i}\",\"completion\":\"it is the one after {}\"}}\n",
            i + 3
        )
    };
    std::fs::write(path("chats.jsonl"), (0..300).map(chat).collect::<String>()).unwrap();
    let config = path("pretrain.toml");
    let text = format!(
        "tokenizer = \"{}\"\nholdout_permille = 60\nsequence_len = 24\nmicro_batch_size = 2\n\
         gradient_accumulation_steps = 1\nmax_steps = 4\nwarmup_steps = 1\ndecay_steps = 0\nlogging_steps = 1\n\
         eval_steps = 0\n[model]\nembedding_length = 16\nblock_count = 1\nhead_count = 2\nhead_count_kv = 1\n\
         feed_forward_length = 32\nvocab_size = 288\ncontext_length = 24\n[[datasets]]\npath = \"{}\"\n",
        path("tokenizer.json"),
        path("chats.jsonl")
    );
    std::fs::write(&config, text).unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_meetara-train"))
        .args(["tokenizer", "--config", &config, "--vocab-size", "288"])
        .status()
        .unwrap();
    assert!(made.success());
    let cpu = losses("cpu", &config, &path("cpu"));
    let gpu = losses("wgpu", &config, &path("gpu"));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(cpu.len(), 4);
    assert!(cpu[3] < cpu[0], "nothing was learnt: {cpu:?}");
    for (a, b) in cpu.iter().zip(&gpu) {
        assert!((a - b).abs() < 1e-3, "CPU {cpu:?} against GPU {gpu:?}");
    }
}
