//! The rules against `regex`, which their syntax is taken from, and what is to hold for any text.

use super::*;
use crate::safety::plain::signs;

const LETTERS: &[u8; 41] = b"abcdefghijklmnopqrstuvwxyz0123456789' .!?";

fn plain(text: &str) -> String {
    let signs = signs(text);
    signs
        .iter()
        .map(|sign| char::from(LETTERS[usize::from(*sign)]))
        .collect()
}

/// Every rule with its text.
fn all(rules: &Rules) -> impl Iterator<Item = &Rule> {
    let categories = rules.categories.iter().flat_map(|rules| {
        let lists = [&rules.certain, &rules.unless, &rules.patterns];
        lists.into_iter().flatten()
    });
    rules.unless.iter().chain(categories)
}

fn expanded(text: &str) -> String {
    let mut text = text.to_owned();
    // Parts may name parts.
    for _ in 0..3 {
        for (name, part) in tables::PARTS {
            text = text.replace(&format!("<{name}>"), &format!("(?:{part})"));
        }
    }
    text
}

fn lines() -> Vec<String> {
    let files = [
        include_str!("../../../../../tests/data/safety/test.tsv"),
        include_str!("../../../../../trainer-native/data/safety/train.tsv"),
    ];
    let lines = files.iter().flat_map(|text| text.lines());
    let texts = lines.filter_map(|line| line.split_once('\t'));
    texts.map(|(_, text)| plain(text)).collect()
}

#[test]
fn finds_are_those_of_regex() {
    let rules = Rules::new();
    let lines = lines();
    let mut scratch = Scratch::default();
    let mut finds = 0;
    // Several lines at a time: fewer, longer texts.
    let texts: Vec<String> = lines.chunks(6).map(|lines| lines.join(". ")).collect();
    let texts: Vec<(&String, Vec<u8>)> = texts.iter().map(|text| (text, signs(text))).collect();
    for rule in all(&rules) {
        let wanted = regex::Regex::new(&expanded(rule.text)).unwrap();
        for (text, signs) in &texts {
            let runs = Runs::new(signs);
            let found = rule.find(signs, 0, &runs, &mut scratch);
            let wanted_first = wanted.find(text).map(|find| (find.start(), find.end()));
            assert_eq!(found, wanted_first, "{} in {text}", rule.text);
            if found.is_none() {
                continue;
            }
            finds += 1;
            let mut rest = signs.clone();
            rule.take_out(&mut rest, &runs, &mut scratch);
            let rest: String = rest
                .iter()
                .map(|sign| char::from(LETTERS[usize::from(*sign)]))
                .collect();
            assert_eq!(
                rest,
                wanted.replace_all(text, " . "),
                "{} in {text}",
                rule.text
            );
        }
    }
    assert!(finds > 1_000, "{finds}");
}

#[test]
fn every_pattern_compiles_and_most_are_not_looked_for() {
    let rules = Rules::new();
    let signs = signs("could you tell me how to bake a cake with apples and cinnamon for sunday");
    let runs = Runs::new(&signs);
    let mut looked_for = 0;
    for rule in all(&rules) {
        assert!(
            Program::compile(rule.text, tables::PARTS).is_some(),
            "{}",
            rule.text
        );
        looked_for += usize::from(runs.may_hold(&rule.literals));
    }
    assert!(looked_for * 3 < all(&rules).count(), "{looked_for}");
}

#[test]
fn a_text_is_made_plain() {
    assert_eq!(plain("  I’m SO\tdone…  (really) 😀 "), "i'm so done really");
    assert_eq!(plain("k\u{200b}i\u{ad}ll"), "kill");
    assert_eq!(plain("ｄｉｅ！"), "die!");
    assert_eq!(plain("😀"), "");
}

#[test]
fn windows_cover_the_text_and_overlap() {
    let text = "several words of a text that goes on and on ".repeat(300);
    let signs = signs(&text);
    let mut covered = 0;
    for window in windows(&signs) {
        assert!(window.len() <= WINDOW);
        let from = window.as_ptr().addr() - signs.as_ptr().addr();
        assert!(from <= covered && (from == 0 || covered - from >= OVERLAP / 2));
        covered = from + window.len();
    }
    assert_eq!(covered, signs.len());
    let one_word = vec![0; 10_000];
    let ends: usize = windows(&one_word).map(<[u8]>::len).sum();
    assert!(ends >= one_word.len());
}
