//! Weights to blocks and back, with every length checked.

use crate::block;
use crate::error::{Error, ErrorKind, error};
use crate::ggml_type::GgmlType;
use alloc::vec::Vec;

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
