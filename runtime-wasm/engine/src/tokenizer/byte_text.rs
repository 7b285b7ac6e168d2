//! GPT-2's way to write bytes as printable characters.
//!
//! The vocabulary of a byte-level BPE is stored as text. The 188 bytes that
//! print in Latin-1 (33..=126, 161..=172, 174..=255) stand for themselves; the
//! other 68 get the characters from U+0100 on, in order. So a space is `Ġ`
//! (U+0120) and a line feed `Ċ` (U+010A).

/// The first character that stands for a byte that does not print.
const MOVED_FIRST: u32 = 0x100;
/// How many bytes do not print.
const MOVED: usize = 68;

const fn prints(byte: u8) -> bool {
    matches!(byte, 33..=126 | 161..=172 | 174..=255)
}

/// The bytes that do not print, in order: `MOVED_BYTES[i]` is written as U+0100 + i.
const MOVED_BYTES: [u8; MOVED] = {
    let mut bytes = [0; MOVED];
    let (mut byte, mut count) = (0u8, 0);
    loop {
        if !prints(byte) {
            bytes[count] = byte;
            count += 1;
        }
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    assert!(count == MOVED);
    bytes
};

/// The character of each byte.
const CHARS: [char; 256] = {
    let mut chars = ['\0'; 256];
    let mut byte = 0;
    while byte < 256 {
        chars[byte] = byte as u8 as char;
        byte += 1;
    }
    let mut moved = 0;
    while moved < MOVED {
        let Some(c) = char::from_u32(MOVED_FIRST + moved as u32) else {
            panic!()
        };
        chars[MOVED_BYTES[moved] as usize] = c;
        moved += 1;
    }
    chars
};

/// The character that stands for `byte`.
pub(super) const fn byte_to_char(byte: u8) -> char {
    CHARS[byte as usize]
}

/// The byte that `c` stands for, if it stands for one.
pub(super) fn char_to_byte(c: char) -> Option<u8> {
    match u8::try_from(u32::from(c)) {
        Ok(byte) => prints(byte).then_some(byte),
        Err(_) => MOVED_BYTES
            .get((u32::from(c) - MOVED_FIRST) as usize)
            .copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::{byte_to_char, char_to_byte};

    #[test]
    fn every_byte_has_its_own_character() {
        for byte in 0..=u8::MAX {
            assert_eq!(char_to_byte(byte_to_char(byte)), Some(byte));
        }
        let back: Vec<u8> = (char::MIN..=char::MAX).filter_map(char_to_byte).collect();
        assert_eq!(back.len(), 256, "no other character stands for a byte");
    }

    #[test]
    fn known_characters() {
        assert_eq!(byte_to_char(b' '), 'Ġ');
        assert_eq!(byte_to_char(b'\n'), 'Ċ');
        assert_eq!(byte_to_char(b'A'), 'A');
        assert_eq!(byte_to_char(0xad), '\u{143}');
        assert_eq!(char_to_byte('日'), None);
        assert_eq!(char_to_byte('\u{ad}'), None);
    }
}
