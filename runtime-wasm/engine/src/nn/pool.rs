//! Pieces of one product on several threads.
//!
//! The engine starts no threads. A host that has some lends them as a [`Pool`]. Each piece computes
//! rows or columns of its own, in the way in which one thread would, so the result is the same bit
//! for bit.
//!
//! ```text
//! one column     rows cut into runs of whole groups of eight     out  |  0  |  1  |  2  |
//! more columns   runs of whole groups of eight columns           every run reads all weights
//! ```

use std::fmt::Debug;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// The most pieces of one run.
pub const PIECES_MAX: usize = 32;

/// Products below so many multiplications stay on one thread: to wake another takes as long.
pub const WORK_MIN: usize = 1 << 17;

/// Whether this build can use a pool: the feature `threads`. Without it the code is left out.
pub(crate) const THREADS: bool = cfg!(feature = "threads");

/// Threads that a host lends.
pub trait Pool: Debug + Send + Sync {
    /// Into how many pieces work should be cut now; 1 keeps it on the calling thread. It may change
    /// from call to call, but not during one.
    fn pieces(&self) -> usize;

    /// Calls `work(piece)` once for each of `0..pieces`, in any order and on any thread, and returns
    /// when all of them have returned.
    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync));
}

/// Cuts `0..len` into at most `pieces` runs, each but the last a multiple of `unit` long.
#[must_use]
pub fn run_len(len: usize, unit: usize, pieces: usize) -> usize {
    let pieces = pieces.clamp(1, PIECES_MAX);
    len.div_ceil(unit).div_ceil(pieces).max(1) * unit
}

/// Calls `work(range, part)` for runs of `run` items of `out`, of which each has `width` values:
/// `part` holds those of `range`.
pub fn for_each_run(
    pool: &dyn Pool,
    out: &mut [f32],
    width: usize,
    run: usize,
    work: impl Fn(Range<usize>, &mut [f32]) + Sync,
) {
    let len = out.len() / width;
    let mut chunks = out.chunks_mut(run * width);
    let pieces = chunks.len();
    assert!(pieces <= PIECES_MAX);
    // Each piece takes its own part; the locks are never contended, and say so to the compiler.
    let parts: [Mutex<&mut [f32]>; PIECES_MAX] =
        std::array::from_fn(|_| Mutex::new(chunks.next().unwrap_or_default()));
    pool.run(pieces, &|piece| {
        let mut part = parts[piece].lock().unwrap_or_else(PoisonError::into_inner);
        let start = piece * run;
        work(start..len.min(start + run), &mut part);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Backwards;

    impl Pool for Backwards {
        fn pieces(&self) -> usize {
            3
        }

        fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
            (0..pieces).rev().for_each(work);
        }
    }

    #[test]
    fn every_item_is_in_one_run_and_runs_end_at_units() {
        for len in 1..70 {
            for unit in [1, 8] {
                for pieces in [1, 2, 3, 32, 1000] {
                    let run = run_len(len, unit, pieces);
                    assert!(run.is_multiple_of(unit) && len.div_ceil(run) <= pieces);
                    let mut out = vec![0.0; 2 * len];
                    for_each_run(&Backwards, &mut out, 2, run, |range, part| {
                        assert_eq!(part.len(), 2 * range.len());
                        for (item, part) in range.zip(part.chunks_exact_mut(2)) {
                            part.iter_mut().for_each(|x| *x += item as f32 + 1.0);
                        }
                    });
                    let wanted: Vec<f32> = (0..2 * len).map(|i| (i / 2 + 1) as f32).collect();
                    assert_eq!(out, wanted, "{len} by {unit} in {pieces}");
                }
            }
        }
    }
}
