//! Products in pieces, on threads that the test lends: the same bits as on one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use meetara_engine::conformance::{Shape, VOCAB_MIN, random_model};
use meetara_engine::generate::Session;
use meetara_engine::model::Model;
use meetara_engine::nn::pool::Pool;
use meetara_format::GgmlType;

/// Wide enough that feed-forward products are cut for one column, and not so wide that all are.
const SHAPE: Shape = Shape {
    n_layer: 2,
    n_embd: 256,
    n_head: 4,
    n_head_kv: 2,
    n_ff: 768,
    // No multiple of eight, so that the last group of rows is not full.
    n_vocab: VOCAB_MIN.next_multiple_of(8) + 3,
    context_len: 128,
};

/// New threads for every run.
#[derive(Debug)]
struct Threads {
    pieces: usize,
    runs: AtomicUsize,
}

impl Pool for Threads {
    fn pieces(&self) -> usize {
        self.pieces
    }

    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let piece = next.fetch_add(1, Ordering::Relaxed);
                        if piece >= pieces {
                            break;
                        }
                        work(piece);
                    }
                });
            }
        });
    }
}

/// The bits of the logits after a prompt of several passes, and after one more token.
fn logits(session: &mut Session) -> Vec<u32> {
    let prompt: Vec<u32> = (0..45).map(|i| i * 7 % 256).collect();
    let mut all = session.eval_tokens(&prompt).unwrap().to_vec();
    all.extend_from_slice(session.append_token(3).unwrap());
    all.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn threads_change_no_bit_of_the_logits() {
    let types = [
        GgmlType::F32,
        GgmlType::F16,
        GgmlType::Q4_K,
        GgmlType::Q6_K,
        GgmlType::Q8_0,
        GgmlType::Q5_1,
    ];
    for ty in types {
        let file = random_model(SHAPE, 5, |_| ty).unwrap();
        let mut session = Session::new(Arc::new(Model::load(file).unwrap()), None).unwrap();
        let wanted = logits(&mut session);
        for pieces in [1, 2, 7, 32] {
            let pool = Arc::new(Threads {
                pieces,
                runs: AtomicUsize::new(0),
            });
            session.set_pool(Some(pool.clone()));
            assert_eq!(logits(&mut session), wanted, "{ty} in {pieces} pieces");
            // The first pass: all 7 matrices of one layer, keys and values of the last. The second: the
            // same, and for its one output, as for the token, the 3 that are large enough.
            let runs = pool.runs.load(Ordering::Relaxed);
            assert_eq!(runs >= 9 + 12 + 6, pieces > 1, "{ty}: {runs} runs");
        }
    }
}
