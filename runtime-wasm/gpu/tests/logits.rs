//! The GPU's logits against the engine's, for every type a file can have; then what happens when the GPU
//! is wrong, slow or gone. Runs on whatever Vulkan there is: on lavapipe where there is no GPU.

use std::sync::Arc;
use std::time::Instant;

use meetara_engine::generate::{GenerateParams, Session, Step};
use meetara_engine::model::Model;
use meetara_format::{GgmlType, Gguf, Writer, dequantize};
use meetara_gpu::{
    Accept, Chat, Gpu, GpuModel, GpuSession, Reason, Report, Shaders, Weights, self_test,
};
use pollster::block_on;

fn file(name: &str) -> Vec<u8> {
    let path = format!(
        "{}/../../tests/vectors/tiny/{name}.gguf",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn gpu() -> Gpu {
    block_on(Gpu::request(Accept::Software)).expect("a Vulkan driver; mesa-vulkan-drivers has one")
}

/// One file on both sides.
fn sessions(gpu: Gpu, bytes: Vec<u8>, shaders: &Shaders) -> (GpuSession, Session) {
    block_on(async {
        let weights = Weights::upload(&gpu, &bytes).unwrap();
        let model = Arc::new(Model::load(bytes).unwrap());
        let gpu_model = GpuModel::with_shaders(gpu, weights, &model, shaders).await;
        let gpu_session = GpuSession::new(gpu_model.unwrap(), 128).await.unwrap();
        (gpu_session, Session::new(model, Some(128)).unwrap())
    })
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        let products = x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y));
        products.sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The same file with every tensor widened to F32, so that the engine's activations are F32 too.
fn widened(bytes: &[u8]) -> Vec<u8> {
    let gguf = Gguf::parse(bytes, bytes.len() as u64).unwrap();
    let mut writer = Writer::new("llama");
    for (key, value) in &gguf.metadata {
        writer.set(key, value.clone());
    }
    for tensor in &gguf.tensors {
        let data = gguf.tensor_data(tensor, bytes).unwrap();
        let values = dequantize(tensor.ty, data, tensor.elements() as usize).unwrap();
        let data: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        writer
            .add_tensor(&tensor.name, tensor.shape(), GgmlType::F32, data)
            .unwrap();
    }
    writer.finish().unwrap()
}

/// Three passes, and attention over more than one block of positions.
fn tokens() -> Vec<u32> {
    (0..70).map(|i| (i * 37 + 16) % 512).collect()
}

#[test]
fn logits_are_the_engines() {
    let device = gpu();
    for name in [
        "tiny-f32",
        "tiny-f16",
        "tiny-bf16",
        "tiny-q8_0",
        "tiny-q4_k_m",
        "tiny-q5_k_m",
        "wide-q4_0",
        "wide-q4_1",
        "wide-q5_0",
        "wide-q5_1",
        "wide-q4_k_m",
        "wide-q5_k_m",
        "wide-q6_k",
        "wide-q8_0",
        "untied-q4_k_m",
    ] {
        let bytes = file(name);
        let model = Arc::new(Model::load(widened(&bytes)).unwrap());
        let mut reference = Session::new(model, Some(128)).unwrap();
        let (mut gpu, mut cpu) = sessions(device.clone(), bytes, &Shaders::default());
        let tokens = tokens();
        let logits = block_on(gpu.eval(&[], &tokens)).unwrap().to_vec();
        let exact = cosine(&logits, reference.eval_tokens(&tokens).unwrap());
        let engine = cosine(&logits, cpu.eval_tokens(&tokens).unwrap());
        println!("{name}: cosine {exact:.7} to F32 arithmetic, {engine:.7} to the engine");
        assert!(exact > 0.9999, "{name}: {exact}");
        assert!(engine > 0.999, "{name}: {engine}");
        // Another end of the same tokens, then the first again: the cache is cut and filled.
        let other = block_on(gpu.eval(&tokens[..40], &[7])).unwrap().to_vec();
        let fresh = [&tokens[..40], &[7]].concat();
        let exact = cosine(&other, reference.eval_tokens(&fresh).unwrap());
        assert!(exact > 0.9999, "{name}: {exact}");
        let again = block_on(gpu.eval(&tokens[..69], &tokens[69..])).unwrap();
        assert!(cosine(again, &logits) > 0.999_999, "{name}");
    }
}

#[test]
fn the_self_test_passes_right_kernels_and_refuses_wrong_ones() {
    let start = Instant::now();
    let now_ms = || start.elapsed().as_secs_f64() * 1000.0;
    let (mut right, mut cpu) = sessions(gpu(), file("wide-q8_0"), &Shaders::default());
    let report = block_on(self_test(&mut right, &mut cpu, now_ms)).unwrap();
    println!("{report:?}");
    report.correct().unwrap();
    assert!(report.gpu_ms > 0.0 && report.cpu_ms > 0.0);
    let [fast, slow] = [(1.0, 2.0), (2.0, 1.0)].map(|(gpu_ms, cpu_ms)| Report {
        gpu_ms,
        cpu_ms,
        ..report
    });
    fast.verdict().unwrap();
    assert!(matches!(slow.verdict(), Err(Reason::Slower { .. })));

    let mut wrong = Shaders::default();
    let (minus, plus) = ("a * angle.x - b * angle.y", "a * angle.x + b * angle.y");
    wrong.rope = wrong.rope.replace(minus, plus).into();
    assert_ne!(wrong.rope, Shaders::default().rope);
    let (mut wrong, mut cpu) = sessions(gpu(), file("wide-q8_0"), &wrong);
    let report = block_on(self_test(&mut wrong, &mut cpu, now_ms)).unwrap();
    let verdict = report.verdict();
    assert!(
        matches!(verdict, Err(Reason::WrongResult { .. })),
        "{report:?}"
    );
}

#[test]
fn a_shader_that_does_not_compile_is_a_reason() {
    let bytes = file("tiny-f32");
    let gpu = gpu();
    let weights = Weights::upload(&gpu, &bytes).unwrap();
    let model = Model::load(bytes).unwrap();
    let mut wrong = Shaders::default();
    wrong.silu_mul = "fn main( {".into();
    let error = block_on(GpuModel::with_shaders(gpu, weights, &model, &wrong)).unwrap_err();
    assert_eq!(error.code(), "failed");
}

#[test]
fn software_is_refused_unless_asked_for() {
    let info = gpu().info;
    let refused = block_on(Gpu::request(Accept::Hardware));
    assert_eq!(refused.is_err(), info.device_type == wgpu::DeviceType::Cpu);
    if let Err(reason) = refused {
        assert_eq!(reason.code(), "software_adapter");
        assert!(reason.to_string().contains(&info.name));
    }
}

/// More than one slice of prefill.
const TEXT: &str = "The river runs past the old mill and under the stone bridge. \
    In the evening it is slow, and the children throw flat stones from the other side.";

fn start(chat: &mut Chat) {
    let params = GenerateParams {
        temperature: 0.0,
        max_tokens: Some(16),
        ..GenerateParams::default()
    };
    chat.session.reset();
    let started = chat.session.start_text(TEXT, &params).unwrap();
    assert!(started.prompt_tokens > 32);
}

/// The ids of a reply; `before_step` is called with the number of tokens so far.
fn reply(chat: &mut Chat, before_step: impl Fn(usize)) -> Vec<u32> {
    let mut ids = Vec::new();
    loop {
        before_step(ids.len());
        match block_on(chat.step()).unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { id, .. } => ids.push(id),
            Step::Done { .. } => return ids,
        }
    }
}

#[test]
fn a_lost_device_or_a_wrong_one_costs_no_token() {
    // In F32 both sides choose the same tokens: the file's best logits lead clearly.
    let (gpu_session, cpu) = sessions(gpu(), file("tiny-f32"), &Shaders::default());
    let mut alone = Chat::new(cpu, Err(Reason::NoAdapter));
    start(&mut alone);
    let expected = reply(&mut alone, |_| {});
    assert_eq!(expected.len(), 16);
    assert_eq!(alone.reason(), Some(&Reason::NoAdapter));

    let device = gpu_session.model().gpu().clone();
    let mut chat = Chat::new(alone.session, Ok(gpu_session));
    start(&mut chat);
    assert_eq!(reply(&mut chat, |_| {}), expected);
    assert_eq!(chat.reason(), None);

    // The same again, the device lost after the seventh token.
    start(&mut chat);
    let ids = reply(&mut chat, |done| {
        if done == 7 {
            device.destroy();
        }
    });
    assert_eq!(ids, expected);
    assert_eq!(chat.reason(), Some(&Reason::DeviceLost));

    // Numbers that are none are noticed in the middle of a reply as well.
    let mut wrong = Shaders::default();
    wrong.rms_norm = wrong.rms_norm.replace("1.0 / sqrt(", "sqrt(-").into();
    assert_ne!(wrong.rms_norm, Shaders::default().rms_norm);
    let (gpu_session, _) = sessions(gpu(), file("tiny-f32"), &wrong);
    let mut chat = Chat::new(chat.session, Ok(gpu_session));
    start(&mut chat);
    assert_eq!(reply(&mut chat, |_| {}), expected);
    assert!(matches!(chat.reason(), Some(Reason::WrongResult { .. })));
}
