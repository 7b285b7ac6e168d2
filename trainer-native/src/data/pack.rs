//! Packs pieces into rows of T + 1 tokens and hands out batches by step number.
//!
//! Pieces are shuffled by the seed and put, one by one, into the open row with the least room that
//! still holds them (best fit). Rows stay as they are for the whole run; every epoch takes them in
//! another order, given by `(seed, epoch)`. A step's batch depends on the step alone, so that a
//! resumed run goes on with exactly the batch that would have come.
//!
//! ```text
//! row      d0 d0 d0 | e0 e0 e0 e0 | pad      T + 1 tokens
//! tokens   row[0..T]     targets  row[1..=T]
//! starts   0  0  0    3  3  3  3    7        first position of the token's document
//! weights  w  w  0    w  w  w  0    0        0 where the target is another document's
//! ```

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::encode::{Pieces, Weights};

/// One step's input. Row-major, B rows of T positions.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// T, positions of a row.
    pub positions: usize,
    /// Input ids. `[B*T]`
    pub tokens: Vec<u32>,
    /// Ids to predict: the next token of the same row. `[B*T]`
    pub targets: Vec<u32>,
    /// Loss weight of each target; 0 at document borders and in padding. `[B*T]`
    pub weights: Vec<f32>,
    /// Position within the row where the token's document begins; a padding position is a
    /// document by itself. `[B*T]`
    pub starts: Vec<u32>,
}

impl Batch {
    /// The batch in parts of at most `rows` rows.
    pub fn split(&self, rows: usize) -> impl Iterator<Item = Batch> {
        let size = (rows * self.positions).max(1);
        (0..self.tokens.len()).step_by(size).map(move |from| {
            let part = from..(from + size).min(self.tokens.len());
            Batch {
                positions: self.positions,
                tokens: self.tokens[part.clone()].to_vec(),
                targets: self.targets[part.clone()].to_vec(),
                weights: self.weights[part.clone()].to_vec(),
                starts: self.starts[part].to_vec(),
            }
        })
    }
}

/// Pieces in rows.
pub struct Packed {
    pieces: Pieces,
    /// Pieces of all rows, row after row.
    order: Vec<u32>,
    /// Where each row ends in `order`. `[n_rows]`
    row_ends: Vec<usize>,
    seq_len: usize,
    seed: u64,
    pad: u32,
    weights: Weights,
}

impl Packed {
    /// Packs every piece as often as it is used.
    ///
    /// `pad` fills rows; it is never learnt and nothing attends to it.
    ///
    /// # Errors
    /// Without pieces, and for a piece longer than `seq_len + 1`.
    pub fn new(
        pieces: Pieces,
        seq_len: usize,
        pad: u32,
        weights: Weights,
        seed: u64,
    ) -> Result<Self> {
        ensure!(
            !pieces.is_empty(),
            "there is nothing to pack: the data holds no tokens"
        );
        ensure!(
            u32::try_from(pieces.len()).is_ok(),
            "{} pieces are more than can be packed",
            pieces.len()
        );
        ensure!(
            (0.0..=1.0).contains(&weights.prompt),
            "the prompt weight is {}: it must be from 0 to 1",
            weights.prompt
        );
        let row_len = seq_len + 1;
        let mut queue: Vec<u32> = Vec::new();
        for i in 0..pieces.len() {
            let n = pieces.range(i).len();
            ensure!(
                (1..=row_len).contains(&n),
                "piece {i} has {n} tokens, a row holds {row_len}"
            );
            queue.extend(std::iter::repeat_n(i as u32, pieces.uses[i] as usize));
        }
        ensure!(
            !queue.is_empty(),
            "there is nothing to pack: no piece is used"
        );
        queue.shuffle(&mut rng(seed, u64::MAX));

        let mut rows: Vec<Vec<u32>> = Vec::new();
        // Room left -> open rows with that room.
        let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for i in queue {
            let n = pieces.range(i as usize).len();
            let best = open.range(n..).next().map(|(&room, _)| room);
            let (row, room) = match best {
                Some(room) => {
                    let same = open.entry(room).or_default();
                    let row = same.pop().unwrap_or_default();
                    if same.is_empty() {
                        open.remove(&room);
                    }
                    (row, room)
                }
                None => {
                    rows.push(Vec::new());
                    (rows.len() - 1, row_len)
                }
            };
            rows[row].push(i);
            if room > n {
                open.entry(room - n).or_default().push(row);
            }
        }
        let row_ends = rows
            .iter()
            .scan(0, |end, row| {
                *end += row.len();
                Some(*end)
            })
            .collect();
        Ok(Self {
            pieces,
            order: rows.concat(),
            row_ends,
            seq_len,
            seed,
            pad,
            weights,
        })
    }

    /// Number of rows; one epoch.
    pub fn n_rows(&self) -> usize {
        self.row_ends.len()
    }

    /// The pieces as they were given.
    pub fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// Share of the rows that is not padding, 0 to 1.
    pub fn fill(&self) -> f64 {
        self.pieces.tokens_per_epoch() as f64 / (self.n_rows() * (self.seq_len + 1)) as f64
    }

    /// The batch of a step: rows `step * batch_size ..` of the endless sequence of epochs.
    pub fn batch(&self, step: u64, batch_size: usize) -> Batch {
        let n_rows = self.n_rows() as u64;
        let first = step.wrapping_mul(batch_size as u64);
        let mut shuffled: Option<(u64, Vec<u32>)> = None;
        let mut batch = self.empty(batch_size);
        for i in 0..batch_size as u64 {
            let at = first.wrapping_add(i);
            let epoch = at / n_rows;
            let order = match &mut shuffled {
                Some((of, order)) if *of == epoch => order,
                other => &mut other.insert((epoch, self.epoch_order(epoch))).1,
            };
            self.write_row(order[(at % n_rows) as usize] as usize, &mut batch);
        }
        batch
    }

    /// Rows `first..first + n` in packing order, for measuring; fewer at the end.
    pub fn rows(&self, first: usize, n: usize) -> Batch {
        let rows = first.min(self.n_rows())..first.saturating_add(n).min(self.n_rows());
        let mut batch = self.empty(rows.len());
        for row in rows {
            self.write_row(row, &mut batch);
        }
        batch
    }

    fn empty(&self, batch_size: usize) -> Batch {
        let n = batch_size * self.seq_len;
        Batch {
            positions: self.seq_len,
            tokens: Vec::with_capacity(n),
            targets: Vec::with_capacity(n),
            weights: Vec::with_capacity(n),
            starts: Vec::with_capacity(n),
        }
    }

    fn epoch_order(&self, epoch: u64) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.n_rows() as u32).collect();
        order.shuffle(&mut rng(self.seed, epoch));
        order
    }

    fn write_row(&self, row: usize, batch: &mut Batch) {
        let first = row.checked_sub(1).map_or(0, |before| self.row_ends[before]);
        let end = batch.tokens.len() + self.seq_len;
        let mut position = 0;
        for &piece in &self.order[first..self.row_ends[row]] {
            let range = self.pieces.range(piece as usize);
            let (ids, classes) = (&self.pieces.ids[range.clone()], &self.pieces.classes[range]);
            let start = position as u32;
            for (i, &id) in ids.iter().enumerate() {
                // The row's last token is a target only.
                if position == self.seq_len {
                    break;
                }
                batch.tokens.push(id);
                batch.starts.push(start);
                match (ids.get(i + 1), classes.get(i + 1)) {
                    (Some(&next), Some(&class)) => {
                        batch.targets.push(next);
                        batch.weights.push(self.weights.of(class));
                    }
                    _ => {
                        batch.targets.push(self.pad);
                        batch.weights.push(0.0);
                    }
                }
                position += 1;
            }
        }
        batch.starts.extend(position as u32..self.seq_len as u32);
        batch.tokens.resize(end, self.pad);
        batch.targets.resize(end, self.pad);
        batch.weights.resize(end, 0.0);
    }
}

/// One generator per epoch; the packing itself uses epoch `u64::MAX`.
fn rng(seed: u64, epoch: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch);
    rng
}

#[cfg(test)]
mod tests {
    use super::super::encode::Class;
    use super::*;

    /// Pieces of the given lengths; every token's id is unique and above 0.
    fn pieces(lengths: &[usize]) -> Pieces {
        let mut pieces = Pieces::default();
        for &n in lengths {
            for i in 0..n {
                pieces.ids.push(pieces.ids.len() as u32 + 1);
                let class = [Class::Marker, Class::Prompt, Class::Full][i.min(2)];
                pieces.classes.push(class);
            }
            pieces.ends.push(pieces.ids.len());
            pieces.uses.push(1);
        }
        pieces
    }

    fn pack(pieces: Pieces, seq_len: usize, seed: u64) -> Packed {
        Packed::new(pieces, seq_len, 0, Weights::default(), seed).unwrap()
    }

    #[test]
    fn one_row_in_full() {
        let packed = pack(pieces(&[4]), 7, 0);
        let batch = packed.batch(0, 1);
        assert_eq!(batch.tokens, [1, 2, 3, 4, 0, 0, 0]);
        assert_eq!(batch.targets, [2, 3, 4, 0, 0, 0, 0]);
        assert_eq!(batch.weights, [0.5, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(batch.starts, [0, 0, 0, 0, 4, 5, 6]);
        assert_eq!(packed.fill(), 0.5);

        let full = pack(pieces(&[8]), 7, 0).batch(0, 1);
        assert_eq!(full.tokens, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(full.targets, [2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(full.starts, [0; 7]);
    }

    #[test]
    fn documents_do_not_see_one_another_and_nothing_is_lost() {
        let lengths: Vec<usize> = (0..500).map(|i| 1 + i * 37 % 33).collect();
        let all = pieces(&lengths);
        let packed = pack(all.clone(), 32, 5);
        assert!(packed.fill() > 0.95, "{}", packed.fill());
        let document = |id: u32| all.ends.partition_point(|&end| end < id as usize);
        let batch = packed.batch(0, packed.n_rows());
        let mut learnt = 0;
        for (i, &token) in batch.tokens.iter().enumerate() {
            let (row, position) = (i / 32 * 32, i % 32);
            let start = batch.starts[i] as usize;
            assert!(start <= position);
            if token == 0 {
                assert_eq!((start, batch.weights[i]), (position, 0.0));
                continue;
            }
            let here = document(token);
            assert_eq!(batch.tokens[row + start], all.range(here).start as u32 + 1);
            if batch.weights[i] > 0.0 {
                learnt += 1;
                assert_eq!(batch.targets[i], token + 1);
                assert_eq!(document(batch.targets[i]), here);
            }
        }
        // Every token is learnt once, but for the first of each piece.
        assert_eq!(learnt, all.ids.len() - all.len());
    }

    #[test]
    fn a_step_is_the_same_whatever_came_before() {
        let lengths: Vec<usize> = (0..90).map(|i| 5 + i % 9).collect();
        let (a, b) = (pack(pieces(&lengths), 16, 3), pack(pieces(&lengths), 16, 3));
        let forward: Vec<Batch> = (0..40).map(|step| a.batch(step, 7)).collect();
        for step in (0..40).rev() {
            assert_eq!(forward[step as usize], b.batch(step, 7));
        }
        assert_ne!(forward[0], pack(pieces(&lengths), 16, 4).batch(0, 7));
        assert_eq!(a.batch(3, 7).tokens.len(), 7 * 16);
    }

    #[test]
    fn every_epoch_shows_every_row_once_in_another_order() {
        let packed = pack(pieces(&[9; 50]), 8, 1);
        assert_eq!(packed.n_rows(), 50);
        // 25 steps of 4 rows are two epochs, step 12 straddles them.
        let rows: Vec<u32> = (0..25)
            .flat_map(|step| packed.batch(step, 4).tokens)
            .step_by(8)
            .collect();
        let sorted = |rows: &[u32]| {
            let mut rows = rows.to_vec();
            rows.sort_unstable();
            rows.dedup();
            rows
        };
        let (one, two) = rows.split_at(50);
        assert_eq!(sorted(one).len(), 50);
        assert_eq!(sorted(one), sorted(two));
        assert_ne!(one, two);
    }

    #[test]
    fn uses_rows_and_errors() {
        let mut twice = pieces(&[4, 4]);
        twice.uses = vec![3, 0];
        let packed = pack(twice, 3, 0);
        assert_eq!(packed.rows(0, 99).tokens, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
        assert_eq!(packed.rows(2, 1).tokens, [1, 2, 3]);
        assert!(packed.rows(3, 1).tokens.is_empty());

        let new = |pieces, weights| {
            Packed::new(pieces, 3, 0, weights, 0)
                .err()
                .map(|e| e.to_string())
        };
        let error = new(pieces(&[4, 5]), Weights::default());
        assert!(error.is_some_and(|e| e.contains("piece 1 has 5 tokens")));
        assert!(new(Pieces::default(), Weights::default()).is_some());
        assert!(new(pieces(&[4]), Weights { prompt: f32::NAN }).is_some());
    }
}
