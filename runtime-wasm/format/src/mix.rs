//! Which tensor gets which type in a file of a given kind, as llama.cpp's `quantize` decides
//! it for architectures of the llama family (dense, no experts).
//!
//! ```text
//! tensor                         F32/F16/BF16/Q8_0   Q4_K_S      Q4_K_M      Q5_K_M   others
//! one dimension, norms, other    F32                 F32         F32         F32      F32
//! output, tied token_embd        the type itself     Q6_K        Q6_K        Q6_K     Q6_K
//! attn_v, attn_qkv, layer i      the type itself     Q5_K first  Q6_K some   as Q4_K_M
//! ffn_down, layer i              the type itself     Q5_K first  Q6_K some   as Q4_K_M
//! every other matrix             the type itself     Q4_K        Q4_K        Q5_K
//! ```
//! "some" is the first and last eighth of the layers and each third one between
//! ([`more_bits`]); "first" is the first four layers for attn_v, the first eighth for
//! ffn_down. A row that is no whole number of blocks falls back to a type of 32 weights, or
//! to F16.

use crate::error::{Error, ErrorKind, error};
use crate::ggml_type::GgmlType;
use crate::gguf::Gguf;
use core::fmt;
use core::str::FromStr;

/// What a file as a whole is called. The discriminant is `general.file_type`.
#[expect(
    non_camel_case_types,
    reason = "the field's own names, as every tool prints them"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum FileType {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q8_0 = 7,
    Q5_0 = 8,
    Q5_1 = 9,
    Q4_K_S = 14,
    Q4_K_M = 15,
    Q5_K_S = 16,
    Q5_K_M = 17,
    Q6_K = 18,
    BF16 = 32,
}

impl FileType {
    /// Every kind, in the order of the ids.
    pub const ALL: [FileType; 13] = [
        FileType::F32,
        FileType::F16,
        FileType::Q4_0,
        FileType::Q4_1,
        FileType::Q8_0,
        FileType::Q5_0,
        FileType::Q5_1,
        FileType::Q4_K_S,
        FileType::Q4_K_M,
        FileType::Q5_K_S,
        FileType::Q5_K_M,
        FileType::Q6_K,
        FileType::BF16,
    ];

    /// The value of `general.file_type`.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// As in `Q4_K_M`.
    pub const fn name(self) -> &'static str {
        match self {
            FileType::F32 => "F32",
            FileType::F16 => "F16",
            FileType::Q4_0 => "Q4_0",
            FileType::Q4_1 => "Q4_1",
            FileType::Q8_0 => "Q8_0",
            FileType::Q5_0 => "Q5_0",
            FileType::Q5_1 => "Q5_1",
            FileType::Q4_K_S => "Q4_K_S",
            FileType::Q4_K_M => "Q4_K_M",
            FileType::Q5_K_S => "Q5_K_S",
            FileType::Q5_K_M => "Q5_K_M",
            FileType::Q6_K => "Q6_K",
            FileType::BF16 => "BF16",
        }
    }

    /// The type of an ordinary matrix.
    pub const fn base_type(self) -> GgmlType {
        match self {
            FileType::F32 => GgmlType::F32,
            FileType::F16 => GgmlType::F16,
            FileType::BF16 => GgmlType::BF16,
            FileType::Q4_0 => GgmlType::Q4_0,
            FileType::Q4_1 => GgmlType::Q4_1,
            FileType::Q5_0 => GgmlType::Q5_0,
            FileType::Q5_1 => GgmlType::Q5_1,
            FileType::Q8_0 => GgmlType::Q8_0,
            FileType::Q4_K_S | FileType::Q4_K_M => GgmlType::Q4_K,
            FileType::Q5_K_S | FileType::Q5_K_M => GgmlType::Q5_K,
            FileType::Q6_K => GgmlType::Q6_K,
        }
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FileType {
    type Err = Error;

    /// By name, in any case.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] with the names there are.
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|ty| ty.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                error!(
                    ErrorKind::InvalidArgument,
                    "no such file type; choose one of {}",
                    Self::ALL.map(FileType::name).join(", ")
                )
                .about(text)
            })
    }
}

impl TryFrom<u32> for FileType {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::UnsupportedType`] for any other `general.file_type`.
    fn try_from(id: u32) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|ty| ty.id() == id)
            .ok_or_else(|| {
                error!(
                    ErrorKind::UnsupportedType,
                    "file type {id} is not known here"
                )
            })
    }
}

/// What the rules ask of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchInfo {
    /// How many layers (`blk.N.`) there are.
    pub n_layer: u32,
    /// No `output.weight`: `token_embd.weight` is the output matrix too.
    pub tied_embeddings: bool,
}

impl ArchInfo {
    /// From a file's metadata and tensor table.
    ///
    /// # Errors
    /// When `general.architecture` or the architecture's `block_count` is missing or of
    /// another type.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, Error> {
        let missing = |key: &str| {
            error!(
                ErrorKind::Malformed,
                "the key is missing; this is no language model"
            )
            .about(key)
        };
        let key = "general.architecture";
        let architecture = gguf.get_str(key)?.ok_or_else(|| missing(key))?;
        let key = alloc::format!("{architecture}.block_count");
        Ok(Self {
            n_layer: gguf.get_u32(&key)?.ok_or_else(|| missing(&key))?,
            tied_embeddings: gguf.tensor("output.weight").is_none(),
        })
    }
}

/// The type of one tensor. `dims` as in [`crate::TensorInfo`]: `dims[0]` is the row length.
pub fn tensor_type(target: FileType, arch: &ArchInfo, name: &str, dims: &[u64]) -> GgmlType {
    if !is_matrix(name, dims) {
        return GgmlType::F32;
    }
    let base = target.base_type();
    if !base.is_quantized() {
        return base;
    }
    let row_len = dims.first().copied().unwrap_or(0);
    fallback(preferred(target, arch, name, row_len), row_len)
}

/// Whether a tensor is a matrix of weights, not a norm, a bias or a small table that stays
/// as it is.
fn is_matrix(name: &str, dims: &[u64]) -> bool {
    let n_dims = dims
        .iter()
        .rposition(|&dim| dim > 1)
        .map_or(1, |last| last + 1);
    let kept = [
        "_norm.weight",
        "ffn_gate_inp.weight",
        "position_embd",
        "token_types",
        "ssm_conv1d",
        "shortconv.conv.weight",
        "attn_rel_b.weight",
    ];
    // Named heads of encoders, which llama.cpp does not know: a few rows, and what they say is the model's purpose.
    let is_head = name.starts_with("head.");
    n_dims >= 2
        && name.ends_with("weight")
        && !is_head
        && !kept.iter().any(|part| name.contains(part))
}

/// What the kind of file calls for, before the row length is looked at.
fn preferred(target: FileType, arch: &ArchInfo, name: &str, row_len: u64) -> GgmlType {
    let base = target.base_type();
    let is_output = name == "output.weight"
        || arch.tied_embeddings
            && (name == "token_embd.weight" || name == "per_layer_token_embd.weight");
    if is_output {
        return if !row_len.is_multiple_of(base.block_len() as u64) || base == GgmlType::Q8_0 {
            GgmlType::Q8_0
        } else {
            GgmlType::Q6_K
        };
    }
    let Some(layer) = layer(name) else {
        return base;
    };
    let is_value = ["attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight"]
        .iter()
        .any(|part| name.contains(part));
    let is_down = name.contains("ffn_down");
    match target {
        FileType::Q4_K_M | FileType::Q5_K_M
            if (is_value || is_down) && more_bits(layer, arch.n_layer) =>
        {
            GgmlType::Q6_K
        }
        FileType::Q4_K_S if is_value && layer < 4 || is_down && layer < arch.n_layer / 8 => {
            GgmlType::Q5_K
        }
        _ => base,
    }
}

/// A type that the row length allows, near the one wanted.
fn fallback(ty: GgmlType, row_len: u64) -> GgmlType {
    let fits = |ty: GgmlType| row_len.is_multiple_of(ty.block_len() as u64);
    let smaller = match ty {
        GgmlType::Q4_K => GgmlType::Q5_0,
        GgmlType::Q5_K => GgmlType::Q5_1,
        GgmlType::Q6_K => GgmlType::Q8_0,
        other => other,
    };
    [ty, smaller]
        .into_iter()
        .find(|&ty| fits(ty))
        .unwrap_or(GgmlType::F16)
}

/// Whether layer `i` of `n` is one whose sensitive tensors get more bits.
pub fn more_bits(i: u32, n: u32) -> bool {
    let eighth = n / 8;
    i < eighth || u64::from(i) >= 7 * u64::from(n) / 8 || (i - eighth) % 3 == 2
}

/// N of `blk.N.`.
fn layer(name: &str) -> Option<u32> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}
