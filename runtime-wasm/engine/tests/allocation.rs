//! Evaluating a token takes no memory from the allocator, a page of the KV cache now and then excepted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use meetara_engine::conformance::{Shape, VOCAB_MIN, random_model};
use meetara_engine::generate::{GenerateParams, Session, Step};
use meetara_engine::model::{Adapter, Model};
use meetara_format::{GgmlType, Writer};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(f: impl FnOnce()) -> usize {
    let before = COUNT.get();
    f();
    COUNT.get() - before
}

#[test]
fn a_token_allocates_nothing_but_its_text() {
    measure(false);
}

#[test]
fn a_token_through_adapters_allocates_no_more() {
    measure(true);
}

/// Two adapters over a part of the layers.
fn adapters(model: &Arc<Model>) -> Vec<(Adapter, f32)> {
    let load = |rank: u64| {
        let mut writer = Writer::new("llama");
        writer.set("general.type", "adapter");
        writer.set("adapter.type", "lora");
        for (suffix, dims) in [("lora_a", [256, rank]), ("lora_b", [rank, 256])] {
            let data = vec![0; 4 * 256 * rank as usize];
            writer
                .add_tensor(
                    &format!("blk.1.attn_q.weight.{suffix}"),
                    &dims,
                    GgmlType::F32,
                    data,
                )
                .unwrap();
        }
        Adapter::load(model, &writer.finish().unwrap()).unwrap()
    };
    vec![(load(8), 1.0), (load(16), 0.5)]
}

fn measure(adapted: bool) {
    let shape = Shape {
        n_layer: 2,
        n_embd: 256,
        n_head: 4,
        n_head_kv: 2,
        n_ff: 256,
        n_vocab: VOCAB_MIN,
        context_len: 256,
    };
    let file = random_model(shape, 3, |_| GgmlType::Q4_K).unwrap();
    let mut session = Session::new(Arc::new(Model::load(file).unwrap()), None).unwrap();
    if adapted {
        let adapters = adapters(session.model());
        session.set_adapters(&adapters).unwrap();
    }
    session.eval_tokens(&[0; 40]).unwrap();
    for token in 40..200 {
        let count = allocations(|| drop(session.append_token(token)));
        // Positions 64, 128 and 192 begin a page of each layer.
        let pages = if token % 64 == 0 { shape.n_layer } else { 0 };
        assert_eq!(count, pages, "token {token}");
    }

    let params = GenerateParams {
        max_tokens: Some(60),
        seed: 1,
        ..GenerateParams::default()
    };
    session.start_text("a", &params).unwrap();
    for _ in 0..4 {
        session.step().unwrap();
    }
    loop {
        let mut over = false;
        let mut shown = false;
        let count = allocations(|| match session.step().unwrap() {
            Step::Token { text, .. } => shown = !text.is_empty(),
            _ => over = true,
        });
        if over {
            break;
        }
        assert_eq!(
            count,
            usize::from(shown),
            "only the text of a token is allocated"
        );
    }
}
