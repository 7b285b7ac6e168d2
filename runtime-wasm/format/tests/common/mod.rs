//! A small file that has every value type and several tensor types.

use meetara_format::{Array, GgmlType, Value, Writer, quantize};

/// About 2 kB: 27 metadata entries, 4 tensors, the last of which needs padding.
pub fn small_file() -> Vec<u8> {
    let mut writer = Writer::new("llama");
    writer
        .set("general.name", "a small file \u{2013} with more than ASCII")
        .set("llama.block_count", 1u32)
        .set("llama.attention.layer_norm_rms_epsilon", 1e-5f32)
        .set("tokenizer.ggml.add_bos_token", true)
        .set("scalar.u8", 200u8)
        .set("scalar.i8", -3i8)
        .set("scalar.u16", 60_000u16)
        .set("scalar.i16", -30_000i16)
        .set("scalar.i32", -2_000_000_000)
        .set("scalar.u64", u64::MAX)
        .set("scalar.i64", i64::MIN)
        .set("scalar.f64", core::f64::consts::PI)
        .set("scalar.empty", "")
        .set("array.u8", Array::U8(vec![1, 2, 255]))
        .set("array.i8", Array::I8(vec![-1, 2]))
        .set("array.u16", Array::U16(vec![1, 65_535]))
        .set("array.i16", Array::I16(vec![-32_768]))
        .set("array.u32", vec![1u32, u32::MAX])
        .set("array.i32", vec![1, -1, i32::MIN])
        .set("array.f32", vec![0.5f32, -0.0])
        .set("array.u64", Array::U64(vec![u64::MAX]))
        .set("array.i64", Array::I64(vec![i64::MIN]))
        .set("array.f64", Array::F64(vec![1e300]))
        .set("array.bool", Array::Bool(vec![true, false, true]))
        .set(
            "array.empty",
            Array::String(meetara_format::Strings::default()),
        )
        .set(
            "tokenizer.ggml.tokens",
            ["<s>", "", "\u{120}the"].map(String::from).to_vec(),
        );
    let weights: Vec<f32> = (0..256).map(|i| (i as f32 - 128.0) / 37.0).collect();
    for (name, dims, ty, n) in [
        ("token_embd.weight", &[256u64, 1][..], GgmlType::Q4_K, 256),
        ("blk.0.ffn_down.weight", &[32, 2, 2, 1], GgmlType::Q8_0, 128),
        ("blk.0.attn_norm.weight", &[5], GgmlType::F32, 5),
        ("output_norm.weight", &[3], GgmlType::F16, 3),
    ] {
        let row_len = dims[0] as usize;
        let data = quantize(ty, &weights[..n], row_len, None).expect("whole blocks");
        writer
            .add_tensor(name, dims, ty, data)
            .expect("shape and data fit");
    }
    assert!(matches!(writer.get("scalar.u8"), Some(Value::U8(200))));
    writer.finish().expect("a valid file")
}
