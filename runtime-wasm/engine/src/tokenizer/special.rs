//! Finds special tokens in text: the longest that begins at a place, from left to right.
//!
//! The texts are kept sorted. All that begin with the bytes seen so far stand
//! side by side, and each further byte narrows them by two binary searches;
//! the first of them, if it has no more bytes, is a match.

use crate::heap;

/// A sorted list of texts, looked up through indices.
#[derive(Clone, Debug)]
pub(super) struct SpecialSet {
    /// Indices of texts, in the order of the texts' bytes.
    sorted: Vec<u32>,
    /// Whether a text begins with the byte.
    first: [bool; 256],
}

impl SpecialSet {
    /// The set of the texts `text(index)` for all of `indices`; empty texts are left out.
    pub(super) fn new<'t>(mut indices: Vec<u32>, text: impl Fn(u32) -> &'t str) -> Self {
        let mut first = [false; 256];
        indices.retain(|&index| match text(index).bytes().next() {
            Some(byte) => {
                first[usize::from(byte)] = true;
                true
            }
            None => false,
        });
        heap::sort_reversed(&mut indices, |&a, &b| (text(a), a) > (text(b), b));
        Self {
            sorted: indices,
            first,
        }
    }

    /// The first place in `haystack` where a text of the set begins, and the longest that begins there.
    pub(super) fn find<'t>(
        &self,
        haystack: &str,
        text: impl Fn(u32) -> &'t str,
    ) -> Option<(usize, u32)> {
        let bytes = haystack.as_bytes();
        let places = bytes
            .iter()
            .enumerate()
            .filter(|&(_, &byte)| self.first[usize::from(byte)]);
        places
            .filter_map(|(at, _)| Some((at, self.longest_at(bytes.get(at..)?, &text)?)))
            .next()
    }

    fn longest_at<'t>(&self, bytes: &[u8], text: &impl Fn(u32) -> &'t str) -> Option<u32> {
        let mut longest = None;
        let mut candidates = self.sorted.as_slice();
        for depth in 0..=bytes.len() {
            let byte_at = |index: u32| text(index).as_bytes().get(depth).copied();
            // `None` sorts before every byte: texts that end here stand first.
            let ended = candidates.partition_point(|&index| byte_at(index).is_none());
            if let Some(&index) = candidates[..ended].last() {
                longest = Some(index);
            }
            let Some(&wanted) = bytes.get(depth) else {
                break;
            };
            let from = candidates.partition_point(|&index| byte_at(index) < Some(wanted));
            let to = candidates.partition_point(|&index| byte_at(index) <= Some(wanted));
            candidates = &candidates[from..to];
            if candidates.is_empty() {
                break;
            }
        }
        longest
    }

    /// How many bytes of memory this takes, the texts not counted.
    pub(super) fn memory_bytes(&self) -> usize {
        4 * self.sorted.capacity() + self.first.len()
    }
}

#[cfg(test)]
mod tests {
    use super::SpecialSet;

    #[test]
    fn the_leftmost_and_of_those_the_longest_is_found() {
        let texts = ["<|end|>", "<|endoftext|>", "<|e", "x", "", "é", "<|endo"];
        let text = |index: u32| texts[index as usize];
        let set = SpecialSet::new((0..7).collect(), text);
        let cases = [
            ("", None),
            ("plain <| <", None),
            ("a<|end|>b", Some((1, 0))),
            ("<|endoftext|>", Some((0, 1))),
            ("<|endoftex", Some((0, 6))),
            ("<|en", Some((0, 2))),
            ("caféx", Some((3, 5))),
            ("<|x|>", Some((2, 3))),
        ];
        for (haystack, expected) in cases {
            assert_eq!(set.find(haystack, text), expected, "{haystack:?}");
        }
    }

    #[test]
    fn an_empty_set_finds_nothing() {
        assert_eq!(
            SpecialSet::new(Vec::new(), |_| "").find("<s>", |_| ""),
            None
        );
    }
}
