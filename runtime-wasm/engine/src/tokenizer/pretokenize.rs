//! Cuts text into the pieces within which BPE may merge.
//!
//! Models state the rule as a regular expression; here each is a function that
//! returns the length of the first piece. `?` binds a character that may be
//! missing, alternatives are tried in order, the first that matches wins:
//!
//! - GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
//! - Llama 3: `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
//!   ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
//! - Qwen 2: Llama 3 with `\p{N}`
//!
//! `\s+(?!\S)` is a run of white space that leaves its last character to the
//! next piece, unless the text ends with the run.
//!
//! Each character is looked at a bounded number of times, so the work is
//! linear in the length of the text.

use super::unicode::{Class, class, is_punctuation};
use crate::error::{Error, Result};

/// A rule for cutting text, named by `tokenizer.ggml.pre`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pre {
    /// No rule is named: four passes, each over the pieces of the one before:
    /// runs of ``[\p{P}$+<=>^~|]``, GPT-2, runs of `\p{N}`, `[0-9][0-9][0-9]`.
    Default,
    /// GPT-2.
    Gpt2,
    /// Llama 3.
    Llama3,
    /// Qwen 2.
    Qwen2,
    /// Each `\p{N}` alone, GPT-2 between them.
    SingleDigits,
}

impl Pre {
    /// The rule called `name`.
    pub(super) fn from_name(name: Option<&str>) -> Result<Self> {
        Ok(match name {
            None | Some("default") => Self::Default,
            Some("gpt-2" | "phi-2" | "mpt" | "olmo" | "roberta-bpe") => Self::Gpt2,
            Some("llama-bpe" | "llama3" | "llama-v3") => Self::Llama3,
            Some("qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "megrez") => Self::Qwen2,
            Some("smollm" | "starcoder" | "refact" | "command-r") => Self::SingleDigits,
            Some(other) => {
                return Err(Error::unsupported_model(format!(
                    "tokenizer.ggml.pre is {other:?}, which this runtime does not know; it knows default, gpt-2, \
                     phi-2, mpt, olmo, roberta-bpe, llama-bpe, llama3, llama-v3, qwen2, deepseek-r1-qwen, kormo, f2llmv2, megrez, \
                     smollm, starcoder, refact, command-r"
                )));
            }
        })
    }

    /// Calls `piece` with each piece of `text`, in order. Together they are `text`.
    pub(super) fn split<'t>(self, text: &'t str, piece: &mut impl FnMut(&'t str)) {
        match self {
            Self::Gpt2 => cut(text, gpt2, piece),
            Self::Llama3 => cut(text, |text| llama3(text, 3), piece),
            Self::Qwen2 => cut(text, |text| llama3(text, 1), piece),
            Self::SingleDigits => cut(text, single_number, &mut |part| cut(part, gpt2, piece)),
            Self::Default => cut(text, punctuation_run, &mut |part| {
                cut(part, gpt2, &mut |part| {
                    cut(part, number_run, &mut |part| cut(part, three_digits, piece));
                });
            }),
        }
    }
}

/// Cuts `text` by `first_len`, which gives the length in bytes of the first
/// piece of a text that is not empty.
fn cut<'t>(text: &'t str, first_len: impl Fn(&str) -> usize, piece: &mut impl FnMut(&'t str)) {
    let mut rest = text;
    while !rest.is_empty() {
        let (first, tail) = rest.split_at_checked(first_len(rest)).unwrap_or((rest, ""));
        // A piece of no length would be a fault of a rule; this ends the loop all the same.
        let (first, tail) = if first.is_empty() {
            (rest, "")
        } else {
            (first, tail)
        };
        piece(first);
        rest = tail;
    }
}

/// The length in bytes of the longest beginning of `text` whose characters satisfy `is`.
fn run(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is(c)).unwrap_or(text.len())
}

/// The length of the contraction that `text` begins with, 0 for none. `suffix` is the text in lower case.
fn contraction(text: &str, any_case: bool) -> usize {
    let mut bytes = text.bytes();
    if bytes.next() != Some(b'\'') {
        return 0;
    }
    let mut lower = || {
        let byte = bytes.next().unwrap_or(0);
        if any_case {
            byte.to_ascii_lowercase()
        } else {
            byte
        }
    };
    match (lower(), lower()) {
        (b's' | b't' | b'm' | b'd', _) => 2,
        (b'r' | b'v', b'e') | (b'l', b'l') => 3,
        _ => 0,
    }
}

/// `\s+(?!\S)|\s+` for a `text` that begins with white space.
fn white_space(text: &str) -> usize {
    let run = run(text, |c| class(c) == Class::Space);
    let before_last = text[..run]
        .char_indices()
        .next_back()
        .map_or(0, |(at, _)| at);
    // One character alone stays whole: there is nothing to leave behind.
    if run == text.len() || before_last == 0 {
        run
    } else {
        before_last
    }
}

/// The first piece by GPT-2's rule.
fn gpt2(text: &str) -> usize {
    let contraction = contraction(text, false);
    if contraction > 0 {
        return contraction;
    }
    // ` ?` belongs to the run behind it.
    let space = usize::from(text.starts_with(' '));
    let body = &text[space..];
    match body.chars().next().map(class) {
        Some(kind @ (Class::Letter | Class::Number | Class::Other)) => {
            space + run(body, |c| class(c) == kind)
        }
        Some(Class::Space) | None => white_space(text),
    }
}

/// The first piece by Llama 3's rule; a number has at most `digits_max` digits.
fn llama3(text: &str, digits_max: usize) -> usize {
    let contraction = contraction(text, true);
    if contraction > 0 {
        return contraction;
    }
    let is_break = |c: char| matches!(c, '\r' | '\n');
    let letters = |text: &str| run(text, |c| class(c) == Class::Letter);
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let kind = class(first);
    // `[^\r\n\p{L}\p{N}]?\p{L}+`
    if kind == Class::Letter {
        return letters(text);
    }
    if kind != Class::Number && !is_break(first) {
        let letters = letters(chars.as_str());
        if letters > 0 {
            return first.len_utf8() + letters;
        }
    }
    if kind == Class::Number {
        let numbers = text
            .chars()
            .take(digits_max)
            .take_while(|&c| class(c) == Class::Number);
        return numbers.map(char::len_utf8).sum();
    }
    // ` ?[^\s\p{L}\p{N}]+[\r\n]*`
    let space = usize::from(first == ' ');
    let others = run(&text[space..], |c| class(c) == Class::Other);
    if others > 0 {
        let end = space + others;
        return end + run(&text[end..], is_break);
    }
    // `\s*[\r\n]+`: as far as the last line break of the run.
    let spaces = run(text, |c| class(c) == Class::Space);
    match text[..spaces].rfind(is_break) {
        Some(last) => last + 1,
        None => white_space(text),
    }
}

/// One `\p{N}`, or everything up to the next.
fn single_number(text: &str) -> usize {
    match text.chars().next() {
        Some(c) if class(c) == Class::Number => c.len_utf8(),
        _ => run(text, |c| class(c) != Class::Number),
    }
}

/// A run of characters that satisfy `is`, or everything up to the next.
fn run_or_gap(text: &str, is: impl Fn(char) -> bool) -> usize {
    let inside = text.starts_with(&is);
    run(text, |c| is(c) == inside)
}

/// ``[\p{P}$+<=>^~|]+``, or what is between such runs.
fn punctuation_run(text: &str) -> usize {
    let sign = |c| matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|');
    run_or_gap(text, |c| sign(c) || is_punctuation(c))
}

/// `\p{N}+`, or what is between such runs.
fn number_run(text: &str) -> usize {
    run_or_gap(text, |c| class(c) == Class::Number)
}

/// `[0-9][0-9][0-9]`, or everything up to the next.
fn three_digits(text: &str) -> usize {
    let is_match = |three: &[u8]| three.iter().all(u8::is_ascii_digit);
    match text.as_bytes().windows(3).position(is_match) {
        Some(0) => 3,
        Some(start) => start,
        None => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::Pre;
    use crate::ErrorKind;

    fn pieces(pre: Pre, text: &str) -> Vec<&str> {
        let mut pieces = Vec::new();
        pre.split(text, &mut |piece| pieces.push(piece));
        assert_eq!(pieces.concat(), text);
        assert!(!pieces.contains(&""));
        pieces
    }

    #[test]
    fn gpt2_pieces() {
        let cases: [(&str, &[&str]); 12] = [
            ("", &[]),
            ("Hello world", &["Hello", " world"]),
            (
                "don't DON'T we'll x'rx",
                &["don", "'t", " DON", "'", "T", " we", "'ll", " x", "'", "rx"],
            ),
            ("a  b", &["a", " ", " b"]),
            ("a   ", &["a", "   "]),
            ("a \n b", &["a", " \n", " b"]),
            ("\n\nx", &["\n", "\n", "x"]),
            ("x=3.14 1234", &["x", "=", "3", ".", "14", " 1234"]),
            (" !?\n", &[" !?", "\n"]),
            ("\u{a0}\u{a0}é", &["\u{a0}", "\u{a0}", "é"]),
            ("e\u{301}x", &["e", "\u{301}", "x"]),
            (" 's", &[" '", "s"]),
        ];
        for (text, expected) in cases {
            assert_eq!(pieces(Pre::Gpt2, text), expected, "{text:?}");
        }
    }

    #[test]
    fn llama3_and_qwen2_pieces() {
        let cases: [(&str, &[&str]); 10] = [
            ("DON'T it'LL", &["DON", "'T", " it", "'LL"]),
            ("\tfoo !bar x!bar", &["\tfoo", " !", "bar", " x", "!bar"]),
            ("12345 6", &["123", "45", " ", "6"]),
            ("x!!\n\ny", &["x", "!!\n\n", "y"]),
            (" \n \n  z", &[" \n \n", " ", " z"]),
            ("a\r\n", &["a", "\r\n"]),
            ("\u{a0}é", &["\u{a0}é"]),
            (" 😀 ", &[" 😀", " "]),
            ("   1", &["  ", " ", "1"]),
            (" ", &[" "]),
        ];
        for (text, expected) in cases {
            assert_eq!(pieces(Pre::Llama3, text), expected, "{text:?}");
        }
        assert_eq!(pieces(Pre::Qwen2, "a 123"), ["a", " ", "1", "2", "3"]);
    }

    #[test]
    fn pieces_with_single_digits() {
        assert_eq!(
            pieces(Pre::SingleDigits, "ab  12c 3"),
            ["ab", "  ", "1", "2", "c", " ", "3"]
        );
        assert_eq!(pieces(Pre::SingleDigits, "½x"), ["½", "x"]);
    }

    #[test]
    fn default_pieces() {
        assert_eq!(pieces(Pre::Default, "a, b"), ["a", ",", " b"]);
        assert_eq!(
            pieces(Pre::Default, "x <=y'll"),
            ["x", " ", "<=", "y", "'", "ll"]
        );
        assert_eq!(
            pieces(Pre::Default, "n 12345½ 7"),
            ["n", " ", "123", "45½", " ", "7"]
        );
    }

    #[test]
    fn an_unknown_rule_is_named() {
        let error = Pre::from_name(Some("falcon")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::UnsupportedModel);
        assert!(error.message().contains("\"falcon\""));
        assert_eq!(Pre::from_name(None), Ok(Pre::Default));
    }
}
