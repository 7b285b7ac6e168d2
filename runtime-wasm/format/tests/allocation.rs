//! What a hostile header can make the reader allocate, counted by the allocator.
//!
//! One test in a process of its own: the allocator counts for all threads.

mod common;

use cap::Cap;
use common::small_file;
use meetara_format::Gguf;
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// The reader holds at most this many bytes per byte of header: a tensor row takes 33 bytes
/// in the file and about 100 in memory, and tables grow no further than their count says.
const PER_HEADER_BYTE: usize = 8;
/// Room for an error message.
const FIXED: usize = 4096;

/// Bytes allocated in total while parsing, freed or not.
fn allocated(file: &[u8], file_len: u64) -> usize {
    let before = ALLOCATOR.total_allocated();
    let parsed = Gguf::parse(file, file_len);
    let bytes = ALLOCATOR.total_allocated() - before;
    drop(parsed);
    bytes
}

#[test]
fn allocation_is_bounded_by_the_header() {
    let file = small_file();
    let bound = file.len() * PER_HEADER_BYTE + FIXED;
    let good = allocated(&file, file.len() as u64);
    assert!(good > 0 && good < bound, "{good} of {bound}");

    // Every aligned or unaligned group of eight bytes as a huge count, length or dimension,
    // in a file said to be small and in one said to be huge.
    let mut worst = 0;
    for at in 0..file.len() - 8 {
        for huge in [u64::MAX, 1 << 62, 1 << 40, 1 << 30, 1 << 20, 4096, 0] {
            let mut damaged = file.clone();
            damaged[at..at + 8].copy_from_slice(&huge.to_le_bytes());
            for file_len in [file.len() as u64, 1 << 40] {
                let bytes = allocated(&damaged, file_len);
                assert!(bytes < bound, "{huge} at byte {at}: {bytes} of {bound}");
                worst = worst.max(bytes);
            }
        }
    }
    assert!(worst >= good);
}
