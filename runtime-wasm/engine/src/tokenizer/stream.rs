//! Bytes of tokens to text: UTF-8 whose characters may be cut by token borders.
//!
//! One token may end in the middle of a character. [`Utf8Stream`] keeps such a
//! beginning (at most three bytes) until the rest arrives, and turns bytes
//! that can never become a character into U+FFFD, one for each longest
//! ill-formed prefix, as the Unicode Standard (section 3.9) recommends and
//! `String::from_utf8_lossy` does.

/// Collects bytes and gives back the complete characters among them.
#[derive(Clone, Debug, Default)]
pub struct Utf8Stream {
    /// Bytes not yet given out: after a call, an unfinished character at most.
    bytes: Vec<u8>,
    /// What the last call gave out.
    text: String,
}

impl Utf8Stream {
    /// An empty stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes` and returns the characters that became complete with them.
    pub fn push(&mut self, bytes: &[u8]) -> &str {
        self.bytes.extend_from_slice(bytes);
        self.text.clear();
        let mut rest = self.bytes.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    self.text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, tail) = rest.split_at(error.valid_up_to());
                    self.text
                        .push_str(std::str::from_utf8(valid).unwrap_or_default());
                    rest = tail;
                    // No length: the input ends inside a character.
                    let Some(bad) = error.error_len() else { break };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    rest = rest.get(bad..).unwrap_or_default();
                }
            }
        }
        let consumed = self.bytes.len() - rest.len();
        self.bytes.drain(..consumed);
        &self.text
    }

    /// Ends the text: an unfinished character becomes one U+FFFD. The stream is empty afterwards.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        if !self.bytes.is_empty() {
            self.text.push(char::REPLACEMENT_CHARACTER);
            self.bytes.clear();
        }
        &self.text
    }

    /// Forgets everything, for the next text.
    pub fn reset(&mut self) {
        self.bytes.clear();
        self.text.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::Utf8Stream;

    /// What the stream gives for `bytes` cut into pieces of `step`.
    fn run(bytes: &[u8], step: usize) -> String {
        let mut stream = Utf8Stream::new();
        let mut text = String::new();
        for piece in bytes.chunks(step) {
            text.push_str(stream.push(piece));
        }
        text.push_str(stream.finish());
        assert_eq!(stream.push(b""), "", "finish leaves the stream empty");
        text
    }

    #[test]
    fn any_cut_gives_what_the_whole_gives() {
        let cases: [&[u8]; 8] = [
            "plain".as_bytes(),
            "naïve café 😀 日本語".as_bytes(),
            b"\xff\xfeabc",
            b"a\xe2\x82",
            b"a\xe2\x82b",
            b"\xf0\x9f\x98\xf0\x9f\x98\x80",
            b"\xed\xa0\x80 surrogate \xc0\xaf overlong",
            b"",
        ];
        for bytes in cases {
            for step in 1..=7 {
                assert_eq!(
                    run(bytes, step),
                    String::from_utf8_lossy(bytes),
                    "{bytes:?} by {step}"
                );
            }
        }
    }

    #[test]
    fn a_character_appears_with_its_last_byte() {
        let mut stream = Utf8Stream::new();
        assert_eq!(stream.push(b"x\xf0\x9f"), "x");
        assert_eq!(stream.push(b"\x98"), "");
        assert_eq!(stream.push(b"\x80y"), "😀y");
        assert_eq!(stream.finish(), "");
    }
}
