//! Buffers whose size a file or a request decides, so that a refusal is an error and no abort.
//!
//! Large buffers are asked for one by one ([`zeroed`]). For the many small ones that a template, a
//! tokenizer or a reply's text take, there is [`assure`]: WebAssembly's memory never shrinks, and its
//! allocator keeps what was freed, so memory that could be had once for all of them is there for each.

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

/// Has `bytes` free for what comes next, where memory is scarce: in WebAssembly. Elsewhere nothing is done.
///
/// # Errors
/// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) when the allocator refuses.
pub fn assure(bytes: usize, what: &str) -> Result<()> {
    if cfg!(not(target_family = "wasm")) {
        return Ok(());
    }
    let mut room = Vec::<u8>::new();
    let refused = room.try_reserve_exact(bytes).is_err();
    // Else the compiler would see that nobody uses the room, and not ask for it.
    std::hint::black_box(room.as_ptr());
    if refused {
        return Err(Error::out_of_memory(format!(
            "{bytes} bytes for {what} could not be had; there is not enough memory"
        )));
    }
    Ok(())
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
