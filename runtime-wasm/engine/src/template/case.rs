//! Upper and lower case of every character, from tables a fifth as large as the standard library's.
//!
//! The standard library lists 2,900 pairs, which are 10 kB gzip of the browser's module. Most
//! capitals stand in a row, each at the same distance from its small letter, so a row of the table
//! here is (first, count, step, distance): `first`, `first + step`, ... become lower case when
//! `distance` is added. Upper case is the way back, but for the rows of [`UPPER`] and the texts of
//! [`LONGER`]. The tests compare every character with the standard library's answer.

use crate::tokenizer::unicode::{Class, class};

/// Characters in a row: (first, count, step, distance).
type Row = (u32, u8, u8, i32);

/// From upper case to lower case, sorted; without ASCII.
#[rustfmt::skip]
static LOWER: [Row; 184] = [
    (0xc0, 23, 1, 32), (0xd8, 7, 1, 32), (0x100, 24, 2, 1), (0x132, 3, 2, 1), (0x139, 8, 2, 1),
    (0x14a, 23, 2, 1), (0x178, 1, 1, -121), (0x179, 3, 2, 1), (0x181, 1, 1, 210), (0x182, 2, 2, 1),
    (0x186, 1, 1, 206), (0x187, 1, 1, 1), (0x189, 2, 1, 205), (0x18b, 1, 1, 1), (0x18e, 1, 1, 79),
    (0x18f, 1, 1, 202), (0x190, 1, 1, 203), (0x191, 1, 1, 1), (0x193, 1, 1, 205),
    (0x194, 1, 1, 207), (0x196, 1, 1, 211), (0x197, 1, 1, 209), (0x198, 1, 1, 1),
    (0x19c, 1, 1, 211), (0x19d, 1, 1, 213), (0x19f, 1, 1, 214), (0x1a0, 3, 2, 1),
    (0x1a6, 1, 1, 218), (0x1a7, 1, 1, 1), (0x1a9, 1, 1, 218), (0x1ac, 1, 1, 1), (0x1ae, 1, 1, 218),
    (0x1af, 1, 1, 1), (0x1b1, 2, 1, 217), (0x1b3, 2, 2, 1), (0x1b7, 1, 1, 219), (0x1b8, 1, 1, 1),
    (0x1bc, 1, 1, 1), (0x1c4, 1, 1, 2), (0x1c5, 1, 1, 1), (0x1c7, 1, 1, 2), (0x1c8, 1, 1, 1),
    (0x1ca, 1, 1, 2), (0x1cb, 9, 2, 1), (0x1de, 9, 2, 1), (0x1f1, 1, 1, 2), (0x1f2, 2, 2, 1),
    (0x1f6, 1, 1, -97), (0x1f7, 1, 1, -56), (0x1f8, 20, 2, 1), (0x220, 1, 1, -130),
    (0x222, 9, 2, 1), (0x23a, 1, 1, 10795), (0x23b, 1, 1, 1), (0x23d, 1, 1, -163),
    (0x23e, 1, 1, 10792), (0x241, 1, 1, 1), (0x243, 1, 1, -195), (0x244, 1, 1, 69),
    (0x245, 1, 1, 71), (0x246, 5, 2, 1), (0x370, 2, 2, 1), (0x376, 1, 1, 1), (0x37f, 1, 1, 116),
    (0x386, 1, 1, 38), (0x388, 3, 1, 37), (0x38c, 1, 1, 64), (0x38e, 2, 1, 63), (0x391, 17, 1, 32),
    (0x3a3, 9, 1, 32), (0x3cf, 1, 1, 8), (0x3d8, 12, 2, 1), (0x3f4, 1, 1, -60), (0x3f7, 1, 1, 1),
    (0x3f9, 1, 1, -7), (0x3fa, 1, 1, 1), (0x3fd, 3, 1, -130), (0x400, 16, 1, 80),
    (0x410, 32, 1, 32), (0x460, 17, 2, 1), (0x48a, 27, 2, 1), (0x4c0, 1, 1, 15), (0x4c1, 7, 2, 1),
    (0x4d0, 48, 2, 1), (0x531, 38, 1, 48), (0x10a0, 38, 1, 7264), (0x10c7, 1, 1, 7264),
    (0x10cd, 1, 1, 7264), (0x13a0, 80, 1, 38864), (0x13f0, 6, 1, 8), (0x1c89, 1, 1, 1),
    (0x1c90, 43, 1, -3008), (0x1cbd, 3, 1, -3008), (0x1e00, 75, 2, 1), (0x1e9e, 1, 1, -7615),
    (0x1ea0, 48, 2, 1), (0x1f08, 8, 1, -8), (0x1f18, 6, 1, -8), (0x1f28, 8, 1, -8),
    (0x1f38, 8, 1, -8), (0x1f48, 6, 1, -8), (0x1f59, 4, 2, -8), (0x1f68, 8, 1, -8),
    (0x1f88, 8, 1, -8), (0x1f98, 8, 1, -8), (0x1fa8, 8, 1, -8), (0x1fb8, 2, 1, -8),
    (0x1fba, 2, 1, -74), (0x1fbc, 1, 1, -9), (0x1fc8, 4, 1, -86), (0x1fcc, 1, 1, -9),
    (0x1fd8, 2, 1, -8), (0x1fda, 2, 1, -100), (0x1fe8, 2, 1, -8), (0x1fea, 2, 1, -112),
    (0x1fec, 1, 1, -7), (0x1ff8, 2, 1, -128), (0x1ffa, 2, 1, -126), (0x1ffc, 1, 1, -9),
    (0x2126, 1, 1, -7517), (0x212a, 1, 1, -8383), (0x212b, 1, 1, -8262), (0x2132, 1, 1, 28),
    (0x2160, 16, 1, 16), (0x2183, 1, 1, 1), (0x24b6, 26, 1, 26), (0x2c00, 48, 1, 48),
    (0x2c60, 1, 1, 1), (0x2c62, 1, 1, -10743), (0x2c63, 1, 1, -3814), (0x2c64, 1, 1, -10727),
    (0x2c67, 3, 2, 1), (0x2c6d, 1, 1, -10780), (0x2c6e, 1, 1, -10749), (0x2c6f, 1, 1, -10783),
    (0x2c70, 1, 1, -10782), (0x2c72, 1, 1, 1), (0x2c75, 1, 1, 1), (0x2c7e, 2, 1, -10815),
    (0x2c80, 50, 2, 1), (0x2ceb, 2, 2, 1), (0x2cf2, 1, 1, 1), (0xa640, 23, 2, 1),
    (0xa680, 14, 2, 1), (0xa722, 7, 2, 1), (0xa732, 31, 2, 1), (0xa779, 2, 2, 1),
    (0xa77d, 1, 1, -35332), (0xa77e, 5, 2, 1), (0xa78b, 1, 1, 1), (0xa78d, 1, 1, -42280),
    (0xa790, 2, 2, 1), (0xa796, 10, 2, 1), (0xa7aa, 1, 1, -42308), (0xa7ab, 1, 1, -42319),
    (0xa7ac, 1, 1, -42315), (0xa7ad, 1, 1, -42305), (0xa7ae, 1, 1, -42308), (0xa7b0, 1, 1, -42258),
    (0xa7b1, 1, 1, -42282), (0xa7b2, 1, 1, -42261), (0xa7b3, 1, 1, 928), (0xa7b4, 8, 2, 1),
    (0xa7c4, 1, 1, -48), (0xa7c5, 1, 1, -42307), (0xa7c6, 1, 1, -35384), (0xa7c7, 2, 2, 1),
    (0xa7cb, 1, 1, -42343), (0xa7cc, 8, 2, 1), (0xa7dc, 1, 1, -42561), (0xa7f5, 1, 1, 1),
    (0xff21, 26, 1, 32), (0x10400, 40, 1, 40), (0x104b0, 36, 1, 40), (0x10570, 11, 1, 39),
    (0x1057c, 15, 1, 39), (0x1058c, 7, 1, 39), (0x10594, 2, 1, 39), (0x10c80, 51, 1, 64),
    (0x10d50, 22, 1, 32), (0x118a0, 32, 1, 32), (0x16e40, 32, 1, 32), (0x16ea0, 25, 1, 27),
    (0x1e900, 34, 1, 34),
];

/// From lower case to upper case where that is not the way back.
#[rustfmt::skip]
static UPPER: [Row; 26] = [
    (0xb5, 1, 1, 743), (0x131, 1, 1, -232), (0x17f, 1, 1, -300), (0x1c5, 1, 1, -1),
    (0x1c8, 1, 1, -1), (0x1cb, 1, 1, -1), (0x1f2, 1, 1, -1), (0x345, 1, 1, 84), (0x3c2, 1, 1, -31),
    (0x3d0, 1, 1, -62), (0x3d1, 1, 1, -57), (0x3d5, 1, 1, -47), (0x3d6, 1, 1, -54),
    (0x3f0, 1, 1, -86), (0x3f1, 1, 1, -80), (0x3f5, 1, 1, -96), (0x1c80, 1, 1, -6254),
    (0x1c81, 1, 1, -6253), (0x1c82, 1, 1, -6244), (0x1c83, 2, 1, -6242), (0x1c85, 1, 1, -6243),
    (0x1c86, 1, 1, -6236), (0x1c87, 1, 1, -6181), (0x1c88, 1, 1, 35266), (0x1e9b, 1, 1, -59),
    (0x1fbe, 1, 1, -7205),
];

/// Small letters whose upper case is several characters: the letter, then its upper case.
static LONGER: &str = "ßSS ŉʼN ǰJ\u{30c} ΐΙ\u{308}\u{301} ΰΥ\u{308}\u{301} ևԵՒ ẖH\u{331} ẗT\u{308} \
    ẘW\u{30a} ẙY\u{30a} ẚAʾ ὐΥ\u{313} ὒΥ\u{313}\u{300} ὔΥ\u{313}\u{301} \
    ὖΥ\u{313}\u{342} ᾀἈΙ ᾁἉΙ ᾂἊΙ ᾃἋΙ ᾄἌΙ ᾅἍΙ ᾆἎΙ ᾇἏΙ ᾈἈΙ ᾉἉΙ ᾊἊΙ ᾋἋΙ ᾌἌΙ ᾍἍΙ ᾎἎΙ ᾏἏΙ \
    ᾐἨΙ ᾑἩΙ ᾒἪΙ ᾓἫΙ ᾔἬΙ ᾕἭΙ ᾖἮΙ ᾗἯΙ ᾘἨΙ ᾙἩΙ ᾚἪΙ ᾛἫΙ ᾜἬΙ ᾝἭΙ ᾞἮΙ ᾟἯΙ ᾠὨΙ ᾡὩΙ ᾢὪΙ ᾣὫΙ ᾤὬΙ \
    ᾥὭΙ ᾦὮΙ ᾧὯΙ ᾨὨΙ ᾩὩΙ ᾪὪΙ ᾫὫΙ ᾬὬΙ ᾭὭΙ ᾮὮΙ ᾯὯΙ ᾲᾺΙ ᾳΑΙ ᾴΆΙ ᾶΑ\u{342} ᾷΑ\u{342}Ι ᾼΑΙ \
    ῂῊΙ ῃΗΙ ῄΉΙ ῆΗ\u{342} ῇΗ\u{342}Ι ῌΗΙ ῒΙ\u{308}\u{300} ΐΙ\u{308}\u{301} ῖΙ\u{342} \
    ῗΙ\u{308}\u{342} ῢΥ\u{308}\u{300} ΰΥ\u{308}\u{301} ῤΡ\u{313} ῦΥ\u{342} \
    ῧΥ\u{308}\u{342} ῲῺΙ ῳΩΙ ῴΏΙ ῶΩ\u{342} ῷΩ\u{342}Ι ῼΩΙ ﬀFF ﬁFI ﬂFL ﬃFFI ﬄFFL ﬅST ﬆST \
    ﬓՄՆ ﬔՄԵ ﬕՄԻ ﬖՎՆ ﬗՄԽ";

/// `text` in lower case. A sigma that ends a word takes its form for that place; a word ends where
/// no letter follows.
pub(super) fn lower(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut letter_before = false;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            'Σ' if letter_before && !rest.clone().next().is_some_and(is_letter) => {
                output.push('ς')
            }
            'İ' => output.push_str("i\u{307}"),
            _ => output.push(lower_of(c)),
        }
        letter_before = is_letter(c);
    }
    output
}

/// `text` in upper case.
pub(super) fn upper(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    text.chars().for_each(|c| push_upper(&mut output, c));
    output
}

/// `text` with its first character in upper case and the others in lower case.
pub(super) fn capitalize(text: &str) -> String {
    let mut rest = text.chars();
    let mut output = String::with_capacity(text.len());
    if let Some(first) = rest.next() {
        push_upper(&mut output, first);
    }
    output.push_str(&lower(rest.as_str()));
    output
}

/// `text` with the first character of every word in upper case. White space and ASCII punctuation
/// end a word.
pub(super) fn title(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut first = true;
    for c in text.chars() {
        if first {
            push_upper(&mut output, c);
        } else {
            output.push_str(&lower(c.encode_utf8(&mut [0; 4])));
        }
        first = c.is_ascii_punctuation() || c.is_whitespace();
    }
    output
}

/// Whether `c` is a capital, that is, lower case has another character for it.
pub(super) fn is_upper(c: char) -> bool {
    lower_of(c) != c
}

/// Whether `c` is a small letter, that is, upper case has another text for it.
pub(super) fn is_lower(c: char) -> bool {
    longer(c).is_some() || upper_of(c) != c
}

fn is_letter(c: char) -> bool {
    class(c) == Class::Letter
}

/// Lower case of one character. Of İ, whose lower case is two, it is the first.
pub(crate) fn lower_of(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    moved(&LOWER, c).unwrap_or(if c == 'İ' { 'i' } else { c })
}

/// Upper case of a character that has one of one character.
fn upper_of(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_uppercase();
    }
    if let Some(upper) = moved(&UPPER, c) {
        return upper;
    }
    let back = |&(first, count, step, distance): &Row| {
        let from = u32::from(c).checked_add_signed(-distance)?;
        within((first, count, step, distance), from).then_some(from)
    };
    let from = LOWER.iter().find_map(back).and_then(char::from_u32);
    from.unwrap_or(c)
}

fn push_upper(output: &mut String, c: char) {
    match longer(c) {
        Some(upper) => output.push_str(upper),
        None => output.push(upper_of(c)),
    }
}

/// The upper case of a letter where it is longer than a character.
fn longer(c: char) -> Option<&'static str> {
    if c.is_ascii() {
        return None;
    }
    LONGER.split(' ').find_map(|pair| pair.strip_prefix(c))
}

/// `c` moved by the row that holds it.
fn moved(rows: &[Row], c: char) -> Option<char> {
    let row = rows.iter().find(|&&row| within(row, u32::from(c)))?;
    char::from_u32(u32::from(c).checked_add_signed(row.3)?)
}

fn within((first, count, step, _): Row, c: u32) -> bool {
    c.checked_sub(first).is_some_and(|after| {
        after % u32::from(step) == 0 && after / u32::from(step) < u32::from(count)
    })
}

#[cfg(test)]
mod tests {
    use super::{capitalize, is_lower, is_upper, lower, title, upper};

    #[test]
    fn every_character_is_as_the_standard_library_has_it() {
        for c in char::MIN..=char::MAX {
            let text = c.to_string();
            if c > '\u{20000}' {
                let cases = [text.to_lowercase(), text.to_uppercase()];
                assert_eq!(cases, [text.clone(), text], "{c:?} now has cases");
                continue;
            }
            assert_eq!(lower(&text), text.to_lowercase(), "{c:?}");
            assert_eq!(upper(&text), text.to_uppercase(), "{c:?}");
            assert_eq!(is_upper(c), text.to_lowercase() != text, "{c:?}");
            assert_eq!(is_lower(c), text.to_uppercase() != text, "{c:?}");
        }
    }

    #[test]
    fn texts_are_as_the_standard_library_has_them() {
        for text in [
            "ΟΔΥΣΣΕΥΣ, ΣΟΦΟΣ Σ",
            "STRASSE",
            "Straße",
            "İSTANBUL",
            "ﬁn",
            "Ǆ ǅ ǆ",
            "",
        ] {
            assert_eq!(lower(text), text.to_lowercase());
            assert_eq!(upper(text), text.to_uppercase());
        }
    }

    #[test]
    fn titles_and_beginnings() {
        assert_eq!(title("élan (vital) o'NEIL"), "Élan (Vital) O'Neil");
        assert_eq!(capitalize("éLAN Vital"), "Élan vital");
        assert_eq!(capitalize(""), "");
    }
}
