//! The types that llama.cpp's `quantize` gives to tensors of the llama family.

use meetara_format::GgmlType::{self, BF16, F16, F32, Q4_0, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
use meetara_format::mix::{ArchInfo, FileType, more_bits, tensor_type};
use meetara_format::{ErrorKind, Gguf, Writer};

const TIED_12: ArchInfo = ArchInfo {
    n_layer: 12,
    tied_embeddings: true,
};

/// The layers whose attn_v and ffn_down get more bits, for several depths; the last is
/// llama.cpp's snapshot for a model of 28 layers.
#[test]
fn layers_with_more_bits() {
    let cases: [(u32, &[u32]); 7] = [
        (4, &[2, 3]),
        (6, &[2, 5]),
        (8, &[0, 3, 6, 7]),
        (10, &[0, 3, 6, 8, 9]),
        (12, &[0, 3, 6, 9, 10, 11]),
        (16, &[0, 1, 4, 7, 10, 13, 14, 15]),
        (28, &[0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]),
    ];
    for (n_layer, expected) in cases {
        let found: Vec<u32> = (0..n_layer).filter(|&i| more_bits(i, n_layer)).collect();
        assert_eq!(found, expected, "{n_layer} layers");
        let arch = ArchInfo {
            n_layer,
            tied_embeddings: false,
        };
        for i in 0..n_layer {
            for part in ["attn_v", "ffn_down"] {
                let ty = tensor_type(
                    FileType::Q4_K_M,
                    &arch,
                    &format!("blk.{i}.{part}.weight"),
                    &[256, 256],
                );
                assert_eq!(ty == Q6_K, expected.contains(&i), "layer {i} of {n_layer}");
            }
        }
    }
}

#[test]
fn our_pocket_model() {
    let matrix = [256, 256];
    let cases: [(&str, &[u64], GgmlType); 16] = [
        ("token_embd.weight", &[256, 8192], Q6_K),
        ("output_norm.weight", &[256], F32),
        ("blk.0.attn_norm.weight", &[256], F32),
        ("blk.0.attn_q.weight", &matrix, Q4_K),
        ("blk.0.attn_k.weight", &[256, 128], Q4_K),
        ("blk.0.attn_v.weight", &[256, 128], Q6_K),
        ("blk.1.attn_v.weight", &[256, 128], Q4_K),
        ("blk.0.attn_output.weight", &matrix, Q4_K),
        ("blk.0.ffn_gate.weight", &[256, 768], Q4_K),
        ("blk.0.ffn_up.weight", &[256, 768], Q4_K),
        ("blk.3.ffn_down.weight", &[768, 256], Q6_K),
        ("blk.4.ffn_down.weight", &[768, 256], Q4_K),
        ("blk.0.attn_q.bias", &[256], F32),
        ("blk.0.attn_q.weight.lora_a", &[256, 8], F32),
        ("head.mood.weight", &[256, 3], F32),
        ("cls.weight", &matrix, Q4_K),
    ];
    for (name, dims, expected) in cases {
        assert_eq!(
            tensor_type(FileType::Q4_K_M, &TIED_12, name, dims),
            expected,
            "{name}"
        );
        let matrix = expected != F32;
        for (target, ty) in [
            (FileType::F16, F16),
            (FileType::BF16, BF16),
            (FileType::F32, F32),
            (FileType::Q8_0, Q8_0),
        ] {
            let expected = if matrix { ty } else { F32 };
            assert_eq!(
                tensor_type(target, &TIED_12, name, dims),
                expected,
                "{target} {name}"
            );
        }
    }
}

#[test]
fn untied_embeddings_and_fused_projections() {
    let untied = ArchInfo {
        tied_embeddings: false,
        ..TIED_12
    };
    let ty = |target, name| tensor_type(target, &untied, name, &[512, 512]);
    assert_eq!(ty(FileType::Q4_K_M, "token_embd.weight"), Q4_K);
    assert_eq!(ty(FileType::Q4_K_M, "output.weight"), Q6_K);
    assert_eq!(ty(FileType::Q4_0, "output.weight"), Q6_K);
    assert_eq!(ty(FileType::Q8_0, "output.weight"), Q8_0);
    assert_eq!(ty(FileType::Q4_0, "blk.0.attn_v.weight"), Q4_0);
    // A fused projection goes with attn_v, as in llama.cpp's snapshots.
    assert_eq!(ty(FileType::Q4_K_M, "blk.0.attn_qkv.weight"), Q6_K);
    assert_eq!(ty(FileType::Q4_K_M, "blk.1.attn_qkv.weight"), Q4_K);
    assert_eq!(ty(FileType::Q4_K_S, "blk.3.attn_v.weight"), Q5_K);
    assert_eq!(ty(FileType::Q4_K_S, "blk.4.attn_v.weight"), Q4_K);
    assert_eq!(ty(FileType::Q4_K_S, "blk.0.ffn_down.weight"), Q5_K);
    assert_eq!(ty(FileType::Q4_K_S, "blk.1.ffn_down.weight"), Q4_K);
    assert_eq!(ty(FileType::Q5_K_M, "blk.0.attn_v.weight"), Q6_K);
    assert_eq!(ty(FileType::Q5_K_S, "blk.0.attn_v.weight"), Q5_K);
}

/// A model 576 wide: 576 is a multiple of 32, not of 256.
#[test]
fn rows_that_are_no_multiple_of_a_block() {
    let arch = ArchInfo {
        n_layer: 30,
        tied_embeddings: true,
    };
    let ty = |target, name, row_len| tensor_type(target, &arch, name, &[row_len, 64]);
    assert_eq!(ty(FileType::Q4_K_M, "blk.5.attn_q.weight", 576), Q5_0);
    assert_eq!(ty(FileType::Q4_K_M, "blk.0.attn_v.weight", 576), Q8_0);
    assert_eq!(ty(FileType::Q4_K_M, "token_embd.weight", 576), Q8_0);
    assert_eq!(ty(FileType::Q4_K_M, "blk.0.ffn_down.weight", 1536), Q6_K);
    assert_eq!(ty(FileType::Q4_K_M, "blk.4.ffn_down.weight", 1536), Q4_K);
    assert_eq!(ty(FileType::Q5_K_M, "blk.5.attn_q.weight", 576), Q5_1);
    assert_eq!(ty(FileType::Q6_K, "blk.5.attn_q.weight", 576), Q8_0);
    for target in [
        FileType::Q4_K_M,
        FileType::Q6_K,
        FileType::Q8_0,
        FileType::Q4_0,
    ] {
        for name in ["blk.5.attn_q.weight", "token_embd.weight"] {
            assert_eq!(ty(target, name, 100), F16, "{target} {name}");
        }
    }
}

#[test]
fn every_choice_fits_its_row() {
    for target in FileType::ALL {
        assert_eq!(target.name().parse(), Ok(target));
        assert_eq!(FileType::try_from(target.id()), Ok(target));
        for row_len in (1..1100).step_by(3) {
            for name in [
                "token_embd.weight",
                "output.weight",
                "blk.0.attn_v.weight",
                "blk.9.ffn_up.weight",
            ] {
                let ty = tensor_type(target, &TIED_12, name, &[row_len, 2]);
                assert!(
                    ty.row_bytes(row_len as usize).is_some(),
                    "{target} {name} {row_len}: {ty}"
                );
            }
        }
    }
    let error = "Q3_K_M".parse::<FileType>().expect_err("not offered");
    assert!(error.to_string().contains("Q4_K_M, Q5_K_S"), "{error}");
}

#[test]
fn arch_info_of_a_file() {
    let mut writer = Writer::new("qwen2");
    writer.set("qwen2.block_count", 24u32);
    let with_output = {
        let mut writer = writer.clone();
        writer
            .add_tensor("output.weight", &[1], F32, vec![0; 4])
            .expect("fits");
        writer.finish().expect("valid")
    };
    let tied = writer.finish().expect("valid");
    let info =
        |file: &[u8]| ArchInfo::from_gguf(&Gguf::parse(file, file.len() as u64).expect("good"));
    let (n_layer, tied_embeddings) = (24, true);
    assert_eq!(
        info(&tied),
        Ok(ArchInfo {
            n_layer,
            tied_embeddings
        })
    );
    let tied_embeddings = false;
    assert_eq!(
        info(&with_output),
        Ok(ArchInfo {
            n_layer,
            tied_embeddings
        })
    );
    let error = info(&Writer::new("llama").finish().expect("valid")).expect_err("no block count");
    assert_eq!(error.kind, ErrorKind::Malformed);
    assert!(error.to_string().contains("llama.block_count"), "{error}");
}
