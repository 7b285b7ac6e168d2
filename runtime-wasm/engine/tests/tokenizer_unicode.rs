//! The Unicode tables of the pre-tokenizers are those of the crate `unicode-general-category`.
//!
//! `MEETARA_BLESS=1 cargo test --release -p meetara-engine --test tokenizer_unicode`
//! writes the tables anew; do that after raising the crate's version.

use std::fmt::Write as _;
use std::path::Path;
use unicode_general_category::{GeneralCategory, get_general_category};

#[path = "../src/tokenizer/unicode_tables.rs"]
#[allow(
    dead_code,
    reason = "only the text of the file is compared, the tables are read to check that it parses"
)]
mod tables;

/// A name of a table, what it holds, and its categories.
type Table = (&'static str, &'static str, &'static [GeneralCategory]);

const TABLES: [Table; 3] = {
    use GeneralCategory::{
        ClosePunctuation, ConnectorPunctuation, DashPunctuation, DecimalNumber, FinalPunctuation,
        InitialPunctuation, LetterNumber, LowercaseLetter, ModifierLetter, OpenPunctuation,
        OtherLetter, OtherNumber, OtherPunctuation, TitlecaseLetter, UppercaseLetter,
    };
    [
        (
            "LETTER",
            r"`\p{L}`: Lu, Ll, Lt, Lm, Lo.",
            &[
                UppercaseLetter,
                LowercaseLetter,
                TitlecaseLetter,
                ModifierLetter,
                OtherLetter,
            ],
        ),
        (
            "NUMBER",
            r"`\p{N}`: Nd, Nl, No.",
            &[DecimalNumber, LetterNumber, OtherNumber],
        ),
        (
            "PUNCTUATION",
            r"`\p{P}`: Pc, Pd, Ps, Pe, Pi, Pf, Po.",
            &[
                ConnectorPunctuation,
                DashPunctuation,
                OpenPunctuation,
                ClosePunctuation,
                InitialPunctuation,
                FinalPunctuation,
                OtherPunctuation,
            ],
        ),
    ]
};

/// The longest ranges of characters of `categories`, first and last included.
fn ranges(categories: &[GeneralCategory]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for c in (char::MIN..=char::MAX).filter(|&c| categories.contains(&get_general_category(c))) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == c as u32 => *last = c as u32,
            _ => ranges.push((c as u32, c as u32)),
        }
    }
    ranges
}

fn source() -> String {
    let mut source = String::from(
        "//! Ranges of characters, first and last included, sorted. Generated: see `tests/tokenizer_unicode.rs`.\n",
    );
    for (name, doc, categories) in TABLES {
        let ranges = ranges(categories);
        let len = ranges.len();
        write!(
            source,
            "\n/// {doc}\n#[rustfmt::skip]\npub(crate) static {name}: [(u32, u32); {len}] = ["
        )
        .unwrap();
        for (index, (first, last)) in ranges.iter().enumerate() {
            let space = if index % 6 == 0 { "\n    " } else { " " };
            write!(source, "{space}({first:#x}, {last:#x}),").unwrap();
        }
        source.push_str("\n];\n");
    }
    source
}

#[test]
fn the_tables_are_those_of_the_crate() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tokenizer/unicode_tables.rs");
    if std::env::var_os("MEETARA_BLESS").is_some() {
        std::fs::write(&path, source()).unwrap();
    }
    let file = std::fs::read_to_string(&path).unwrap();
    assert!(
        file == source(),
        "{} differs from the crate's tables: run again with MEETARA_BLESS=1",
        path.display()
    );
}
