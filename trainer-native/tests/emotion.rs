//! A text encoder from labelled lines, through the real program: import, training with an interruption,
//! quantisation, calibration, the report, and what is said of bad input.

mod common;

use std::fs;
use std::path::Path;

use meetara_engine::encoder::Encoder;

use common::{Folder, fails, ok};

/// Lines that a word decides, with fillers around it.
fn lines(seed: usize, n: usize) -> String {
    let words = [
        ("joy", "happy"),
        ("joy", "glad"),
        ("sadness", "sad"),
        ("sadness", "froh"),
        ("anger", "mad"),
        ("anger", "bad"),
    ];
    let before = ["i am very", "she has been", "we are so", "today they feel"];
    let after = ["today", "with me", "and not fine", "you know", "up to now"];
    (0..n)
        .map(|i| {
            let at = i * 7 + seed;
            let (label, word) = words[at % words.len()];
            format!(
                "{label}\t{} {word} {}\n",
                before[at % before.len()],
                after[at % after.len()]
            )
        })
        .collect()
}

fn config(folder: &Folder, extra: &str) -> String {
    let path = folder.file("config.toml");
    let file = |name: &str| folder.file(name);
    let text = format!(
        r#"
base_model = "{base}"
block_count = 1
vocab_size = 150
max_tokens = 24
batch_size = 8
learning_rate = 1e-3
head_learning_rate = 1e-2
max_steps = 40
warmup_steps = 5
decay_steps = 0
save_steps = 20
eval_steps = 20
output_dir = "{out}"
{extra}
[[heads]]
name = "emotion"
activation = "softmax"
labels = ["anger", "joy", "sadness"]
[[heads]]
name = "loud"
activation = "sigmoid"
labels = ["loud"]
[[datasets]]
path = "{train}"
heads = [{{ head = "emotion" }}, {{ head = "loud", map = "{map}", table = "loud" }}]
[[held_out]]
path = "{dev}"
heads = [{{ head = "emotion" }}, {{ head = "loud", map = "{map}", table = "loud" }}]
[[tests]]
name = "fresh"
data = {{ path = "{test}", heads = [{{ head = "emotion" }}, {{ head = "loud", map = "{map}", table = "loud" }}] }}
"#,
        base = file("base.gguf"),
        out = file("out"),
        train = file("train.tsv"),
        dev = file("dev.tsv"),
        test = file("test.tsv"),
        map = file("map.toml"),
    );
    fs::write(&path, text).unwrap();
    path
}

fn prepare(folder: &Folder) {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/encoders/bert");
    ok(&[
        "import",
        vectors.to_str().unwrap(),
        &folder.file("base.gguf"),
        "--type",
        "F32",
    ]);
    fs::write(folder.file("train.tsv"), lines(0, 240)).unwrap();
    fs::write(folder.file("dev.tsv"), lines(3, 60)).unwrap();
    fs::write(folder.file("test.tsv"), lines(11, 60)).unwrap();
    let map = "[loud]\nanger = \"loud\"\njoy = \"none\"\nsadness = \"none\"\n";
    fs::write(folder.file("map.toml"), map).unwrap();
}

#[test]
fn from_labelled_lines_to_a_calibrated_file() {
    let folder = Folder::new("emotion");
    prepare(&folder);
    let config = config(&folder, "");
    let run = |out: &str, steps: &str, more: &[&str]| {
        let mut arguments = vec![
            "emotion",
            "text",
            "--config",
            &config,
            "--output-dir",
            out,
            "--max-steps",
            steps,
        ];
        arguments.extend(more);
        ok(&arguments)
    };
    let (whole, parts) = (folder.file("whole"), folder.file("parts"));
    run(&whole, "40", &[]);
    run(&parts, "20", &[]);
    run(&parts, "40", &["--resume"]);
    let trained = |out: &str| fs::read(Path::new(out).join("text-emotion-F32.gguf")).unwrap();
    assert!(
        trained(&whole) == trained(&parts),
        "a resumed run ends with the same bytes"
    );

    let encoder = Encoder::load(trained(&whole)).unwrap();
    assert_eq!(encoder.tokenizer().len(), 150);
    assert_eq!(encoder.config().n_layer, 1);

    let file = |name: &str| folder.file(name);
    let f32_file = format!("{whole}/text-emotion-F32.gguf");
    ok(&["quantize", &f32_file, &file("q8.gguf"), "--type", "Q8_0"]);
    ok(&[
        "emotion",
        "calibrate",
        &file("q8.gguf"),
        &file("final.gguf"),
        "--config",
        &config,
    ]);
    let report = ok(&[
        "emotion",
        "report",
        &file("final.gguf"),
        "--config",
        &config,
    ]);
    assert_eq!(report.len(), 2, "both heads");
    for figures in &report {
        assert_eq!(figures["texts"], 60);
        let f1 = figures["macro_f1"].as_f64().unwrap();
        assert!(f1 > 0.9, "{}: F1 {f1}", figures["head"]);
        let (after, before) = (
            figures["calibration_error"].as_f64().unwrap(),
            figures["calibration_error_before"].as_f64().unwrap(),
        );
        assert!(after <= before + 0.02, "calibration {before} -> {after}");
    }

    // A second phase begins with the heads of the first: one step, its body held, and all is still known.
    let second = file("second");
    run(
        &second,
        "1",
        &["--base-model", &f32_file, "--learning-rate", "0"],
    );
    let second = format!("{second}/text-emotion-F32.gguf");
    for figures in ok(&["emotion", "report", &second, "--config", &config]) {
        let top_1 = figures["top_1"].as_f64().unwrap();
        if figures["head"] == "emotion" {
            assert!(top_1 > 0.9, "{top_1}");
        }
    }

    let finished = Encoder::load(fs::read(file("final.gguf")).unwrap()).unwrap();
    let loud = &finished.heads()[1];
    assert_eq!(loud.thresholds.as_ref().map(Vec::len), Some(1));
    let reading = finished.encode("we are so mad today").unwrap();
    assert!(reading.heads[1].probabilities[0] >= loud.thresholds.as_ref().unwrap()[0]);
}

fn masked_config(folder: &Folder, extra: &str) -> String {
    let path = folder.file("masked.toml");
    let text = format!(
        r#"
base_model = "{base}"
max_tokens = 24
batch_size = 16
learning_rate = 3e-3
max_steps = 60
warmup_steps = 5
decay_steps = 0
save_steps = 30
eval_steps = 30
eval_texts = 40
output_dir = "{out}"
{extra}
[[datasets]]
path = "{texts}"
"#,
        base = folder.file("base.gguf"),
        out = folder.file("out"),
        texts = folder.file("texts.jsonl"),
    );
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_body_from_plain_texts_is_a_base_for_the_rest() {
    let folder = Folder::new("masked");
    prepare(&folder);
    let file = |name: &str| folder.file(name);
    let texts: String = lines(0, 600)
        .lines()
        .map(|line| {
            format!(
                "{}\n",
                serde_json::json!({"text": line.split_once('\t').unwrap().1})
            )
        })
        .collect();
    fs::write(file("texts.jsonl"), texts).unwrap();
    let config = masked_config(&folder, "");
    let run = |out: &str, config: &str, steps: &str, more: &[&str]| {
        let start = [
            "emotion",
            "pretrain",
            "--config",
            config,
            "--output-dir",
            out,
            "--max-steps",
            steps,
        ];
        ok(&[&start, more].concat());
        fs::read(Path::new(out).join("encoder-F32.gguf")).unwrap()
    };
    let whole = run(&file("whole"), &config, "60", &[]);
    run(&file("parts"), &config, "30", &[]);
    let parts = run(&file("parts"), &config, "60", &["--resume"]);
    assert!(whole == parts, "a resumed run ends with the same bytes");

    let log = fs::read_to_string(Path::new(&file("whole")).join("log.jsonl")).unwrap();
    let losses: Vec<f64> = log
        .lines()
        .filter_map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            row["held_out_loss"].as_f64()
        })
        .collect();
    let &[early, late] = losses.as_slice() else {
        panic!("two measurements: {losses:?}");
    };
    // Each place in these lines allows a handful of words.
    assert!(early < 4.0 && late < 0.7 * early, "{losses:?}");

    // Without a step a body that is not fresh reads as its base does.
    let kept = masked_config(&folder, "fresh = false");
    let same = run(&file("same"), &kept, "0", &[]);
    let base = Encoder::load(fs::read(file("base.gguf")).unwrap()).unwrap();
    let embedding = |encoder: &Encoder| encoder.encode("we are so mad today").unwrap().embedding;
    let (found, expected) = (embedding(&Encoder::load(same).unwrap()), embedding(&base));
    let distance = found
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(distance < 1e-5, "{distance}");
    assert!(Encoder::load(whole).unwrap().heads().is_empty());

    let labelled = self::config(&folder, "");
    let body = format!("{}/encoder-F32.gguf", file("whole"));
    ok(&[
        "emotion",
        "text",
        "--config",
        &labelled,
        "--base-model",
        &body,
        "--max-steps",
        "2",
    ]);
}

#[test]
fn what_no_body_can_be_made_from_is_named() {
    let folder = Folder::new("masked-bad");
    prepare(&folder);
    let pretrain = |extra: &str| {
        let config = masked_config(&folder, extra);
        fails(&["emotion", "pretrain", "--config", &config])
    };
    assert!(
        pretrain("").contains("texts.jsonl"),
        "a file that is not there"
    );
    fs::write(folder.file("texts.jsonl"), "{\"text\": \"secretword\"\n").unwrap();
    let error = pretrain("");
    assert!(
        error.contains("texts.jsonl") && !error.contains("secretword"),
        "{error}"
    );
    for nothing in ["", "{\"text\": \"\\u2603 \\u2604\"}\n"] {
        fs::write(folder.file("texts.jsonl"), nothing).unwrap();
        assert!(pretrain("").contains("hold no text"), "{nothing}");
    }
    assert!(pretrain("mask_share = 0.0").contains("mask_share"));
    assert!(pretrain("masks = 1").contains("masks"));
}

#[test]
fn bad_input_is_named_and_never_quoted() {
    let folder = Folder::new("emotion-bad");
    prepare(&folder);
    let text = |config: &str| fails(&["emotion", "text", "--config", config]);

    fs::write(folder.file("train.tsv"), "envy\tsecretword here\n").unwrap();
    let error = text(&config(&folder, ""));
    assert!(error.contains("no label envy"), "{error}");
    assert!(!error.contains("secretword"), "{error}");

    fs::write(folder.file("train.tsv"), "a line without a label\n").unwrap();
    let error = text(&config(&folder, ""));
    assert!(error.contains("train.tsv line 1"), "{error}");
    assert!(!error.contains("without a label"), "{error}");

    fs::write(folder.file("train.tsv"), lines(0, 20)).unwrap();
    fs::write(folder.file("map.toml"), "[quiet]\n").unwrap();
    assert!(text(&config(&folder, "")).contains("no such table"));

    prepare(&folder);
    let error = text(&config(&folder, "dropout = 1.5"));
    assert!(error.contains("dropout"), "{error}");
    let pocket = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/tiny");
    let llama = fs::read_dir(pocket)
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "gguf"))
        .unwrap();
    fs::copy(llama, folder.file("base.gguf")).unwrap();
    let error = text(&config(&folder, ""));
    assert!(error.contains("the base is a llama file"), "{error}");
}
