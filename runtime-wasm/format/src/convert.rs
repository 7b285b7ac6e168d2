//! Weights to blocks and back, with every length checked.

use crate::block;
use crate::error::{Error, ErrorKind, error};
use crate::ggml_type::GgmlType;
use alloc::vec::Vec;

/// Weights to blocks: rows of `row_len` weights, one after the other.
///
/// `importance` (`[row_len]`), when given, says how much each column counts (from an importance
/// matrix: the mean square of that input). The types with a search for scales use it: Q4_0,
/// Q4_1, Q5_0, Q5_1 and the K types; the others have nothing to choose.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] when `src` is no whole number of rows, a row no whole
/// number of blocks, `importance` has another length or a negative or non-finite entry, or,
/// for the quantised types, a weight is not finite; [`ErrorKind::OutOfMemory`].
pub fn quantize(
    ty: GgmlType,
    src: &[f32],
    row_len: usize,
    importance: Option<&[f32]>,
) -> Result<Vec<u8>, Error> {
    let (Some(row_bytes), Some(0)) = (ty.row_bytes(row_len), src.len().checked_rem(row_len)) else {
        return Err(error!(
            ErrorKind::InvalidArgument,
            "{} weights in rows of {row_len} do not make whole rows of {ty} blocks of {}; choose another type",
            src.len(),
            ty.block_len()
        ));
    };
    if ty.is_quantized() {
        check_finite(src, row_len)?;
    }
    if let Some(importance) = importance {
        check_importance(importance, row_len)?;
    }
    let mut blocks = zeros(src.len() / row_len * row_bytes)?;
    let (plain, weighted) = encoders(ty);
    let rows = src
        .chunks_exact(row_len)
        .zip(blocks.chunks_exact_mut(row_bytes));
    match (importance, weighted) {
        (Some(importance), Some(weighted)) => {
            rows.for_each(|(row, out)| weighted(row, importance, out));
        }
        _ => rows.for_each(|(row, out)| plain(row, out)),
    }
    Ok(blocks)
}

type Plain = fn(&[f32], &mut [u8]);
type Weighted = fn(&[f32], &[f32], &mut [u8]);

/// A type's two ways of quantising a row.
fn encoders(ty: GgmlType) -> (Plain, Option<Weighted>) {
    use block::{q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k};
    match ty {
        GgmlType::F32 => (block::f32::quantize_row, None),
        GgmlType::F16 => (block::f16::quantize_row, None),
        GgmlType::BF16 => (block::bf16::quantize_row, None),
        GgmlType::Q8_0 => (block::q8_0::quantize_row, None),
        GgmlType::Q4_0 => (q4_0::quantize_row, Some(q4_0::quantize_row_weighted)),
        GgmlType::Q4_1 => (q4_1::quantize_row, Some(q4_1::quantize_row_weighted)),
        GgmlType::Q5_0 => (q5_0::quantize_row, Some(q5_0::quantize_row_weighted)),
        GgmlType::Q5_1 => (q5_1::quantize_row, Some(q5_1::quantize_row_weighted)),
        GgmlType::Q4_K => (q4_k::quantize_row, Some(q4_k::quantize_row_weighted)),
        GgmlType::Q5_K => (q5_k::quantize_row, Some(q5_k::quantize_row_weighted)),
        GgmlType::Q6_K => (q6_k::quantize_row, Some(q6_k::quantize_row_weighted)),
    }
}

fn check_finite(src: &[f32], row_len: usize) -> Result<(), Error> {
    match src.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(error!(
            ErrorKind::InvalidArgument,
            "the weight in row {}, column {} is {}; training has diverged, or the source is damaged",
            at / row_len,
            at % row_len,
            src[at]
        )),
    }
}

fn check_importance(importance: &[f32], row_len: usize) -> Result<(), Error> {
    if importance.len() != row_len {
        return Err(error!(
            ErrorKind::InvalidArgument,
            "the importance has {} columns, the rows have {row_len}; is it another model's?",
            importance.len()
        ));
    }
    match importance
        .iter()
        .position(|w| !(w.is_finite() && *w >= 0.0))
    {
        None => Ok(()),
        Some(at) => Err(error!(
            ErrorKind::InvalidArgument,
            "the importance of column {at} is {}; collect it again", importance[at]
        )),
    }
}

/// Blocks to weights: `n` elements of type `ty` from `data`.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] when `n` is no whole number of blocks or `data` has not
/// exactly the bytes that it calls for; [`ErrorKind::OutOfMemory`].
pub fn dequantize(ty: GgmlType, data: &[u8], n: usize) -> Result<Vec<f32>, Error> {
    if ty.row_bytes(n) != Some(data.len()) {
        return Err(error!(
            ErrorKind::InvalidArgument,
            "{} bytes are not {n} elements of {ty} ({} elements in {} bytes)",
            data.len(),
            ty.block_len(),
            ty.block_bytes()
        ));
    }
    let mut weights = zeros(n)?;
    let row = match ty {
        GgmlType::F32 => block::f32::dequantize_row,
        GgmlType::F16 => block::f16::dequantize_row,
        GgmlType::BF16 => block::bf16::dequantize_row,
        GgmlType::Q4_0 => block::q4_0::dequantize_row,
        GgmlType::Q4_1 => block::q4_1::dequantize_row,
        GgmlType::Q5_0 => block::q5_0::dequantize_row,
        GgmlType::Q5_1 => block::q5_1::dequantize_row,
        GgmlType::Q8_0 => block::q8_0::dequantize_row,
        GgmlType::Q4_K => block::q4_k::dequantize_row,
        GgmlType::Q5_K => block::q5_k::dequantize_row,
        GgmlType::Q6_K => block::q6_k::dequantize_row,
    };
    row(data, &mut weights);
    Ok(weights)
}

/// A vector of zeros, or an error where `vec!` would abort.
fn zeros<T: Clone + Default>(len: usize) -> Result<Vec<T>, Error> {
    let mut out = Vec::new();
    out.try_reserve_exact(len).map_err(|_| {
        error!(
            ErrorKind::OutOfMemory,
            "no memory for {len} elements of {} bytes",
            size_of::<T>()
        )
    })?;
    out.resize(len, T::default());
    Ok(out)
}
