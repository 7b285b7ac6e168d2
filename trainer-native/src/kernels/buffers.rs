//! A pool of large `f32` buffers.
//!
//! A training step frees and takes much the same sizes over and over; handing each buffer back to the
//! system costs a page fault per 4 KiB, measured at 13 % of a step.
//!
//! Sizes differ from step to step where texts do. So a buffer's size is rounded up by an eighth at most, and
//! one of up to twice the size will do: with a list for every exact size the pool would grow with each step.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{LazyLock, Mutex};

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Default::default);

/// Free buffers by their size.
#[derive(Default)]
struct Pool(BTreeMap<usize, Vec<Vec<f32>>>);

impl Pool {
    /// A buffer of at least `size` elements, if one is free that is not much larger.
    fn take(&mut self, size: usize) -> Option<Vec<f32>> {
        let mut fitting = self.0.range_mut(size..=2 * size);
        fitting.find_map(|(_, free)| free.pop())
    }

    fn give_back(&mut self, buffer: Vec<f32>) {
        self.0.entry(buffer.len()).or_default().push(buffer);
    }
}

/// `len` rounded up to one of eight sizes between two powers of two.
fn size_of(len: usize) -> usize {
    len.next_multiple_of((len.next_power_of_two() / 16).max(1))
}

/// A buffer that returns to the pool when dropped. Its content is unspecified when taken.
#[derive(Debug)]
pub struct Buffer {
    /// Of at least `len` elements.
    data: Vec<f32>,
    len: usize,
}

impl Buffer {
    /// Takes a buffer of exactly `len` elements; old values may be in it.
    pub fn take(len: usize) -> Self {
        let size = size_of(len);
        let pooled = POOL.lock().ok().and_then(|mut pool| pool.take(size));
        let data = pooled.unwrap_or_else(|| vec![0.0; size]);
        Self { data, len }
    }

    /// Takes a buffer of `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let mut buffer = Self::take(len);
        buffer.fill(0.0);
        buffer
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.data[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        if let Ok(mut pool) = POOL.lock() {
            pool.give_back(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pool, size_of};

    #[test]
    fn sizes_are_rounded_up_by_an_eighth_at_most() {
        for len in (0..5000).chain([1 << 20, (1 << 20) + 1]) {
            let size = size_of(len);
            assert!(size >= len && size <= len + len / 8, "{len} -> {size}");
        }
    }

    #[test]
    fn steps_of_all_sizes_need_no_more_buffers_than_a_few() {
        let mut pool = Pool::default();
        let mut made = 0;
        for step in 0..1000 {
            let len = 1000 + step * 7919 % 1000;
            let held: Vec<Vec<f32>> = (0..4)
                .map(|_| {
                    let size = size_of(len);
                    let found = pool.take(size);
                    found.unwrap_or_else(|| {
                        made += 1;
                        vec![0.0; size]
                    })
                })
                .collect();
            assert!(held.iter().all(|buffer| buffer.len() >= len));
            held.into_iter().for_each(|buffer| pool.give_back(buffer));
        }
        assert!(made <= 16, "{made} buffers for four at a time");
    }
}
