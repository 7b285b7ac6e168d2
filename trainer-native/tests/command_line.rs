//! The whole chain through the real program: tokenizer, pre-training with an interruption, export, the
//! runtime's engine, quantisation, an adapter with its score, and what each command says of bad input.

mod common;

use std::path::Path;
use std::process::Command;

use meetara_engine::generate::Session;
use meetara_engine::model::Model;
use meetara_engine::nn::kv_cache::KvType;
use meetara_format::{GgmlType, Gguf, Writer};
use serde_json::Value;

use common::{Folder, fails, ok};

/// Chats about sums in words: enough regularity that a few steps teach something.
fn write_chats(path: &str, style: &str) {
    let names = [
        "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    ];
    let mut lines = String::new();
    for i in 0..400usize {
        let (a, b) = (names[i % 10], names[(i / 10) % 10]);
        let turns = serde_json::json!([
            {"role": "user", "content": format!("what comes after {a} and {b}, friend {i}?")},
            {"role": "assistant", "content": format!("{style} after {a} and {b} comes {} of course.", names[(i + 1) % 10])},
        ]);
        lines += &format!("{}\n", serde_json::json!({"turns": turns}));
    }
    std::fs::write(path, lines).unwrap();
}

fn write_config(folder: &Folder, steps: u64) -> String {
    let config = format!(
        r#"
tokenizer = "{}"
output_dir = "{}"
holdout_permille = 60
sequence_len = 64
micro_batch_size = 4
gradient_accumulation_steps = 2
max_steps = {steps}
warmup_steps = 2
decay_steps = 4
save_steps = 100
logging_steps = 1
eval_steps = 0
[model]
embedding_length = 64
block_count = 2
head_count = 4
head_count_kv = 2
feed_forward_length = 128
vocab_size = 320
context_length = 96
[[datasets]]
path = "{}"
"#,
        folder.file("tokenizer.json"),
        folder.file("run"),
        folder.file("chats.jsonl"),
    );
    let path = folder.file("pretrain.toml");
    std::fs::write(&path, config).unwrap();
    path
}

fn losses(lines: &[Value]) -> Vec<f64> {
    lines
        .iter()
        .map(|line| line["loss"].as_f64().unwrap())
        .collect()
}

#[test]
fn from_text_to_a_scored_expert() {
    let folder = Folder::new("chain");
    write_chats(&folder.file("chats.jsonl"), "Well,");
    let config = write_config(&folder, 12);
    let made = ok(&["tokenizer", "--config", &config, "--vocab-size", "320"]);
    assert_eq!(made[0]["tokens"], 320);

    // An interrupted run goes on with the same losses, to the last bit.
    let whole = losses(&ok(&[
        "pretrain",
        "--config",
        &config,
        "--output-dir",
        &folder.file("whole"),
    ]));
    assert_eq!(whole.len(), 12);
    assert!(whole[11] < 0.8 * whole[0], "nothing was learnt: {whole:?}");
    let early = folder.file("early.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&early, text.replace("save_steps = 100", "save_steps = 5")).unwrap();
    let first = losses(&ok(&[
        "pretrain",
        "--config",
        &early,
        "--max-steps",
        "5",
        "--decay-steps",
        "0",
    ]));
    let rest = losses(&ok(&["pretrain", "--config", &config, "--resume"]));
    assert_eq!(rest.len(), 7);
    assert_eq!([&first[..], &rest[..]].concat(), whole);

    // A run can begin with exported weights, at the step they were taken at.
    let half = folder.file("half.gguf");
    ok(&[
        "export", "--config", &config, "--type", "F32", "--output", &half,
    ]);
    let more = ok(&[
        "pretrain",
        "--config",
        &config,
        "--init",
        &half,
        "--max-steps",
        "14",
        "--output-dir",
        &folder.file("more"),
    ]);
    assert_eq!(
        more.iter()
            .map(|line| line["step"].as_u64())
            .collect::<Vec<_>>(),
        [Some(13), Some(14)]
    );
    assert!(
        losses(&more)[0] < 0.9 * whole[0],
        "the weights were not taken: {more:?}"
    );

    // The file runs in the engine with the trainer's own numbers.
    let f32_file = folder.file("base.gguf");
    ok(&[
        "export", "--config", &config, "--type", "F32", "--output", &f32_file,
    ]);
    same_logits(&config, Path::new(&folder.file("run")), &f32_file);
    let quantised = folder.file("base-q8.gguf");
    let report = ok(&["quantize", &f32_file, &quantised, "--type", "Q8_0"]);
    assert!(report[0]["bytes"].as_u64() < report[0]["input_bytes"].as_u64());
    let held_out = [
        "--data",
        &folder.file("chats.jsonl"),
        "--holdout-permille",
        "60",
    ];
    let bits = |file: &str| {
        let lines = ok(&[&["eval", "--model", file], &held_out[..]].concat());
        lines[0]["bits_per_byte"].as_f64().unwrap()
    };
    let (full, small) = (bits(&f32_file), bits(&quantised));
    assert!((full - small).abs() < 0.02 * full, "{full} {small}");
    let reply = ok(&[
        "generate",
        "--model",
        &f32_file,
        "--prompt",
        "what comes after one",
        "--max-tokens",
        "8",
    ]);
    assert!(reply[0]["usage"]["completion_tokens"].as_u64().unwrap() <= 8);
    let ids = ok(&[
        "tokenize",
        "--model",
        &f32_file,
        "--text",
        "<|end|>",
        "--no-special",
    ]);
    assert!(ids[0]["ids"].as_array().unwrap().len() > 1);
    assert_eq!(
        ok(&["tokenize", "--model", &f32_file, "--text", "<|end|>"])[0]["ids"],
        serde_json::json!([4])
    );
    let inspected = ok(&["inspect", &f32_file]);
    assert_eq!(inspected[0]["metadata"]["llama.block_count"], 2);

    // An adapter on data of another style is better there than the base, and says so in the file.
    write_chats(&folder.file("style.jsonl"), "By all means, dear friend,");
    let arguments = [
        "run",
        "--domain",
        "style",
        "--data",
        &folder.file("style.jsonl"),
        "--base-model",
        &f32_file,
        "--output-dir",
        &folder.file("expert"),
        "--max-steps",
        "60",
        "--learning-rate",
        "0.01",
        "--sequence-len",
        "64",
    ];
    let report = ok(&arguments).pop().unwrap();
    assert_eq!(report["published"], true, "{report}");
    let expert = ok(&["inspect", &folder.file("expert/style.gguf")]).remove(0);
    let score = report["quality_score"].as_f64().unwrap();
    let stored = expert["metadata"]["meetara.quality_score"]
        .as_f64()
        .unwrap();
    assert!(
        score > 101.0 && (score - stored).abs() < 1e-3,
        "{score} {stored}"
    );
    let adapter = ok(&["inspect", &folder.file("expert/style.adapter.gguf")]).remove(0);
    assert_eq!(adapter["metadata"]["adapter.type"], "lora");
    assert_eq!(adapter["tensors"].as_array().unwrap().len(), 2 * 2 * 7);

    adapter_is_the_merged_model(&folder, &f32_file, &quantised);

    // One that learnt nothing is refused with the reason.
    let refused = fails(&[
        "run",
        "--domain",
        "idle",
        "--data",
        &folder.file("style.jsonl"),
        "--base-model",
        &f32_file,
        "--output-dir",
        &folder.file("idle"),
        "--max-steps",
        "1",
        "--learning-rate",
        "1e-9",
        "--sequence-len",
        "64",
    ]);
    assert!(refused.contains("quality_min"), "{refused}");
    assert!(!Path::new(&folder.file("idle/idle.gguf")).exists());
}

/// Beside its base the adapter gives the logits of base and adapter merged in full precision; those of
/// the merged and quantised file are near them. It fits its base in every quantisation and no other.
fn adapter_is_the_merged_model(folder: &Folder, base: &str, quantised: &str) {
    let adapter = folder.file("expert/style.adapter.gguf");
    let merged = folder.file("merged.gguf");
    std::fs::write(&merged, merge(base, &adapter)).unwrap();
    let logits = |model: &str, adapter: &[&str]| -> Vec<f64> {
        let say = [
            "generate",
            "--model",
            model,
            "--prompt",
            "what comes after one",
            "--max-tokens",
            "1",
            "--logits",
        ];
        let reply = ok(&[&say[..], adapter].concat()).remove(0);
        let logits = reply["logits"].as_array().unwrap().iter();
        logits.map(|logit| logit.as_f64().unwrap()).collect()
    };
    let far = |a: &[f64], b: &[f64]| {
        assert_eq!(a.len(), b.len());
        let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        differences.fold(0.0, f64::max)
    };
    let plain = logits(base, &[]);
    let adapted = logits(base, &["--adapter", &adapter]);
    let wanted = logits(&merged, &[]);
    let learnt = far(&plain, &wanted);
    let off = far(&adapted, &wanted);
    assert!(learnt > 0.2 && off < 1e-4 * learnt, "{off} of {learnt}");
    let half = logits(base, &["--adapter", &format!("{adapter}=0.5")]);
    assert!(far(&half, &plain) > 0.1 * learnt && far(&half, &adapted) > 0.1 * learnt);
    assert_eq!(logits(base, &["--adapter", &format!("{adapter}=0")]), plain);
    // Rounding of the weights, on both ways to the same model.
    for rounded in [
        logits(&folder.file("expert/style.gguf"), &[]),
        logits(quantised, &["--adapter", &adapter]),
    ] {
        let off = far(&rounded, &wanted);
        assert!(off < 0.5 * learnt, "{off} of {learnt}");
    }
    let other = format!(
        "{}/../tests/vectors/tiny/tiny-f32.gguf",
        env!("CARGO_MANIFEST_DIR")
    );
    let refused = fails(&[
        "generate",
        "--model",
        &other,
        "--adapter",
        &adapter,
        "--prompt",
        "x",
    ]);
    assert!(refused.contains("norms"), "{refused}");
    let missing = fails(&[
        "generate",
        "--model",
        base,
        "--adapter",
        &folder.file("none.gguf"),
        "--prompt",
        "x",
    ]);
    assert!(missing.contains("none.gguf"), "{missing}");
}

/// `generate --profile` on a model whose replies always run to their limit.
#[test]
fn a_profile_says_what_the_time_of_a_reply_went_into() {
    let tiny = format!(
        "{}/../tests/vectors/tiny/tiny-f32.gguf",
        env!("CARGO_MANIFEST_DIR")
    );
    let say = [
        "generate",
        "--model",
        &tiny,
        "--prompt",
        "one two",
        "--temperature",
        "0",
    ];
    let profiled = [&say[..], &["--max-tokens", "5", "--profile"]].concat();
    let reply = ok(&profiled).remove(0);
    let plain = ok(&[&say[..], &["--max-tokens", "5"]].concat()).remove(0);
    assert_eq!(reply["ids"], plain["ids"], "a clock changes nothing");
    assert!(plain["profile"].is_null());
    let span = |part: &str, phase: &str| {
        let spans = reply["profile"][part].as_array().unwrap();
        let span = spans.iter().find(|span| span["phase"] == phase);
        let span = span.unwrap_or_else(|| panic!("{part} has no {phase}"));
        assert!(span["ms"].as_f64().unwrap() >= 0.0, "{span}");
        span["calls"].as_u64().unwrap()
    };
    // The prompt is one pass, and each of the further four tokens another; there are two layers.
    for (part, passes, tokens) in [("prompt", 1, 1), ("reply", 4, 4)] {
        assert_eq!(span(part, "embedding"), passes);
        assert_eq!(span(part, "attention"), 2 * passes);
        assert_eq!(span(part, "norm"), 5 * passes);
        assert_eq!(span(part, "logits"), passes);
        assert_eq!(span(part, "sampling"), tokens);
    }

    let tables = Command::new(env!("CARGO_BIN_EXE_meetara-train"))
        .args(&profiled)
        .output()
        .unwrap();
    assert!(tables.status.success());
    let tables = String::from_utf8(tables.stderr).unwrap();
    for title in [
        "The prompt and the first token: ",
        "The further tokens, all together: ",
    ] {
        let (_, table) = tables
            .split_once(title)
            .unwrap_or_else(|| panic!("{tables}"));
        let table = table.split("\n\n").next().unwrap();
        let shares = table.lines().filter_map(|line| {
            let (before, _) = line.split_once(" % ")?;
            before.rsplit(' ').next()?.parse::<f64>().ok()
        });
        let all: f64 = shares.sum();
        assert!((all - 100.0).abs() < 1.0, "{all} % in {table}");
    }

    // A reply without a token has the prompt's table alone.
    let none = [&say[..], &["--max-tokens", "0", "--profile"]].concat();
    assert!(fails(&none).contains("max_tokens"));
}

/// The F32 file `base` with `alpha / rank * B A` of the adapter added to its weights.
fn merge(base: &str, adapter: &str) -> Vec<u8> {
    let values = |path: &str| {
        let bytes = std::fs::read(path).unwrap();
        let gguf = Gguf::parse(&bytes, bytes.len() as u64).unwrap();
        let tensors: Vec<(String, Vec<u64>, Vec<f32>)> = gguf
            .tensors
            .iter()
            .map(|t| {
                let data = gguf.tensor_data(t, &bytes).unwrap();
                let values = meetara_format::dequantize(t.ty, data, t.elements() as usize).unwrap();
                (t.name.clone(), t.shape().to_vec(), values)
            })
            .collect();
        (gguf, tensors)
    };
    let (base, weights) = values(base);
    let (head, pairs) = values(adapter);
    let alpha = head.get_f32("adapter.lora.alpha").unwrap().unwrap();
    let mut writer = Writer::new("llama");
    for (key, value) in &base.metadata {
        writer.set(key, value.clone());
    }
    for (name, dims, mut weight) in weights {
        let part = |suffix: &str| pairs.iter().find(|p| p.0 == format!("{name}.{suffix}"));
        if let (Some((_, a_dims, a)), Some((_, _, b))) = (part("lora_a"), part("lora_b")) {
            let (n_in, rank) = (a_dims[0] as usize, a_dims[1] as usize);
            for (i, w) in weight.iter_mut().enumerate() {
                let (row, column) = (i / n_in, i % n_in);
                let terms = (0..rank)
                    .map(|t| f64::from(b[row * rank + t]) * f64::from(a[t * n_in + column]));
                let change = terms.sum::<f64>() * f64::from(alpha) / rank as f64;
                *w = (f64::from(*w) + change) as f32;
            }
        }
        let data = meetara_format::quantize(GgmlType::F32, &weight, dims[0] as usize, None);
        writer
            .add_tensor(&name, &dims, GgmlType::F32, data.unwrap())
            .unwrap();
    }
    writer.finish().unwrap()
}

/// Logits of the exported file in the engine against the trainer's own loss: both give the same
/// `-ln p` for every target of a row. Keys and values are kept in full
/// here: as halves they alone move a logit by about 1e-4.
fn same_logits(config: &str, run: &Path, file: &str) {
    use burn::module::Module;
    use burn::tensor::ElementConversion;
    use meetara_train::config::Pretrain;
    use meetara_train::data::pack::Batch;
    use meetara_train::model::cpu::Cpu;
    use meetara_train::model::init;
    use meetara_train::train::checkpoint;

    let config: Pretrain = meetara_train::config::read(Path::new(config)).unwrap();
    let checkpoint = checkpoint::latest(run).unwrap().unwrap();
    let device = Default::default();
    let model = init::llama::<Cpu>(&config.model, 0, &device)
        .load_record(checkpoint::get::<Cpu, _>(&checkpoint, "model", &device).unwrap());
    let tokens: Vec<u32> = (0..48).map(|i| (i * 37 + 11) % 320).collect();
    let spec = config.model.block_spec(47);
    let trainer: Vec<f64> = (0..47)
        .map(|only| {
            let batch = Batch {
                positions: 47,
                tokens: tokens[..47].to_vec(),
                targets: tokens[1..].to_vec(),
                weights: (0..47).map(|i| f32::from(u8::from(i == only))).collect(),
                starts: vec![0; 47],
            };
            model
                .loss_sum(&spec, &batch, None)
                .into_scalar()
                .elem::<f64>()
        })
        .collect();
    let engine = std::sync::Arc::new(Model::load(std::fs::read(file).unwrap()).unwrap());
    let mut session = Session::with_kv(engine, None, KvType::F32).unwrap();
    let mut compared = 0;
    session
        .score(&tokens[..47], |row, logits| {
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
            let nats = sum.ln() - f64::from(logits[tokens[row + 1] as usize] - max);
            assert!(
                (nats - trainer[row]).abs() < 1e-4,
                "position {row}: {nats} against {}",
                trainer[row]
            );
            compared += 1;
        })
        .unwrap();
    assert_eq!(compared, 47);
}

#[test]
fn bad_input_is_named() {
    let folder = Folder::new("bad");
    std::fs::write(folder.file("broken.gguf"), b"GGUF\x03\0\0\0nonsense").unwrap();
    std::fs::write(
        folder.file("bad.jsonl"),
        "{\"turns\": [{\"role\": \"user\"}]}\n",
    )
    .unwrap();
    std::fs::write(folder.file("typo.toml"), "max_step = 3\n").unwrap();
    let message = fails(&["inspect", &folder.file("broken.gguf")]);
    assert!(message.contains("broken.gguf"), "{message}");
    let message = fails(&[
        "eval",
        "--model",
        &folder.file("missing.gguf"),
        "--data",
        &folder.file("bad.jsonl"),
    ]);
    assert!(message.contains("missing.gguf"), "{message}");
    let message = fails(&["pretrain", "--config", &folder.file("typo.toml")]);
    assert!(message.contains("max_step"), "{message}");
    let message = fails(&[
        "quantize",
        &folder.file("broken.gguf"),
        "x.gguf",
        "--type",
        "Q9_Z",
    ]);
    assert!(
        message.contains("Q9_Z") || message.contains("Q4_K_M"),
        "{message}"
    );
    let message = fails(&[
        "run",
        "--domain",
        "../x",
        "--data",
        &folder.file("bad.jsonl"),
    ]);
    assert!(message.contains("domain"), "{message}");
    if !cfg!(feature = "wgpu") {
        let config = write_config(&folder, 1);
        write_chats(&folder.file("chats.jsonl"), "x");
        ok(&["tokenizer", "--config", &config, "--vocab-size", "320"]);
        let message = fails(&["--device", "wgpu", "pretrain", "--config", &config]);
        assert!(message.contains("--features wgpu"), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_the_run_goes_on_as_if_nothing_happened() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;

    let folder = Folder::new("stop");
    write_chats(&folder.file("chats.jsonl"), "Well,");
    let config = write_config(&folder, 120);
    ok(&["tokenizer", "--config", &config, "--vocab-size", "320"]);
    let whole = losses(&ok(&[
        "pretrain",
        "--config",
        &config,
        "--output-dir",
        &folder.file("whole"),
    ]));

    let mut child = Command::new(env!("CARGO_BIN_EXE_meetara-train"))
        .args(["--threads", "1", "--json", "pretrain", "--config", &config])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    for _ in 0..5 {
        output.read_line(&mut text).unwrap();
    }
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    output.read_to_string(&mut text).unwrap();
    let mut errors = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{errors}");
    let first: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        (5..120).contains(&first.len()),
        "stopped after {} steps",
        first.len()
    );

    let rest = losses(&ok(&["pretrain", "--config", &config, "--resume"]));
    assert_eq!([losses(&first), rest].concat(), whole);
}
