//! The tables that take accents off are what the crates that Hugging Face's `tokenizers` is built on
//! make of every character: `unicode-normalization-alignments` decomposes, `unicode_categories` says
//! what a mark is.
//!
//! `MEETARA_BLESS=1 cargo test --release -p meetara-engine --test tokenizer_accents`
//! writes the tables anew; do that after raising a crate's version.
#![cfg(feature = "encoder")]

use std::fmt::Write as _;
use std::path::Path;

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;

#[path = "../src/tokenizer/accent_tables.rs"]
#[allow(
    dead_code,
    reason = "only the text of the file is compared, the tables are read to check that it parses"
)]
mod tables;

/// What accent stripping leaves of `c`.
fn stripped(c: char) -> Vec<char> {
    let text = c.to_string();
    let decomposed = text.nfd().map(|(c, _)| c);
    decomposed.filter(|c| !c.is_mark_nonspacing()).collect()
}

/// CJK compatibility ideographs: a thousand, each with a base of its own, that the tables leave out.
fn is_left_out(c: char) -> bool {
    matches!(u32::from(c), 0xf900..=0xfaff | 0x2_f800..=0x2_fa1f)
}

fn ranges(is: impl Fn(char) -> bool) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for c in (char::MIN..=char::MAX).filter(|&c| is(c)) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == c as u32 => *last = c as u32,
            _ => ranges.push((c as u32, c as u32)),
        }
    }
    ranges
}

fn push(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn source() -> String {
    let mut marks = Vec::new();
    let mut after = 0;
    for (first, last) in ranges(|c| stripped(c).is_empty()) {
        push(&mut marks, first - after);
        push(&mut marks, last - first);
        after = last + 1;
    }
    let (mut bases, mut from, mut base) = (Vec::new(), 0, 0_u32);
    for c in (char::MIN..=char::MAX).filter(|&c| !is_left_out(c)) {
        if let [left] = stripped(c)[..]
            && left != c
        {
            push(&mut bases, c as u32 - from);
            let step = (left as u32).wrapping_sub(base) as i32;
            push(&mut bases, (step << 1 ^ step >> 31) as u32);
            (from, base) = (c as u32, left as u32);
        }
    }
    let mut source = String::from(
        "//! What accents are, for `accents`. Generated: see `tests/tokenizer_accents.rs`.\n",
    );
    for (name, doc, bytes) in [
        ("MARKS", "Ranges that become nothing: Mn.", marks),
        (
            "BASES",
            "Letters with accents, and what is left of them.",
            bases,
        ),
    ] {
        let len = bytes.len();
        write!(
            source,
            "\n/// {doc}\n#[rustfmt::skip]\npub(super) static {name}: &[u8; {len}] = b\"\\\n    "
        )
        .unwrap();
        for (index, byte) in bytes.iter().enumerate() {
            if index > 0 && index % 24 == 0 {
                source.push_str("\\\n    ");
            }
            write!(source, "\\x{byte:02x}").unwrap();
        }
        source.push_str("\";\n");
    }
    let hidden = ranges(|c| c.is_other_format() || c.is_other_private_use());
    let len = hidden.len();
    write!(
        source,
        "\n/// Ranges of format and private characters: Cf, Co.\n#[rustfmt::skip]\npub(super) static HIDDEN: [(u32, u32); {len}] = ["
    )
    .unwrap();
    for (index, (first, last)) in hidden.iter().enumerate() {
        let space = if index % 6 == 0 { "\n    " } else { " " };
        write!(source, "{space}({first:#x}, {last:#x}),").unwrap();
    }
    source.push_str("\n];\n");
    source
}

#[test]
fn the_tables_are_those_of_the_crates() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tokenizer/accent_tables.rs");
    if std::env::var_os("MEETARA_BLESS").is_some() {
        std::fs::write(&path, source()).unwrap();
    }
    let file = std::fs::read_to_string(&path).unwrap();
    assert!(
        file == source(),
        "{} differs from what the crates say: run again with MEETARA_BLESS=1",
        path.display()
    );
}

/// What the tables leave as it is, beside compatibility ideographs and Hangul: few, and none with a
/// letter of Latin, Greek, Cyrillic, Arabic, Hebrew or Japanese.
#[test]
fn only_two_part_signs_are_left_out() {
    let several = (char::MIN..=char::MAX)
        .filter(|&c| stripped(c).len() > 1 && !(0xac00..0xd7a4).contains(&u32::from(c)));
    let several: Vec<u32> = several.map(u32::from).collect();
    assert!(several.len() < 64, "{several:x?}");
    let expected = |c: u32| (0x900..0x1c00).contains(&c) || c > 0x1_0000;
    assert!(several.iter().all(|&c| expected(c)), "{several:x?}");
}
