//! What is said instead of the model's reply when somebody may need help at once.
//!
//! The texts and the lines of 26 countries are those of `models/safety/help.toml`. Their numbers were written down from
//! general knowledge and have not been checked against their owners: `checked` says when they were last looked at, and
//! whoever deploys this should call them first.

use std::fmt::Write as _;

use serde::Serialize;

use super::Category;

/// The texts as build.rs writes them.
mod tables {
    /// What is said of one category.
    pub(super) struct Reply {
        /// Kinds of lines that it names.
        pub(super) kinds: &'static [&'static str],
        /// Whether the paragraph with the lines goes where there is none.
        pub(super) lines_optional: bool,
        pub(super) text: &'static str,
    }

    /// A country.
    pub(super) struct Region {
        pub(super) code: &'static str,
        pub(super) emergency: &'static str,
        pub(super) checked: &'static str,
        pub(super) lines: &'static [Line],
    }

    /// Somebody to call or to write to.
    pub(super) struct Line {
        pub(super) kind: &'static str,
        pub(super) name: &'static str,
        pub(super) number: &'static str,
        pub(super) how: &'static str,
        pub(super) hours: &'static str,
    }

    include!(concat!(env!("OUT_DIR"), "/help.rs"));
}

/// A help text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Help {
    /// What is said.
    pub text: String,
    /// The country whose numbers it names; `None`: it says "your local emergency number".
    pub region: Option<&'static str>,
    /// When those numbers were last looked at. Not: verified; see the module.
    pub checked: Option<&'static str>,
}

/// What to say about `category` to somebody in `region`: a country code (`DE`), or a locale that ends in one (`de-AT`).
/// A country that is not known, or none, gets the international text. `None` for [`Category::None`].
#[must_use]
pub fn help(category: Category, region: Option<&str>) -> Option<Help> {
    let reply = match category {
        Category::MentalHealth => &tables::MENTAL_HEALTH,
        Category::Medical => &tables::MEDICAL,
        Category::Abuse => &tables::ABUSE,
        Category::None => return None,
    };
    let region = region.and_then(region_of);
    let emergency = region.map_or(tables::FALLBACK_EMERGENCY, |region| region.emergency);
    let mut lines = String::new();
    if let Some(region) = region {
        for kind in reply.kinds {
            for line in region.lines.iter().filter(|line| line.kind == *kind) {
                let hours = if line.hours.is_empty() { "" } else { ", " };
                // Writing to a String cannot fail.
                let _ = writeln!(
                    lines,
                    "- {}: {} ({}{hours}{})",
                    line.name, line.number, line.how, line.hours
                );
            }
        }
    }
    let lines = lines.trim_end();
    let mut text = String::new();
    for paragraph in reply.text.split("\n\n") {
        if lines.is_empty() && reply.lines_optional && paragraph.contains("{lines}") {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        let named = if lines.is_empty() {
            tables::FALLBACK_TEXT
        } else {
            lines
        };
        text.push_str(
            &paragraph
                .replace("{emergency}", emergency)
                .replace("{lines}", named),
        );
    }
    Some(Help {
        text,
        region: region.map(|region| region.code),
        checked: region.map(|region| region.checked),
    })
}

/// Codes of the countries whose lines are known.
pub fn regions() -> impl Iterator<Item = &'static str> {
    tables::REGIONS.iter().map(|region| region.code)
}

fn region_of(code: &str) -> Option<&'static tables::Region> {
    let country = code.rsplit(['-', '_']).next().unwrap_or(code).trim();
    let mut regions = tables::REGIONS.iter();
    regions.find(|region| region.code.eq_ignore_ascii_case(country))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_country_is_named_and_others_get_the_international_text() {
        let german = help(Category::MentalHealth, Some("de-DE")).unwrap();
        assert_eq!(german.region, Some("DE"));
        assert_eq!(german.checked, Some("2026-11-30"));
        assert!(german.text.contains("112") && german.text.contains("\n- "));
        for unknown in [None, Some("XX"), Some(""), Some("deutsch")] {
            let help = help(Category::MentalHealth, unknown).unwrap();
            assert_eq!((help.region, help.checked), (None, None));
            assert!(help.text.contains("your local emergency number"));
            assert!(help.text.contains("findahelpline.com"));
        }
        assert_eq!(help(Category::None, Some("DE")), None);
    }

    #[test]
    fn every_text_is_complete_in_every_country() {
        let regions = tables::REGIONS.iter().map(|region| Some(region.code));
        for region in regions.chain([None]) {
            for category in Category::ALL {
                let Help { text, .. } = help(category, region).unwrap();
                assert!(!text.contains(['{', '}']), "{region:?} {category:?}");
                assert!(!text.contains("\n\n\n") && text.len() > 200);
                assert!(text.contains("computer program"), "it says what it is");
            }
        }
        assert!(tables::REGIONS.len() >= 26);
        let medical = help(Category::Medical, None).unwrap().text;
        assert!(!medical.contains("poison line"), "no line, no paragraph");
        assert!(
            help(Category::Medical, Some("US"))
                .unwrap()
                .text
                .contains("poison line")
        );
    }
}
