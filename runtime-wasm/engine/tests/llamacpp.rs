//! llama.cpp as judge: the same files, the same token ids, the same logits and greedy replies.
//!
//! The expected values are real outputs of llama.cpp, made by the `make.py` of each folder of `tests/vectors`.
//! llama.cpp rounds activations to 8 bits in blocks of 32 or 256 for quantised weights (to f16 or bf16 for such
//! weights), so with these its logits are not the last word to the last bit: there a token must be
//! equal where llama.cpp's own margin is larger than `MARGIN_SPREADS_MIN`.

mod support;

use std::sync::Arc;

use meetara_engine::generate::{Finish, GenerateParams, Session, Step};
use meetara_engine::model::Model;
use meetara_engine::nn::kv_cache::KvType;
use meetara_engine::tokenizer::Special;
use meetara_format::Gguf;
use meetara_format::mix::FileType;
use support::tiny::Spec;
use support::{Expected, File, argmax, cosine, read, read_or_skip};

/// The least cosine to llama.cpp's logits, for F32 files.
const F32_COSINE_MIN: f64 = 0.9999;
/// The least cosine to llama.cpp's logits, for all other files.
const ROUNDED_COSINE_MIN: f64 = 0.999;
/// A greedy token of a rounded file must be equal where the best logit leads by more than this many times the
/// standard deviation of llama.cpp's logits after the prompt: what the difference of two logits is off by at the
/// least cosine allowed, sqrt(2) * sqrt(2 * (1 - 0.999)).
const MARGIN_SPREADS_MIN: f32 = 0.063;
/// The same for the random models of every architecture and type: three times as much. They are many, and each
/// token is one more chance to be off by more than one standard deviation.
const MARGIN_SPREADS_MIN_RANDOM: f32 = 0.19;

const TINY: &str = "tests/vectors/tiny";
const ARCHITECTURES: &str = "tests/vectors/architectures";

fn tiny_bytes(file: &File) -> Vec<u8> {
    if file.kept {
        return read(&format!("{TINY}/{}", file.file));
    }
    made_bytes(file)
}

/// The file made again, by our generator and our quantiser.
fn made_bytes(file: &File) -> Vec<u8> {
    let ftype: FileType = file.ftype.parse().expect("a file type of llama.cpp");
    Spec::named(&file.model).gguf(ftype)
}

/// A session whose keys and values are kept in full, as llama.cpp's were when the values were made: halves alone
/// turn a rounded model's logits by up to a cosine of 0.998 in llama.cpp too.
fn session(bytes: Vec<u8>, name: &str) -> (Arc<Model>, Session) {
    let model = Arc::new(Model::load(bytes).unwrap_or_else(|e| panic!("{name}: {e}")));
    let session = Session::with_kv(Arc::clone(&model), None, KvType::F32)
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    (model, session)
}

fn spread(logits: &[f32]) -> f32 {
    let n = logits.len() as f32;
    let mean = logits.iter().sum::<f32>() / n;
    (logits.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n).sqrt()
}

/// Holds one file against llama.cpp: ids, logits after each prompt, greedy tokens along llama.cpp's own reply.
fn judge(expected: &Expected, index: usize, bytes: Vec<u8>, margin_spreads_min: f32) {
    let file = &expected.files[index];
    let rounded = file.ftype != "f32";
    let (model, mut session) = session(bytes, &file.file);
    let cosine_min = if rounded {
        ROUNDED_COSINE_MIN
    } else {
        F32_COSINE_MIN
    };
    for (p, prompt) in expected.prompts.iter().enumerate() {
        let place = format!("{}, prompt {}", file.file, prompt.name);
        let tokenizer = model.tokenizer();
        let mut ids: Vec<u32> = if tokenizer.add_bos() {
            tokenizer.bos().into_iter().collect()
        } else {
            Vec::new()
        };
        ids.extend(
            tokenizer
                .encode(&prompt.text, Special::Parse)
                .expect("encode"),
        );
        assert_eq!(ids, prompt.tokens, "{place}: token ids");

        let theirs = expected.logits(index, p);
        let ours = session.eval_tokens(&prompt.tokens).expect("eval").to_vec();
        assert_eq!(ours.len(), file.n_vocab, "{place}");
        let ours: Vec<f32> = ours.into_iter().step_by(file.logits_stride).collect();
        let agreement = cosine(&ours, &theirs);
        assert!(
            agreement > cosine_min,
            "{place}: cosine {agreement}, at least {cosine_min} is needed"
        );

        // Row `first` of the scores chose greedy token 0.
        let greedy = &file.greedy[p];
        let first = prompt.tokens.len() - 1;
        let mut tokens = prompt.tokens.clone();
        tokens.extend(&greedy.tokens[..greedy.tokens.len() - 1]);
        let margin_min = if rounded {
            margin_spreads_min * spread(&theirs)
        } else {
            0.0
        };
        let (mut judged, mut wrong) = (0, Vec::new());
        session
            .score(&tokens, |at, row| {
                if at >= first && greedy.margins[at - first] > margin_min {
                    judged += 1;
                    let (ours, theirs) = (argmax(row), greedy.tokens[at - first]);
                    if ours != theirs {
                        wrong.push((at - first, ours, theirs, greedy.margins[at - first]));
                    }
                }
            })
            .expect("score");
        assert!(
            wrong.is_empty(),
            "{place}: (step, ours, theirs, margin): {wrong:?}"
        );
        assert!(
            4 * judged > greedy.tokens.len(),
            "{place}: only {judged} tokens had a clear winner"
        );
        println!(
            "{place}: cosine {agreement:.7}, {judged} of {} greedy tokens judged, all equal",
            greedy.tokens.len()
        );
    }
}

/// The reply of the public API, one step at a time.
fn generate(session: &mut Session, text: &str, max_tokens: usize) -> (u32, Vec<u32>, Finish) {
    let params = GenerateParams {
        temperature: 0.0,
        max_tokens: Some(max_tokens as u32),
        ..GenerateParams::default()
    };
    let started = session.start_text(text, &params).expect("start");
    let mut ids = Vec::new();
    loop {
        match session.step().expect("step") {
            Step::Prefill { .. } => {}
            Step::Token { id, .. } => ids.push(id),
            Step::Done { finish, .. } => return (started.prompt_tokens, ids, finish),
        }
    }
}

#[test]
fn the_generator_makes_the_bytes_of_the_script() {
    let expected = Expected::read(TINY);
    for file in expected.files.iter().filter(|f| f.ftype == "f32") {
        let tensors = Spec::named(&file.model).tensors();
        assert_eq!(tensors.len(), file.tensors.len());
        for (ours, (name, ty, sha256)) in tensors.iter().zip(&file.tensors) {
            let bytes: Vec<u8> = ours.values.iter().flat_map(|w| w.to_le_bytes()).collect();
            assert_eq!((&ours.name, "F32"), (name, ty.as_str()));
            assert_eq!(&support::sha256(&bytes), sha256, "{}: {name}", file.file);
        }
    }
}

#[test]
fn tiny_files_agree() {
    let expected = Expected::read(TINY);
    for (index, file) in expected.files.iter().enumerate() {
        judge(&expected, index, tiny_bytes(file), MARGIN_SPREADS_MIN);
    }
}

#[test]
fn architectures_agree_in_every_type() {
    let expected = Expected::read(ARCHITECTURES);
    for (index, file) in expected.files.iter().enumerate() {
        let bytes = made_bytes(file);
        let gguf = Gguf::parse(&bytes, bytes.len() as u64).expect("our own file");
        assert_eq!(gguf.tensors.len(), file.tensors.len(), "{}", file.file);
        for (name, ty, sha256) in &file.tensors {
            let tensor = gguf.tensor(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(tensor.ty.name(), ty, "{}: {name}", file.file);
            let ours = support::sha256(&bytes[gguf.tensor_range(tensor)]);
            assert_eq!(&ours, sha256, "{}: {name}", file.file);
        }
        judge(&expected, index, bytes, MARGIN_SPREADS_MIN_RANDOM);
    }
}

/// The replies of the F32 files of a folder, through the public API.
fn f32_replies_are_equal(folder: &str, bytes: fn(&File) -> Vec<u8>) {
    let expected = Expected::read(folder);
    for file in expected.files.iter().filter(|f| f.ftype == "f32") {
        let (_, mut session) = session(bytes(file), &file.file);
        for (prompt, greedy) in expected.prompts.iter().zip(&file.greedy) {
            let (prompt_tokens, ids, finish) =
                generate(&mut session, &prompt.text, greedy.tokens.len());
            let place = format!("{}, prompt {}", file.file, prompt.name);
            assert_eq!(prompt_tokens as usize, prompt.tokens.len(), "{place}");
            assert_eq!(ids, greedy.tokens, "{place}");
            assert_eq!(finish, Finish::Length, "{place}");
        }
    }
}

#[test]
fn f32_replies_are_equal_step_by_step() {
    f32_replies_are_equal(TINY, tiny_bytes);
    f32_replies_are_equal(ARCHITECTURES, made_bytes);
}

#[test]
fn smollm2_agrees() {
    let Some(bytes) = read_or_skip(
        "target/models/SmolLM2-135M-Instruct.Q4_1.gguf",
        "fetch it with `cargo xtask models smollm2`",
    ) else {
        return;
    };
    let expected = Expected::read("tests/vectors/smollm2");
    judge(&expected, 0, bytes, MARGIN_SPREADS_MIN);
}

#[test]
fn pocket_agrees() {
    let folder = "tests/vectors/pocket";
    let how = format!("make it with {folder}/make.py");
    if read_or_skip(&format!("{folder}/expected.json"), &how).is_none() {
        return;
    }
    let expected = Expected::read(folder);
    for (index, file) in expected.files.iter().enumerate() {
        let place = if file.kept {
            "models/pocket"
        } else {
            "target/models"
        };
        let how = "it is the F32 export that the shipped file was quantised from";
        if let Some(bytes) = read_or_skip(&format!("{place}/{}", file.file), how) {
            assert_eq!(
                support::sha256(&bytes),
                file.sha256,
                "{place}/{} is not the file that llama.cpp judged; run {folder}/make.py again",
                file.file
            );
            judge(&expected, index, bytes, MARGIN_SPREADS_MIN);
        }
    }
}
