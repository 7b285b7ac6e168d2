//! A binary heap in a slice, for lists of which the first few are wanted in order.
//!
//! ```text
//! before:  [ the heap: items[..len] | taken, the last one taken first: items[len..] ]
//! take:    [ items[..len - 1]       | taken                                         ]
//! ```
//!
//! Every item is at least as early as the two at `2 i + 1` and `2 i + 2` (Williams, "Algorithm 232:
//! Heapsort", 1964). The standard library's sorting would be quicker for long lists, and takes
//! thirty times the code: 6 kB gzip of the browser's module.

/// Turns `items` into a heap, its earliest item at 0. `earlier(a, b)`: a comes before b.
pub(crate) fn build<T>(items: &mut [T], earlier: impl Fn(&T, &T) -> bool) {
    for root in (0..items.len() / 2).rev() {
        sift_down(items, root, &earlier);
    }
}

/// Takes the earliest item off the heap, which is all of `items`: it stands at the end afterwards,
/// and what is before it is the heap that is left.
pub(crate) fn take<T>(items: &mut [T], earlier: impl Fn(&T, &T) -> bool) {
    if let Some(last) = items.len().checked_sub(1) {
        items.swap(0, last);
        sift_down(&mut items[..last], 0, &earlier);
    }
}

/// Sorts `items`, the latest first.
pub(crate) fn sort_reversed<T>(items: &mut [T], earlier: impl Fn(&T, &T) -> bool) {
    build(items, &earlier);
    for len in (2..=items.len()).rev() {
        take(&mut items[..len], &earlier);
    }
}

/// Moves the item at `root` down until it is no later than the two below it.
fn sift_down<T>(items: &mut [T], mut root: usize, earlier: &impl Fn(&T, &T) -> bool) {
    loop {
        let mut child = 2 * root + 1;
        let Some(left) = items.get(child) else {
            return;
        };
        if items
            .get(child + 1)
            .is_some_and(|right| earlier(right, left))
        {
            child += 1;
        }
        if !earlier(&items[child], &items[root]) {
            return;
        }
        items.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests {
    use super::{build, sort_reversed, take};

    /// Numbers with repetitions, in no order.
    fn numbers(len: usize) -> Vec<usize> {
        (0..len).map(|i| i * 7919 % 101).collect()
    }

    #[test]
    fn sorts_lists_of_every_small_length() {
        for len in 0..200 {
            let mut items = numbers(len);
            let mut expected = items.clone();
            expected.sort_unstable_by(|a, b| b.cmp(a));
            sort_reversed(&mut items, |a, b| a < b);
            assert_eq!(items, expected, "{len} items");
        }
    }

    #[test]
    fn takes_the_earliest_first() {
        let mut items = numbers(50);
        let mut expected = items.clone();
        expected.sort_unstable();
        build(&mut items, |a, b| a < b);
        for (taken, expected) in expected.iter().enumerate() {
            let heap = &mut items[..50 - taken];
            take(heap, |a, b| a < b);
            assert_eq!(heap.last(), Some(expected));
        }
    }
}
