//! Byte-level BPE (`tokenizer.ggml.model = gpt2`).
//!
//! A piece of text becomes one symbol per byte. While any two neighbours stand
//! in the list of merges, those that stand first in it become one symbol, the
//! leftmost of equal ones first. With `ignore_merges` a piece that is a token
//! as a whole stays whole.
//!
//! Short pieces scan for the best pair; long ones keep the pairs in a heap, so
//! that n bytes take time in n log n even without a single space.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use meetara_format::Strings;

use super::byte_text::{byte_to_char, char_to_byte};
use super::pretokenize::Pre;
use super::vocab::{EMPTY, Vocab, degenerate_table, hash_finish, hash_word, table_size};
use crate::error::{Error, Result};

/// Pieces up to this many bytes are merged by scanning. Nearly all pieces of
/// ordinary text are shorter; a scan of 64 numbers costs less than a heap.
const SCAN_BYTES_MAX: usize = 64;

/// The longest search in the table of merges, as for the vocabulary's.
const PROBES_MAX: usize = 4096;

/// No merge, in lists of ranks; no neighbour, in lists of positions.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Merge {
    left: u32,
    right: u32,
    merged: u32,
}

/// The merges and the rule for cutting text.
#[derive(Clone, Debug)]
pub(super) struct Bpe {
    pre: Pre,
    ignore_merges: bool,
    /// `[n_merges]`; the index is the rank.
    merges: Vec<Merge>,
    /// Hash table of ranks, open addressing.
    slots: Vec<u32>,
    /// The symbol of each byte.
    byte_symbols: [u32; 256],
}

/// Memory that pieces share.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    symbols: Vec<u32>,
    /// Scan: the rank of the pair that begins here.
    ranks: Vec<u32>,
    /// Heap: the neighbours of each position.
    previous: Vec<u32>,
    next: Vec<u32>,
    /// Rank, then position, in one number.
    heap: BinaryHeap<Reverse<u64>>,
    /// A piece in GPT-2's characters.
    text: String,
}

impl Bpe {
    /// `merges`: each "left right". Texts that are no tokens become symbols of `vocab`.
    pub(super) fn new(
        pre: Pre,
        ignore_merges: bool,
        merges: &Strings,
        vocab: &mut Vocab,
    ) -> Result<Self> {
        if u32::try_from(merges.len()).is_err() {
            return Err(Error::invalid_model(format!(
                "tokenizer.ggml.merges has {} entries, too many",
                merges.len()
            )));
        }
        let mut byte_symbols = [0; 256];
        for (byte, symbol) in (0..=u8::MAX).zip(&mut byte_symbols) {
            *symbol = vocab.intern(byte_to_char(byte).encode_utf8(&mut [0; 4]))?;
        }
        let mut bpe = Self {
            pre,
            ignore_merges,
            merges: Vec::with_capacity(merges.len()),
            slots: vec![EMPTY; table_size(merges.len())],
            byte_symbols,
        };
        let mut merged = String::new();
        let mut merged_id = 0_u32;
        for (rank, merge) in merges.iter().enumerate() {
            // The first character is never the space between the two.
            let after_first = merge.chars().next().map_or(0, char::len_utf8);
            let parts = merge[after_first..]
                .find(' ')
                .and_then(|at| merge.split_at_checked(after_first + at));
            let Some((left, right)) = parts.map(|(left, right)| (left, &right[1..])) else {
                return Err(Error::invalid_model(format!(
                    "tokenizer.ggml.merges[{rank}] is not two texts with a space between them; the file is damaged"
                )));
            };
            merged.clear();
            merged.push_str(left);
            merged.push_str(right);
            let (left, right) = (vocab.intern(left)?, vocab.intern(right)?);
            // Nearly all vocabularies have the results of merges one after the other.
            merged_id = vocab.intern_near(merged_id.wrapping_add(1), &merged)?;
            bpe.merges.push(Merge {
                left,
                right,
                merged: merged_id,
            });
            let slot = bpe
                .slot(left, right)
                .ok_or_else(|| degenerate_table("merges"))?;
            // Of equal merges the first counts.
            if bpe.slots[slot] == EMPTY {
                bpe.slots[slot] = rank as u32;
            }
        }
        Ok(bpe)
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
    ) {
        self.pre.split(text, &mut |piece| {
            self.encode_piece(vocab, piece, scratch, ids)
        });
    }

    /// How many bytes of memory this takes, the vocabulary not counted.
    pub(super) fn memory_bytes(&self) -> usize {
        self.merges.capacity() * size_of::<Merge>()
            + 4 * (self.slots.capacity() + self.byte_symbols.len())
    }

    fn encode_piece(&self, vocab: &Vocab, piece: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        if self.ignore_merges {
            scratch.text.clear();
            scratch.text.extend(piece.bytes().map(byte_to_char));
            if let Some(id) = vocab.find_token(scratch.text.as_bytes()) {
                ids.push(id);
                return;
            }
        }
        scratch.symbols.clear();
        scratch.symbols.extend(
            piece
                .bytes()
                .map(|byte| self.byte_symbols[usize::from(byte)]),
        );
        if piece.len() <= SCAN_BYTES_MAX {
            self.merge_by_scan(scratch);
        } else {
            self.merge_by_heap(scratch);
        }
        for &symbol in &scratch.symbols {
            self.push_symbol(vocab, symbol, ids);
        }
    }

    /// Appends `symbol`. One that is no token falls back to its bytes; bytes
    /// for which the vocabulary has no token are lost, as in llama.cpp.
    fn push_symbol(&self, vocab: &Vocab, symbol: u32, ids: &mut Vec<u32>) {
        let is_token = |id: &u32| (*id as usize) < vocab.len();
        if is_token(&symbol) {
            ids.push(symbol);
            return;
        }
        let bytes = vocab.text(symbol).chars().filter_map(char_to_byte);
        ids.extend(
            bytes
                .map(|byte| self.byte_symbols[usize::from(byte)])
                .filter(is_token),
        );
    }

    /// Merges `scratch.symbols` in place, in time that grows with the square of their number.
    fn merge_by_scan(&self, scratch: &mut Scratch) {
        let Scratch { symbols, ranks, .. } = scratch;
        ranks.clear();
        ranks.extend(symbols.windows(2).map(|pair| self.rank(pair[0], pair[1])));
        while let Some((at, rank)) = first_least(ranks) {
            symbols[at] = self.merges[rank as usize].merged;
            symbols.remove(at + 1);
            ranks.remove(at);
            if let Some(right) = ranks.get_mut(at) {
                *right = self.rank(symbols[at], symbols[at + 1]);
            }
            if at > 0 {
                ranks[at - 1] = self.rank(symbols[at - 1], symbols[at]);
            }
        }
    }

    /// Merges `scratch.symbols` in place, in time that grows with n log n.
    fn merge_by_heap(&self, scratch: &mut Scratch) {
        let Scratch {
            symbols,
            previous,
            next,
            heap,
            ..
        } = scratch;
        let len = symbols.len() as u32;
        previous.clear();
        previous.extend((0..len).map(|at| at.checked_sub(1).unwrap_or(NONE)));
        next.clear();
        next.extend((1..=len).map(|at| if at < len { at } else { NONE }));
        heap.clear();
        let entry = |rank: u32, at: u32| Reverse(u64::from(rank) << 32 | u64::from(at));
        let pair_rank = |symbols: &[u32], next: &[u32], at: u32| match next[at as usize] {
            NONE => NONE,
            right => self.rank(symbols[at as usize], symbols[right as usize]),
        };
        for at in 0..len {
            let rank = pair_rank(symbols, next, at);
            if rank != NONE {
                heap.push(entry(rank, at));
            }
        }
        while let Some(Reverse(best)) = heap.pop() {
            let (rank, at) = ((best >> 32) as u32, best as u32);
            // The pair may have changed since. If it has the same rank, it is the same pair.
            if symbols[at as usize] == EMPTY || pair_rank(symbols, next, at) != rank {
                continue;
            }
            let right = next[at as usize];
            let after = next[right as usize];
            symbols[at as usize] = self.merges[rank as usize].merged;
            symbols[right as usize] = EMPTY;
            next[at as usize] = after;
            if after != NONE {
                previous[after as usize] = at;
            }
            for at in [previous[at as usize], at] {
                if at != NONE {
                    let rank = pair_rank(symbols, next, at);
                    if rank != NONE {
                        heap.push(entry(rank, at));
                    }
                }
            }
        }
        symbols.retain(|&symbol| symbol != EMPTY);
    }

    /// The rank of the merge of `left` and `right`, or `NONE`.
    fn rank(&self, left: u32, right: u32) -> u32 {
        self.slot(left, right).map_or(NONE, |slot| self.slots[slot])
    }

    /// Where the pair stands in the table, or the empty place where it would stand.
    fn slot(&self, left: u32, right: u32) -> Option<usize> {
        let mask = self.slots.len() - 1;
        let start = hash_finish(hash_word(0, u64::from(left) << 32 | u64::from(right)));
        (0..PROBES_MAX)
            .map(|step| start.wrapping_add(step) & mask)
            .find(|&slot| match self.slots[slot] {
                EMPTY => true,
                rank => {
                    let merge = self.merges[rank as usize];
                    (merge.left, merge.right) == (left, right)
                }
            })
    }
}

/// The least of `ranks` that is not `NONE`, and where it stands first.
fn first_least(ranks: &[u32]) -> Option<(usize, u32)> {
    let least = ranks
        .iter()
        .copied()
        .enumerate()
        .min_by_key(|&(_, rank)| rank);
    least.filter(|&(_, rank)| rank != NONE)
}

#[cfg(test)]
mod tests {
    use super::super::vocab::Kind;
    use super::*;

    fn bpe(tokens: &[&str], merges: &[&str], ignore_merges: bool) -> (Vocab, Bpe) {
        let list = |texts: &[&str]| texts.iter().collect::<Strings>();
        let mut vocab = Vocab::new(&list(tokens), vec![Kind::Normal; tokens.len()]).unwrap();
        let bpe = Bpe::new(Pre::Gpt2, ignore_merges, &list(merges), &mut vocab).unwrap();
        (vocab, bpe)
    }

    fn encode((vocab, bpe): &(Vocab, Bpe), text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        bpe.encode(vocab, text, &mut Scratch::default(), &mut ids);
        ids
    }

    #[test]
    fn merges_apply_by_rank_and_from_the_left() {
        let bpe = bpe(
            &["a", "b", "ab", "aa", "Ġ", "bab"],
            &["a a", "a b", "b ab"],
            false,
        );
        assert_eq!(encode(&bpe, "aaa"), [3, 0]);
        assert_eq!(encode(&bpe, "aab"), [3, 1]);
        assert_eq!(encode(&bpe, "bab"), [5]);
        assert_eq!(encode(&bpe, "ab a"), [2, 4, 0]);
    }

    #[test]
    fn a_whole_piece_comes_first_only_with_ignore_merges() {
        let (tokens, merges) = (["a", "b", "c", "ab", "abc"], ["a b"]);
        assert_eq!(encode(&bpe(&tokens, &merges, false), "abc"), [3, 2]);
        assert_eq!(encode(&bpe(&tokens, &merges, true), "abc"), [4]);
    }

    #[test]
    fn what_is_no_token_falls_back_to_bytes_and_what_is_no_byte_is_lost() {
        // "ab" is merged but no token; "c" is no token at all.
        let bpe = bpe(&["a", "b", "abab"], &["a b", "ab ab"], false);
        assert_eq!(encode(&bpe, "ab"), [0, 1]);
        assert_eq!(encode(&bpe, "abab"), [2]);
        assert_eq!(encode(&bpe, "acb"), [0, 1]);
    }

    #[test]
    fn scan_and_heap_give_the_same() {
        // All merges of texts of "a" and "b" up to eight letters, in an order without a pattern.
        let mut texts: Vec<String> = vec!["a".into(), "b".into()];
        for from in 0.. {
            let Some(text) = texts.get(from).filter(|text| text.len() < 6).cloned() else {
                break;
            };
            texts.extend([format!("{text}a"), format!("{text}b")]);
        }
        let mut merges: Vec<String> = Vec::new();
        for text in texts.iter().filter(|text| text.len() > 1) {
            merges.extend((1..text.len()).map(|at| format!("{} {}", &text[..at], &text[at..])));
        }
        let mut state = 1u64;
        let mut random = || {
            state = hash_word(state, 0x1234_5678_9abc_def1);
            hash_finish(state)
        };
        for index in (1..merges.len()).rev() {
            merges.swap(index, random() % (index + 1));
        }
        merges.truncate(merges.len() / 2);
        let kinds = vec![Kind::Normal; texts.len()];
        let mut vocab = Vocab::new(&texts.iter().collect(), kinds).unwrap();
        let merges = merges.iter().collect();
        let bpe = Bpe::new(Pre::Gpt2, false, &merges, &mut vocab).unwrap();
        for len in 0..200 {
            let start: Vec<u32> = (0..len).map(|_| (random() >> 7 & 1) as u32).collect();
            let run = |merge: fn(&Bpe, &mut Scratch)| {
                let mut scratch = Scratch {
                    symbols: start.clone(),
                    ..Scratch::default()
                };
                merge(&bpe, &mut scratch);
                scratch.symbols
            };
            assert_eq!(
                run(Bpe::merge_by_scan),
                run(Bpe::merge_by_heap),
                "{start:?}"
            );
        }
    }

    #[test]
    fn a_merge_that_is_not_two_texts_is_an_error_that_names_it() {
        for bad in ["ab", "", " ", "a", " a"] {
            let mut vocab = Vocab::new(&["a"].iter().collect(), vec![Kind::Normal]).unwrap();
            let merges = ["a a", bad].iter().collect();
            let error = Bpe::new(Pre::Gpt2, false, &merges, &mut vocab).unwrap_err();
            assert!(error.message().contains("merges[1]"), "{error}");
        }
    }
}
