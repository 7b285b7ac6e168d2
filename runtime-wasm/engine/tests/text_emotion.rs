//! The shipped text model: plain sentences read right, the same bits from every set of kernels.
//!
//! How good it is stands in `models/emotion/README.md`; `meetara-train emotion report` measures it.
#![cfg(feature = "encoder")]

use meetara_engine::emotion::Emotion;
use meetara_engine::encoder::Encoder;
use meetara_engine::kernels::Kernels;

const SAID: [(&str, &str); 8] = [
    ("Thank you so much, this made my day!", "joy"),
    ("I am so happy for you two!", "joy"),
    ("I miss my dad so much, it hurts.", "sadness"),
    ("This is disgusting, I feel sick.", "disgust"),
    ("I'm terrified of what happens next.", "fear"),
    ("How dare you! I am furious.", "anger"),
    ("Wow, I did not see that coming!", "surprise"),
    ("The meeting is at three.", "neutral"),
];

fn model(kernels: Kernels) -> Encoder {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/emotion/text-emotion.gguf"
    );
    Encoder::load_with(std::fs::read(path).unwrap(), kernels).unwrap()
}

/// Label and probability of a head's likeliest.
fn first<'e>(encoder: &'e Encoder, head: &str, text: &str) -> (&'e str, f32) {
    let at = encoder.heads().iter().position(|h| h.name == head).unwrap();
    let reading = encoder.encode(text).unwrap();
    let probabilities = &reading.heads[at].probabilities;
    let better = |a: &usize, b: &usize| probabilities[*a].total_cmp(&probabilities[*b]);
    let best = (0..probabilities.len()).max_by(better).unwrap();
    (&encoder.heads()[at].labels[best], probabilities[best])
}

#[test]
fn plain_sentences_are_read_right() {
    let encoder = model(Kernels::best());
    for (text, wanted) in SAID {
        let (label, p) = first(&encoder, "emotion", text);
        assert_eq!(label, wanted, "{text} ({p})");
    }
    assert_eq!(first(&encoder, "goemotions", SAID[0].0).0, "gratitude");
}

#[test]
fn heads_are_those_that_the_runtime_expects() {
    let encoder = model(Kernels::best());
    let labels = |name: &str| {
        let head = encoder.heads().iter().find(|head| head.name == name);
        head.unwrap().labels.clone()
    };
    assert_eq!(labels("emotion"), Emotion::ALL.map(Emotion::name));
    assert_eq!(labels("goemotions").len(), 28);
    assert_eq!(labels("safety"), ["mental_health", "medical", "abuse"]);
    let domains = labels("domain");
    let file = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../domains.toml"));
    let file = file.unwrap();
    let rows = file.lines().filter_map(|line| {
        let name = line.strip_prefix("name = \"")?;
        name.strip_suffix('"')
    });
    let wanted: Vec<&str> = rows.chain(["out_of_scope"]).collect();
    assert_eq!(domains, wanted, "the rows of domains.toml, in order");
}

#[test]
fn every_set_of_kernels_gives_the_same_bits() {
    let read = |kernels: Kernels| -> Vec<u32> {
        let encoder = model(kernels);
        let logits = SAID.iter().flat_map(|(text, _)| {
            let reading = encoder.encode(text).unwrap();
            reading.heads.into_iter().flat_map(|head| head.logits)
        });
        logits.map(f32::to_bits).collect()
    };
    let scalar = read(Kernels::scalar());
    for kernels in Kernels::available() {
        let name = kernels.name;
        assert!(read(kernels) == scalar, "{name}");
    }
}
