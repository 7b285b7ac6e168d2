//! Stop strings in a stream of text, across the borders of tokens.
//!
//! Text is held back only while its end could still grow into a stop string.
//! The result does not depend on how the text was cut into pieces: the stop
//! string that is complete first wins, and of several that are complete with
//! the same character, the longest. All cuts lie between characters, because
//! pieces and stop strings are UTF-8.

/// Watches text for stop strings.
#[derive(Clone, Debug, Default)]
pub struct StopMatcher {
    /// Not empty, each of one byte or more.
    stops: Vec<String>,
    /// Text not given out yet. Between two calls: a proper prefix of a stop string.
    held: String,
    /// What the last call gave out.
    out: String,
    stopped: bool,
}

impl StopMatcher {
    /// A matcher for `stops`; empty strings among them are ignored.
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        Self {
            stops: stops
                .iter()
                .filter(|stop| !stop.is_empty())
                .cloned()
                .collect(),
            ..Self::default()
        }
    }

    /// Adds `text`; returns what can be shown now, and whether a stop string
    /// was found. After that the text is over: all later text is swallowed.
    pub fn push(&mut self, text: &str) -> (&str, bool) {
        self.out.clear();
        if self.stopped {
            return (&self.out, true);
        }
        if self.stops.is_empty() {
            self.out.push_str(text);
            return (&self.out, false);
        }
        self.held.push_str(text);
        if let Some(start) = self.earliest_match() {
            self.stopped = true;
            self.out.push_str(&self.held[..start]);
            self.held.clear();
        } else {
            let keep = self.possible_start();
            self.out.push_str(&self.held[..keep]);
            self.held.drain(..keep);
        }
        (&self.out, self.stopped)
    }

    /// The text is over: returns what was held back.
    pub fn finish(&mut self) -> &str {
        self.out.clear();
        self.out.push_str(&self.held);
        self.held.clear();
        &self.out
    }

    /// Where the stop string begins that ends first in `held`; the longest of those.
    fn earliest_match(&self) -> Option<usize> {
        let matches = self.stops.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        matches.min().map(|(_, start)| start)
    }

    /// Where the longest end of `held` begins that a stop string begins with.
    fn possible_start(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        // A proper prefix is shorter than the stop string.
        let from = self.held.len().saturating_sub(longest.saturating_sub(1));
        let ends = self.held.char_indices().map(|(at, _)| at);
        ends.filter(|&at| at >= from)
            .find(|&at| {
                self.stops
                    .iter()
                    .any(|stop| stop.starts_with(&self.held[at..]))
            })
            .unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::StopMatcher;

    fn matcher(stops: &[&str]) -> StopMatcher {
        StopMatcher::new(
            &stops
                .iter()
                .map(|&stop| stop.to_owned())
                .collect::<Vec<_>>(),
        )
    }

    /// All text given out for `text` cut into pieces of `step` characters, and whether it stopped.
    fn run(stops: &[&str], text: &str, step: usize) -> (String, bool) {
        let mut matcher = matcher(stops);
        let (mut out, mut stopped) = (String::new(), false);
        for piece in text.chars().collect::<Vec<_>>().chunks(step) {
            let (shown, found) = matcher.push(&piece.iter().collect::<String>());
            out.push_str(shown);
            stopped |= found;
        }
        out.push_str(matcher.finish());
        (out, stopped)
    }

    /// The definition, on the whole text: the first end at which some stop string is complete.
    fn expected(stops: &[&str], text: &str) -> (String, bool) {
        for (at, c) in text.char_indices() {
            let so_far = &text[..at + c.len_utf8()];
            let longest = stops
                .iter()
                .filter(|stop| so_far.ends_with(*stop))
                .max_by_key(|stop| stop.len());
            if let Some(stop) = longest {
                return (so_far[..so_far.len() - stop.len()].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    #[test]
    fn any_cut_gives_what_the_definition_gives() {
        let stops: [&[&str]; 6] = [
            &["\n\n"],
            &["aab", "b"],
            &["abc", "b"],
            &["é😀", "😀x"],
            &["aaaa"],
            &["User:", "\n"],
        ];
        let texts = [
            "",
            "a",
            "aaab",
            "xaabc",
            "abc",
            "ab",
            "é😀x",
            "éé😀",
            "aaa",
            "aaaaa",
            "hi Use User",
            "Us\nUser:",
            "a\n\nb",
        ];
        for stops in stops {
            for text in texts {
                for step in 1..=5 {
                    assert_eq!(
                        run(stops, text, step),
                        expected(stops, text),
                        "{stops:?} {text:?} by {step}"
                    );
                }
            }
        }
    }

    #[test]
    fn only_what_could_still_become_a_stop_string_is_held_back() {
        let mut matcher = matcher(&["STOP", "é!"]);
        assert_eq!(matcher.push("abc S"), ("abc ", false));
        assert_eq!(matcher.push("T"), ("", false));
        assert_eq!(matcher.push("A é"), ("STA ", false));
        assert_eq!(matcher.push("e"), ("ée", false));
        assert_eq!(matcher.push("xSTOPy"), ("x", true));
        assert_eq!(matcher.push("later"), ("", true));
        assert_eq!(matcher.finish(), "");
    }

    #[test]
    fn without_stop_strings_text_passes_at_once() {
        let mut matcher = matcher(&[""]);
        assert_eq!(matcher.push("anything"), ("anything", false));
        assert_eq!(matcher.finish(), "");
    }
}
