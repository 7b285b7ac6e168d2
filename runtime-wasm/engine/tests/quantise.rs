//! Our quantiser against llama.cpp's, on the same F32 weights without an importance matrix: the type of every
//! tensor is the same, and so is every byte.
//!
//! The expected types and SHA-256 are in `tests/vectors/tiny/expected.json`; llama.cpp's quantised files stand
//! beside it, so that a difference can be looked at block by block.

mod support;

use meetara_format::mix::{ArchInfo, FileType, tensor_type};
use meetara_format::{Gguf, quantize};
use support::tiny::Spec;
use support::{Expected, File, read, sha256};

#[test]
fn types_and_bytes_are_those_of_llamacpp() {
    let expected = Expected::read("tests/vectors/tiny");
    let mut n_tensors = 0;
    for file in &expected.files {
        let target: FileType = file.ftype.parse().expect("a file type of llama.cpp");
        let spec = Spec::named(&file.model);
        let arch = ArchInfo {
            n_layer: spec.n_layer as u32,
            tied_embeddings: spec.tied,
        };
        let source = spec.tensors();
        assert_eq!(source.len(), file.tensors.len(), "{}", file.file);
        for tensor in &source {
            let place = format!("{}, {}", file.file, tensor.name);
            let (_, ty, digest) = file
                .tensors
                .iter()
                .find(|(name, ..)| *name == tensor.name)
                .unwrap_or_else(|| panic!("{place}"));
            let ours = tensor_type(target, &arch, &tensor.name, &tensor.dims);
            assert_eq!(ours.name(), ty, "{place}: type");
            let bytes =
                quantize(ours, &tensor.values, tensor.dims[0] as usize, None).expect("quantize");
            if sha256(&bytes) != *digest {
                panic!(
                    "{place}, {ty}: {}",
                    difference(file, &tensor.name, ours.block_bytes(), &bytes)
                );
            }
            n_tensors += 1;
        }
    }
    println!(
        "{n_tensors} tensors of {} files: types and bytes equal",
        expected.files.len()
    );
}

/// Where our bytes part from those in llama.cpp's file.
fn difference(file: &File, name: &str, block_bytes: usize, ours: &[u8]) -> String {
    if !file.kept {
        return "the bytes differ, and llama.cpp's file is not kept".to_owned();
    }
    let theirs = read(&format!("tests/vectors/tiny/{}", file.file));
    let gguf = Gguf::parse(&theirs, theirs.len() as u64).expect("llama.cpp's file");
    let theirs = &theirs[gguf.tensor_range(gguf.tensor(name).expect("the tensor"))];
    let pairs = || ours.chunks(block_bytes).zip(theirs.chunks(block_bytes));
    let differ = pairs().filter(|(a, b)| a != b).count();
    let first = pairs().position(|(a, b)| a != b).unwrap_or(0);
    format!(
        "{differ} of {} blocks differ, the first is block {first}",
        pairs().count()
    )
}
