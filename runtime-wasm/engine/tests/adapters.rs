//! LoRA adapters: llama.cpp and the merged model as judges, the cache that must not be reused, bad files.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use meetara_engine::ErrorKind;
use meetara_engine::generate::{GenerateParams, Session, Step};
use meetara_engine::kernels::Kernels;
use meetara_engine::model::adapter::{BASE_KEY, base_hash};
use meetara_engine::model::{Adapter, AdapterPool, Model};
use meetara_format::mix::FileType;
use meetara_format::{GgmlType, Gguf, Value, Writer};
use serde::Deserialize;
use support::tiny::Spec;
use support::{Expected, cosine, read};

const FOLDER: &str = "tests/vectors/adapters";
const TINY: &str = "tests/vectors/tiny";

/// The least cosine to llama.cpp's logits where the base is F32, and where it is quantised.
const F32_COSINE_MIN: f64 = 0.9999;
const ROUNDED_COSINE_MIN: f64 = 0.999;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    base: String,
    adapters: Vec<(String, f32)>,
}

/// `tests/vectors/adapters/hashes.json`. The tests of the browser's builds read it too.
#[derive(Deserialize)]
struct Hashes {
    /// What each case evaluates.
    tokens: Vec<u32>,
    /// By case: FNV-1a, 64 bits, of the last token's logits as little-endian bytes.
    hashes: Vec<String>,
}

fn cases() -> Vec<Case> {
    let json = read(&format!("{FOLDER}/expected.json"));
    let cases: Cases = serde_json::from_slice(&json).expect("expected.json");
    cases.cases
}

fn base(file: &str) -> Arc<Model> {
    Arc::new(Model::load(read(&format!("{TINY}/{file}"))).expect(file))
}

fn adapter(model: &Arc<Model>, file: &str) -> Adapter {
    Adapter::load(model, &read(&format!("{FOLDER}/{file}"))).expect(file)
}

fn set(session: &mut Session, adapters: &[(String, f32)]) {
    let model = Arc::clone(session.model());
    let loaded: Vec<_> = adapters
        .iter()
        .map(|(file, scale)| (adapter(&model, file), *scale))
        .collect();
    session.set_adapters(&loaded).expect("set_adapters");
}

/// Values of every tensor of a file.
fn tensors(file: &[u8]) -> BTreeMap<String, (Vec<u64>, Vec<f32>)> {
    let gguf = Gguf::parse(file, file.len() as u64).expect("a GGUF file");
    gguf.tensors
        .iter()
        .map(|t| {
            let data = gguf.tensor_data(t, file).expect("data");
            let values =
                meetara_format::dequantize(t.ty, data, t.elements() as usize).expect("values");
            (t.name.clone(), (t.shape().to_vec(), values))
        })
        .collect()
}

/// The base with the adapters' products added to its weights in f64, every matrix in F32.
fn merged(base: &str, adapters: &[(String, f32)]) -> Model {
    let adapters: Vec<_> = adapters
        .iter()
        .map(|(file, scale)| (read(&format!("{FOLDER}/{file}")), *scale))
        .collect();
    merged_bytes(&read(&format!("{TINY}/{base}")), &adapters)
}

/// [`merged`] of files at hand.
fn merged_bytes(file: &[u8], adapters: &[(Vec<u8>, f32)]) -> Model {
    let mut weights = tensors(file);
    for (bytes, scale) in adapters {
        let head = Gguf::parse(bytes, bytes.len() as u64).expect("an adapter");
        let alpha = head
            .get_f32("adapter.lora.alpha")
            .expect("alpha")
            .expect("alpha");
        let pairs = tensors(bytes);
        for (name, (dims, a)) in &pairs {
            let Some(weight) = name.strip_suffix(".lora_a") else {
                continue;
            };
            let (n_in, rank) = (dims[0] as usize, dims[1] as usize);
            let b = &pairs[&format!("{weight}.lora_b")].1;
            let scale = f64::from(*scale)
                * if alpha == 0.0 {
                    1.0
                } else {
                    f64::from(alpha) / rank as f64
                };
            let w = &mut weights.get_mut(weight).expect(weight).1;
            for (i, w) in w.iter_mut().enumerate() {
                let (row, column) = (i / n_in, i % n_in);
                let sum: f64 = (0..rank)
                    .map(|t| f64::from(b[row * rank + t]) * f64::from(a[t * n_in + column]))
                    .sum();
                *w = (f64::from(*w) + scale * sum) as f32;
            }
        }
    }
    let gguf = Gguf::parse(file, file.len() as u64).expect("the base");
    let mut writer = Writer::new("llama");
    for (key, value) in &gguf.metadata {
        writer.set(key, value.clone());
    }
    for t in &gguf.tensors {
        let (dims, values) = &weights[&t.name];
        let data = meetara_format::quantize(GgmlType::F32, values, dims[0] as usize, None);
        writer
            .add_tensor(&t.name, dims, GgmlType::F32, data.expect("f32"))
            .expect("a tensor");
    }
    Model::load(writer.finish().expect("a file")).expect("the merged model")
}

#[test]
fn logits_are_those_of_llama_cpp() {
    let prompts = Expected::read(TINY).prompts;
    let stored = read(&format!("{FOLDER}/logits.f32"));
    let stored: Vec<f32> = stored
        .as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    let cases = cases();
    let n_vocab = stored.len() / cases.len() / prompts.len();
    let mut rows = stored.chunks_exact(n_vocab);
    for case in cases {
        let mut session = Session::new(base(&case.base), None).unwrap();
        set(&mut session, &case.adapters);
        let least = if case.base.ends_with("-f32.gguf") {
            F32_COSINE_MIN
        } else {
            ROUNDED_COSINE_MIN
        };
        for prompt in &prompts {
            let ours = session.eval_tokens(&prompt.tokens).unwrap();
            let agreement = cosine(ours, rows.next().expect("a row"));
            let place = format!("{} {:?} {}", case.base, case.adapters, prompt.name);
            assert!(
                agreement > least,
                "{place}: cosine {agreement}, at least {least} is needed"
            );
            println!("{place}: cosine {agreement:.7}");
        }
    }
}

#[test]
fn logits_are_those_of_the_merged_model() {
    let prompts = Expected::read(TINY).prompts;
    for case in cases() {
        let mut session = Session::new(base(&case.base), None).unwrap();
        set(&mut session, &case.adapters);
        let merged = Arc::new(merged(&case.base, &case.adapters));
        let mut judge = Session::new(merged, None).unwrap();
        // Over a quantised base the activations are rounded to 8 bits for W, but not for the merged F32.
        let least = if case.base.ends_with("-f32.gguf") {
            0.999_99
        } else {
            0.995
        };
        for prompt in &prompts {
            let agreement = cosine(
                session.eval_tokens(&prompt.tokens).unwrap(),
                judge.eval_tokens(&prompt.tokens).unwrap(),
            );
            let place = format!("{} {:?} {}", case.base, case.adapters, prompt.name);
            assert!(agreement > least, "{place}: cosine {agreement}");
            println!("{place}: cosine {agreement:.8}");
        }
    }
}

#[test]
fn every_set_of_kernels_gives_the_bits_that_the_browser_is_held_to() {
    let expected: Hashes =
        serde_json::from_slice(&read(&format!("{FOLDER}/hashes.json"))).expect("hashes.json");
    let cases = cases();
    assert_eq!(cases.len(), expected.hashes.len());
    for (case, wanted) in cases.iter().zip(&expected.hashes) {
        for kernels in Kernels::available() {
            let file = read(&format!("{TINY}/{}", case.base));
            let model = Arc::new(Model::load_with(file, kernels).unwrap());
            let mut session = Session::new(model, None).unwrap();
            set(&mut session, &case.adapters);
            let logits = session.eval_tokens(&expected.tokens).unwrap();
            let bytes = logits.iter().flat_map(|logit| logit.to_le_bytes());
            let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            let place = format!("{} {:?} on {}", case.base, case.adapters, kernels.name);
            assert_eq!(format!("{hash:016x}"), *wanted, "{place}");
        }
    }
}

/// The ids of a greedy reply and how many tokens of its prompt were cached.
fn reply(session: &mut Session, prompt: &str) -> (Vec<u32>, u32) {
    let params = GenerateParams {
        temperature: 0.0,
        max_tokens: Some(12),
        ..GenerateParams::default()
    };
    let started = session.start_text(prompt, &params).unwrap();
    let mut ids = Vec::new();
    loop {
        match session.step().unwrap() {
            Step::Token { id, .. } => ids.push(id),
            Step::Prefill { .. } => {}
            Step::Done { .. } => return (ids, started.cached_tokens),
        }
    }
}

#[test]
fn a_swap_leaves_nothing_of_the_adapter_before() {
    let model = base("tiny-q8_0.gguf");
    let (all, some) = (
        adapter(&model, "tiny-all.gguf"),
        adapter(&model, "tiny-some.gguf"),
    );
    let prompt = "What is the best way to learn a thing?";
    let mixes: [&[(Adapter, f32)]; 5] = [
        &[],
        &[(all.clone(), 1.0)],
        &[(all.clone(), 0.5)],
        &[(some.clone(), 1.0)],
        &[(all.clone(), 1.0), (some.clone(), 1.0)],
    ];
    let fresh: Vec<_> = mixes
        .iter()
        .map(|mix| {
            let mut session = Session::new(Arc::clone(&model), None).unwrap();
            session.set_adapters(mix).unwrap();
            reply(&mut session, prompt).0
        })
        .collect();
    assert_ne!(fresh[0], fresh[1]);
    assert_ne!(fresh[1], fresh[2]);
    let mut session = Session::new(Arc::clone(&model), None).unwrap();
    for at in [0, 1, 0, 2, 1, 4, 3, 0] {
        session.set_adapters(mixes[at]).unwrap();
        let (ids, cached) = reply(&mut session, prompt);
        assert_eq!((&ids, cached > 0), (&fresh[at], false), "mix {at}");
        // The same mix again is no change: the cache stays.
        session.set_adapters(mixes[at]).unwrap();
        let (ids, cached) = reply(&mut session, prompt);
        assert_eq!((&ids, cached > 0), (&fresh[at], true), "mix {at} again");
    }
    // A scale of 0 is the base to the bit.
    session.set_adapters(&[(all, 0.0)]).unwrap();
    assert!(reply(&mut session, prompt).1 > 0, "nothing changed");
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let (model, other) = (base("tiny-f32.gguf"), base("tiny-f32.gguf"));
    let mut session = Session::new(model, None).unwrap();
    let error = session
        .set_adapters(&[(adapter(&other, "tiny-all.gguf"), 1.0)])
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    let own = adapter(session.model(), "tiny-all.gguf");
    let error = session.set_adapters(&[(own, f32::NAN)]).unwrap_err();
    assert!(error.message().contains("scale"), "{error}");
}

#[test]
fn a_pool_keeps_what_was_used_last() {
    let model = base("tiny-f32.gguf");
    let one = adapter(&model, "tiny-all.gguf");
    let bytes = one.memory_bytes();
    assert!(bytes > 4 * 12_000 && one.rank() == 4);
    let mut pool = AdapterPool::new(3 * bytes);
    for name in ["a", "b", "c"] {
        pool.insert(name.into(), one.clone()).unwrap();
    }
    pool.get("a").unwrap();
    pool.insert("d".into(), one.clone()).unwrap();
    assert_eq!(pool.names().collect::<Vec<_>>(), ["c", "a", "d"]);
    assert_eq!(pool.memory_bytes(), 3 * bytes);
    // A name again takes its own place, and nothing else goes.
    pool.insert("c".into(), one.clone()).unwrap();
    assert_eq!(pool.names().collect::<Vec<_>>(), ["a", "d", "c"]);
    let error = pool.get("b").unwrap_err();
    assert!(error.message().contains("adapter b"), "{error}");
    assert!(pool.remove("a") && !pool.remove("a"));
    let error = AdapterPool::new(bytes - 1)
        .insert("big".into(), one)
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::OutOfMemory);
    assert!(error.message().contains("big"), "{error}");
}

/// An adapter over `tiny`, from what each case spoils.
struct Draft {
    keys: Vec<(&'static str, Value)>,
    tensors: Vec<(String, Vec<u64>, Vec<f32>)>,
}

impl Draft {
    fn new() -> Self {
        let name = |suffix: &str| format!("blk.1.attn_k.weight.{suffix}");
        Self {
            keys: vec![
                ("general.type", "adapter".into()),
                ("adapter.type", "lora".into()),
                ("adapter.lora.alpha", Value::F32(4.0)),
            ],
            tensors: vec![
                (name("lora_a"), vec![96, 2], vec![0.5; 192]),
                (name("lora_b"), vec![2, 48], vec![0.25; 96]),
            ],
        }
    }

    fn file(&self, architecture: &str) -> Vec<u8> {
        let mut writer = Writer::new(architecture);
        for (key, value) in &self.keys {
            writer.set(key, value.clone());
        }
        for (name, dims, values) in &self.tensors {
            let data = meetara_format::quantize(GgmlType::F32, values, dims[0] as usize, None);
            writer
                .add_tensor(name, dims, GgmlType::F32, data.unwrap())
                .unwrap();
        }
        writer.finish().unwrap()
    }
}

#[test]
fn a_file_that_does_not_fit_is_named() {
    type Spoil = fn(&mut Draft);
    let cases: [(&str, ErrorKind, Spoil); 13] = [
        ("general.type", ErrorKind::InvalidModel, |d| {
            d.keys[0].1 = "model".into();
        }),
        ("adapter.type", ErrorKind::InvalidModel, |d| {
            d.keys[1].1 = "dora".into();
        }),
        ("adapter.lora.alpha is NaN", ErrorKind::InvalidModel, |d| {
            d.keys[2].1 = Value::F32(f32::NAN);
        }),
        ("adapter.lora.alpha", ErrorKind::InvalidModel, |d| {
            d.keys[2].1 = "four".into();
        }),
        ("alora", ErrorKind::UnsupportedModel, |d| {
            d.keys
                .push(("adapter.alora.invocation_tokens", Value::U32(1)));
        }),
        (BASE_KEY, ErrorKind::UnsupportedModel, |d| {
            d.keys.push((BASE_KEY, Value::U64(1)));
        }),
        ("blk.1.attn_k.weight.lora_a", ErrorKind::InvalidModel, |d| {
            d.tensors.truncate(1);
        }),
        ("2 tensors", ErrorKind::InvalidModel, |d| {
            d.tensors[0].0 = "blk.0.attn_k.weight.lora_b".into();
        }),
        ("blk.9.attn_k.weight", ErrorKind::UnsupportedModel, |d| {
            for t in &mut d.tensors {
                t.0 = t.0.replace("blk.1", "blk.9");
            }
        }),
        ("[48, 4]", ErrorKind::UnsupportedModel, |d| {
            d.tensors[0].1 = vec![48, 4];
        }),
        ("[4, 24]", ErrorKind::UnsupportedModel, |d| {
            d.tensors[1].1 = vec![4, 24];
        }),
        ("output_norm.weight", ErrorKind::UnsupportedModel, |d| {
            d.tensors
                .push(("output_norm.weight".into(), vec![96], vec![1.0; 96]));
        }),
        ("infinity or NaN", ErrorKind::InvalidModel, |d| {
            d.tensors[1].2[7] = f32::INFINITY;
        }),
    ];
    let model = base("tiny-f32.gguf");
    Adapter::load(&model, &Draft::new().file("llama")).expect("the draft itself is sound");
    for (named, kind, spoil) in cases {
        let mut draft = Draft::new();
        spoil(&mut draft);
        let error = Adapter::load(&model, &draft.file("llama")).expect_err(named);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message().contains(named), "{named}: {error}");
    }
    let error = Adapter::load(&model, &Draft::new().file("qwen2")).unwrap_err();
    assert!(error.message().contains("qwen2"), "{error}");
    let mut embedding = Draft::new();
    for (t, rows) in embedding.tensors.iter_mut().zip([2, 512]) {
        t.0 = t.0.replace("blk.1.attn_k", "token_embd");
        t.1[1] = rows;
        t.2.resize((t.1[0] * t.1[1]) as usize, 0.0);
    }
    let error = Adapter::load(&model, &embedding.file("llama")).unwrap_err();
    assert!(error.message().contains("token_embd.weight"), "{error}");
}

#[test]
fn a_base_is_known_by_its_norms_in_every_quantisation() {
    let hash = |file: &str| {
        let bytes = read(&format!("{TINY}/{file}"));
        let gguf = Gguf::parse(&bytes, bytes.len() as u64).unwrap();
        base_hash(&gguf, &bytes).unwrap()
    };
    let tiny = hash("tiny-f32.gguf");
    assert_eq!(tiny, hash("tiny-q4_k_m.gguf"));
    assert_ne!(tiny, hash("wide-q4_k_m.gguf"));
    let mut draft = Draft::new();
    draft.keys.push((BASE_KEY, Value::U64(tiny)));
    Adapter::load(&base("tiny-q8_0.gguf"), &draft.file("llama")).unwrap();
}

#[test]
fn damaged_files_are_errors() {
    let model = base("tiny-f32.gguf");
    let sound = Draft::new().file("llama");
    for len in (0..sound.len()).step_by(7).chain([sound.len() - 1]) {
        assert!(
            Adapter::load(&model, &sound[..len]).is_err(),
            "cut at {len}"
        );
    }
    // Any byte of the header may be anything: an answer, never a panic.
    for at in 0..600.min(sound.len()) {
        for value in [0, 1, 0x7F, 0xFF] {
            let mut spoilt = sound.clone();
            spoilt[at] = value;
            let _ = Adapter::load(&model, &spoilt);
        }
    }
    // A rank of 0, and one tensor twice.
    let patch = |from: &[u8], to: &[u8]| {
        let mut file = sound.clone();
        let at = file.windows(from.len()).position(|w| w == from).unwrap();
        file[at..at + to.len()].copy_from_slice(to);
        Adapter::load(&model, &file).unwrap_err()
    };
    let dims = |n_in: u64, rank: u64| [n_in.to_le_bytes(), rank.to_le_bytes()].concat();
    let error = patch(&dims(96, 2), &dims(96, 0));
    assert_eq!(error.kind, ErrorKind::InvalidModel, "{error}");
    let error = patch(b"weight.lora_b", b"weight.lora_a");
    assert!(error.message().contains("lora_a"), "{error}");
}

/// An adapter of rank 2 over every matrix of the first layer of `base`, with numbers in a row.
fn made_adapter(base: &[u8]) -> Vec<u8> {
    let gguf = Gguf::parse(base, base.len() as u64).expect("the base");
    let architecture = gguf.get_str("general.architecture").expect("a string");
    let mut writer = Writer::new(architecture.expect("an architecture"));
    writer.set("general.type", "adapter");
    writer.set("adapter.type", "lora");
    writer.set("adapter.lora.alpha", 4.0_f32);
    let mut count = 0_u32;
    let mut values = |len: u64| -> Vec<u8> {
        let next = |_| {
            count += 1;
            (count * 7919 % 201) as f32 / 1000.0 - 0.1
        };
        (0..len).map(next).flat_map(f32::to_le_bytes).collect()
    };
    for t in &gguf.tensors {
        if t.name.starts_with("blk.0.") && t.shape().len() == 2 {
            let [n_in, n_out, ..] = t.dims;
            for (half, dims) in [("a", [n_in, 2]), ("b", [2, n_out])] {
                let name = format!("{}.lora_{half}", t.name);
                let data = values(dims[0] * dims[1]);
                writer
                    .add_tensor(&name, &dims, GgmlType::F32, data)
                    .expect("a tensor");
            }
        }
    }
    writer.finish().expect("a file")
}

#[test]
fn qwen_bases_take_adapters_too() {
    for name in ["qwen2", "qwen3-bias"] {
        let base = Spec::named(name).gguf(FileType::F32);
        let bytes = made_adapter(&base);
        let model = Arc::new(Model::load(base.clone()).expect(name));
        let adapter = Adapter::load(&model, &bytes).expect(name);
        let tokens = [5, 300, 17, 256, 42];
        let plain = Session::new(Arc::clone(&model), None).expect(name);
        let logits = |mut session: Session| session.eval_tokens(&tokens).expect(name).to_vec();
        let mut adapted = Session::new(model, None).expect(name);
        adapted.set_adapters(&[(adapter, 0.5)]).expect(name);
        let one = merged_bytes(&base, &[(bytes, 0.5)]);
        let one = Session::new(Arc::new(one), None).expect(name);
        let (plain, adapted, one) = (logits(plain), logits(adapted), logits(one));
        assert!(cosine(&adapted, &one) > 0.999_99, "{name}");
        assert!(cosine(&adapted, &plain) < 0.999, "{name}: no effect");
    }
}
