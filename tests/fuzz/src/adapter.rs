//! A LoRA adapter's file: loaded for a sound base, used, kept in a pool.

use meetara_engine::generate::Session;
use meetara_engine::model::{Adapter, AdapterPool};

use crate::tiny;

/// Feeds `data` as a file.
pub fn run(data: &[u8]) {
    let base = tiny::base();
    let Ok(adapter) = Adapter::load(&base, data) else {
        return;
    };
    assert!(adapter.rank() > 0);
    let mut session = Session::new(base, None).expect("a session over our own model");
    // Its numbers may overflow, the logits with them; sampling refuses those.
    session
        .set_adapters(&[(adapter.clone(), 1.0), (adapter.clone(), -0.5)])
        .expect("it was loaded for this base");
    let len = session
        .eval_tokens(&[0, 4, 18])
        .expect("ids of the vocabulary")
        .len();
    assert_eq!(len, session.model().config().n_vocab);

    let mut pool = AdapterPool::new(adapter.memory_bytes());
    pool.insert("a".to_owned(), adapter.clone())
        .expect("it fills the budget");
    pool.insert("b".to_owned(), adapter)
        .expect("the other makes room");
    assert_eq!(pool.names().collect::<Vec<_>>(), ["b"]);
}
