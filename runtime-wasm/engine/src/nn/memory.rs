//! Buffers whose size a file decides, so that a refusal is an error and no abort.

use crate::error::{Error, Result};

/// `len` times the default value. `what` names the buffer in the error.
///
/// # Errors
/// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) when the allocator refuses.
pub fn zeroed<T: Clone + Default>(len: usize, what: &str) -> Result<Vec<T>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| {
        Error::out_of_memory(format!(
            "{} bytes for {what} could not be had; use a smaller context or a smaller model",
            len.saturating_mul(size_of::<T>())
        ))
    })?;
    buffer.resize(len, T::default());
    Ok(buffer)
}

/// The product of `factors`.
///
/// # Errors
/// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) when it does not fit `usize`.
pub fn product(factors: &[usize], what: &str) -> Result<usize> {
    let product = factors.iter().try_fold(1_usize, |n, &f| n.checked_mul(f));
    product.ok_or_else(|| {
        Error::out_of_memory(format!(
            "the size of {what} does not fit this machine's addresses"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_refusal_is_an_error() {
        let error = zeroed::<f32>(usize::MAX / 8, "a test").unwrap_err();
        assert_eq!(error.kind, ErrorKind::OutOfMemory);
        assert!(error.message().contains("a test"));
        assert!(product(&[usize::MAX, 2], "a test").is_err());
        assert_eq!(zeroed::<u16>(3, "a test").unwrap(), [0; 3]);
    }
}
