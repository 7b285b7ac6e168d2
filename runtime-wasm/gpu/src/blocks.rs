//! The WGSL that unpacks each block type: `unpack(at, part)` fills `w` with sixteen weights.

use meetara_format::GgmlType;

/// Reading bytes and halves; goes before each of the others.
pub(crate) const BYTES: &str = include_str!("blocks/bytes.wgsl");

/// The unpacking of `ty`; `None` for a type without.
pub(crate) fn source(ty: GgmlType) -> Option<&'static str> {
    Some(match ty {
        GgmlType::F32 => include_str!("blocks/f32.wgsl"),
        GgmlType::F16 => include_str!("blocks/f16.wgsl"),
        GgmlType::BF16 => include_str!("blocks/bf16.wgsl"),
        GgmlType::Q4_0 => include_str!("blocks/q4_0.wgsl"),
        GgmlType::Q4_1 => include_str!("blocks/q4_1.wgsl"),
        GgmlType::Q5_0 => include_str!("blocks/q5_0.wgsl"),
        GgmlType::Q5_1 => include_str!("blocks/q5_1.wgsl"),
        GgmlType::Q8_0 => include_str!("blocks/q8_0.wgsl"),
        GgmlType::Q4_K => include_str!("blocks/q4_k.wgsl"),
        GgmlType::Q5_K => include_str!("blocks/q5_k.wgsl"),
        GgmlType::Q6_K => include_str!("blocks/q6_k.wgsl"),
        #[allow(
            unreachable_patterns,
            reason = "a type that format learns needs a file here before it can run"
        )]
        _ => return None,
    })
}
