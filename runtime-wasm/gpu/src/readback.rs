//! Waiting for a buffer to be mapped, on every platform.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use crate::device::Gpu;
use crate::reason::Reason;

/// The answer of `map_async`, and who waits for it.
#[derive(Default)]
struct Slot {
    mapped: Option<bool>,
    waker: Option<Waker>,
}

/// The numbers in `buffer`, which was made for mapping, once the queue has done its work.
///
/// # Errors
/// [`Reason::DeviceLost`], [`Reason::Failed`].
pub(crate) async fn read(gpu: &Gpu, buffer: &wgpu::Buffer, out: &mut [f32]) -> Result<(), Reason> {
    let slot = Arc::new(Mutex::new(Slot::default()));
    let writer = slot.clone();
    buffer.map_async(wgpu::MapMode::Read, .., move |result| {
        let mut slot = writer.lock().unwrap_or_else(PoisonError::into_inner);
        slot.mapped = Some(result.is_ok());
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    });
    // A browser does this by itself. When the wait fails, the slot stays empty.
    #[cfg(not(target_family = "wasm"))]
    let _ = gpu.device.poll(wgpu::PollType::wait_indefinitely());
    let mapped = poll_fn(|context| {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.mapped {
            Some(mapped) => Poll::Ready(mapped),
            None if cfg!(not(target_family = "wasm")) => Poll::Ready(false),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .await;
    gpu.check()?;
    if !mapped {
        return Err(Reason::DeviceLost);
    }
    {
        let view = buffer
            .get_mapped_range(..)
            .map_err(|_| Reason::DeviceLost)?;
        let (floats, _) = view.as_chunks::<4>();
        for (out, bytes) in out.iter_mut().zip(floats) {
            *out = f32::from_le_bytes(*bytes);
        }
    }
    buffer.unmap();
    Ok(())
}
