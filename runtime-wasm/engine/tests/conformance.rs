//! Every set of kernels of this build gives the one hash that all builds give.

use std::collections::BTreeMap;
use std::sync::Arc;

use meetara_engine::conformance::{LOGITS_HASH, logits_hash};
use meetara_engine::generate::Session;
use meetara_engine::kernels::Kernels;
use meetara_engine::model::Model;

/// `tests/vectors/tiny/hashes.json`. The tests of the browser's builds read it too.
#[derive(serde::Deserialize)]
struct Expected {
    /// What each model evaluates: more than one slice of prefill, and a last slice of few columns.
    tokens: Vec<u32>,
    /// By file: FNV-1a, 64 bits, of the last token's logits as little-endian bytes.
    hashes: BTreeMap<String, String>,
}

#[test]
fn every_set_of_kernels_gives_the_one_hash() {
    for kernels in Kernels::available() {
        let hash = logits_hash(kernels).unwrap();
        assert_eq!(hash, LOGITS_HASH, "{}: {hash:#018x}", kernels.name);
    }
}

#[test]
fn the_tiny_models_have_the_hashes_that_the_browser_is_held_to() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/tiny");
    let text = std::fs::read_to_string(folder.join("hashes.json")).unwrap();
    let expected: Expected = serde_json::from_str(&text).unwrap();
    let files = std::fs::read_dir(&folder).unwrap();
    let is_model = |name: &String| name.ends_with(".gguf");
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(is_model).count(), expected.hashes.len());
    for kernels in Kernels::available() {
        for (name, wanted) in &expected.hashes {
            let bytes = std::fs::read(folder.join(name)).unwrap();
            let model = Arc::new(Model::load_with(bytes, kernels).unwrap());
            let mut session = Session::new(model, None).unwrap();
            let logits = session.eval_tokens(&expected.tokens).unwrap();
            let found = format!("{:016x}", fnv_1a(logits));
            assert_eq!(&found, wanted, "{name} on {}", kernels.name);
        }
    }
}

fn fnv_1a(logits: &[f32]) -> u64 {
    let bytes = logits.iter().flat_map(|logit| logit.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
