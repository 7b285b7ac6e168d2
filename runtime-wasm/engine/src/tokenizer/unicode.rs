//! The four kinds of characters that the pre-tokenizers tell apart.

use super::unicode_tables::{LETTER, NUMBER, PUNCTUATION};

/// What the regular expressions of the pre-tokenizers can see of a character.
/// The categories exclude one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s`: the property White_Space
    Space,
    /// Everything else.
    Other,
}

/// The class of `c`.
pub(crate) fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        ' ' | '\t'..='\r' => Class::Space,
        '0'..='9' => Class::Number,
        '\0'..='\x7f' => Class::Other,
        _ if within(&LETTER, c) => Class::Letter,
        _ if c.is_whitespace() => Class::Space,
        _ if within(&NUMBER, c) => Class::Number,
        _ => Class::Other,
    }
}

/// `\p{P}`
pub(super) fn is_punctuation(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_punctuation()
            && !matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~')
    } else {
        within(&PUNCTUATION, c)
    }
}

pub(super) fn within(ranges: &[(u32, u32)], c: char) -> bool {
    let c = u32::from(c);
    let after = ranges.partition_point(|&(first, _)| first <= c);
    after
        .checked_sub(1)
        .and_then(|index| ranges.get(index))
        .is_some_and(|&(_, last)| c <= last)
}

#[cfg(test)]
mod tests {
    use super::{Class, LETTER, NUMBER, PUNCTUATION, class, is_punctuation, within};

    #[test]
    fn the_short_cuts_agree_with_the_tables() {
        for c in char::MIN..=char::MAX {
            let classes = [within(&LETTER, c), within(&NUMBER, c), c.is_whitespace()];
            let expected = match classes {
                [true, false, false] => Class::Letter,
                [false, true, false] => Class::Number,
                [false, false, true] => Class::Space,
                [false, false, false] => Class::Other,
                _ => panic!("{c:?} is in two classes"),
            };
            assert_eq!(class(c), expected, "{c:?}");
            assert_eq!(is_punctuation(c), within(&PUNCTUATION, c), "{c:?}");
        }
    }

    #[test]
    fn characters_on_the_borders_of_the_categories() {
        let cases = [
            ('é', Class::Letter),
            ('ª', Class::Letter),
            ('中', Class::Letter),
            ('ʰ', Class::Letter),
            ('½', Class::Number),
            ('Ⅷ', Class::Number),
            ('๓', Class::Number),
            ('\u{301}', Class::Other),  // a combining accent is a mark
            ('\u{17b6}', Class::Other), // a Khmer vowel sign is one, too
            ('\u{a0}', Class::Space),
            ('\u{85}', Class::Space),
            ('\u{3000}', Class::Space),
            ('\u{200b}', Class::Other), // the zero width space is no White_Space
            ('\u{378}', Class::Other),  // not assigned
            ('_', Class::Other),
        ];
        for (c, expected) in cases {
            assert_eq!(class(c), expected, "{c:?}");
        }
    }
}
