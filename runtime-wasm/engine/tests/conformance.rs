//! Every set of kernels of this build gives the one hash that all builds give.

use meetara_engine::conformance::{LOGITS_HASH, logits_hash};
use meetara_engine::kernels::Kernels;

#[test]
fn every_set_of_kernels_gives_the_one_hash() {
    for kernels in Kernels::available() {
        let hash = logits_hash(kernels).unwrap();
        assert_eq!(hash, LOGITS_HASH, "{}: {hash:#018x}", kernels.name);
    }
}
