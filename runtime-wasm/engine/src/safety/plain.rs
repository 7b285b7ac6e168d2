//! The plain text that rules are looked for in: lower case, 41 signs, single spaces.

/// How many signs there are: a-z, 0-9, `'`, space, `.`, `!`, `?`, in this order.
pub(super) const SIGNS: usize = 41;
/// The first so many are letters and digits.
pub(super) const WORD_SIGNS: u32 = 36;
/// The space's number.
pub(super) const SPACE: u8 = 37;
/// The full stop's number.
pub(super) const STOP: u8 = 38;

/// The number of a sign; `None` for what is none.
pub(super) fn sign_of(byte: u8) -> Option<u8> {
    Some(match byte {
        b'a'..=b'z' => byte - b'a',
        b'0'..=b'9' => byte - b'0' + 26,
        b'\'' => 36,
        b' ' => SPACE,
        b'.' => STOP,
        b'!' => 39,
        b'?' => 40,
        _ => return None,
    })
}

/// The signs of a text. What is no sign becomes a space, runs of spaces become one, spaces at both ends go. Characters
/// that nobody sees go without a trace, so that they cannot hide a word.
pub(super) fn signs(text: &str) -> Vec<u8> {
    let mut signs = Vec::with_capacity(text.len());
    for c in text.chars() {
        let sign = match c {
            '’' | '‘' | '`' | '´' => sign_of(b'\''),
            // Zero-width characters, soft hyphen, marks of direction, combining accents.
            '\u{ad}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}'
            | '\u{feff}'
            | '\u{300}'..='\u{36f}' => continue,
            // Full-width letters, digits and marks.
            '\u{ff01}'..='\u{ff5e}' => {
                let narrow = (c as u32 - 0xff01) as u8 + b'!';
                sign_of(narrow.to_ascii_lowercase())
            }
            c if c.is_ascii() => sign_of(c.to_ascii_lowercase() as u8),
            _ => None,
        };
        match sign {
            Some(sign) if sign != SPACE => signs.push(sign),
            _ if signs.last().is_some_and(|last| *last != SPACE) => signs.push(SPACE),
            _ => {}
        }
    }
    if signs.last() == Some(&SPACE) {
        signs.pop();
    }
    signs
}
