//! What a text is about: the router's answer beside what `domains.toml` says of it.

use serde::Serialize;

use crate::encoder::HeadReading;

include!(concat!(env!("OUT_DIR"), "/domains.rs"));

/// The label of what belongs to no domain.
pub const OUT_OF_SCOPE: &str = "out_of_scope";
/// At most so many domains are named as likely ...
const LIKELY_MAX: usize = 3;
/// ... each with at least this probability.
const LIKELY_MIN: f32 = 0.05;
/// Below this probability of the likeliest, no domain's expert is chosen.
const ROUTE_MIN: f32 = 0.3;
/// A second one is mixed in from this share of the first one's probability on.
const MIX_SHARE: f32 = 0.5;
/// From this probability of all health, or legal, or financial domains together on there is a disclaimer, also when
/// another domain is the likeliest.
const CLASS_MIN: f32 = 0.4;

/// A row of `domains.toml`, without its texts for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Domain {
    /// Its id, as in `meetara:<name>`.
    pub name: &'static str,
    /// `healthcare`, `daily_life`, `business`, `education`, `creative`, `technology` or `specialized`.
    pub category: &'static str,
    /// `high`, `medium` or `low`: how far a reply goes into feelings first.
    pub empathy_level: &'static str,
    /// `health`, `legal`, `financial` or `general`.
    pub safety_class: &'static str,
    /// Shown with replies; empty where none is needed.
    pub disclaimer: &'static str,
    /// Whether emotion detection may be on without an operator's own setting. Off in business and education, where
    /// inferring people's emotions is prohibited in the EU (AI Act, Art. 5(1)(f)).
    pub emotion_default: bool,
}

impl Domain {
    /// Its disclaimer, where it has one.
    #[must_use]
    pub fn disclaimer(&self) -> Option<&'static str> {
        (!self.disclaimer.is_empty()).then_some(self.disclaimer)
    }
}

/// The row of that name.
#[must_use]
pub fn domain(name: &str) -> Option<&'static Domain> {
    DOMAINS.iter().find(|domain| domain.name == name)
}

/// What a text is about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DomainReading {
    /// The likeliest domain, or `out_of_scope`; `None` where the text was not read.
    pub name: Option<&'static str>,
    /// Its probability, 0 to 1.
    pub probability: f32,
    /// The likeliest domains, at most three, the likeliest first.
    pub likely: Vec<Likely>,
    /// The category of the likeliest.
    pub category: Option<&'static str>,
    /// How far a reply goes into feelings first: `high`, `medium` or `low`.
    pub empathy_level: Option<&'static str>,
    /// What must be shown with a reply: of the domain, or of the health, legal or financial domain that is likely
    /// enough beside it.
    pub disclaimer: Option<&'static str>,
    /// Whether emotion detection may be on without an operator's own setting; see [`Domain::emotion_default`].
    pub emotion_default: bool,
    /// Whose experts should answer, with weights that sum to 1: one domain, two that are both likely, or none, when
    /// the model alone should.
    pub route: Vec<Routed>,
}

/// A domain and how likely it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Likely {
    /// Its name.
    pub name: &'static str,
    /// 0 to 1.
    pub probability: f32,
}

/// A domain whose expert should answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Routed {
    /// Its name.
    pub name: &'static str,
    /// Its part of the mixture.
    pub weight: f32,
}

impl DomainReading {
    pub(super) fn unread() -> Self {
        Self {
            name: None,
            probability: 0.0,
            likely: Vec::new(),
            category: None,
            empathy_level: None,
            disclaimer: None,
            emotion_default: true,
            route: Vec::new(),
        }
    }

    pub(super) fn new(head: &HeadReading<'_>) -> Self {
        let labels = head.head.labels.iter().zip(&head.probabilities);
        let mut out_of_scope = 0.0;
        let mut domains = Vec::with_capacity(DOMAINS.len());
        for (label, probability) in labels {
            match domain(label) {
                Some(row) => domains.push((row, *probability)),
                None => out_of_scope = *probability,
            }
        }
        // Stable: of two that are as likely the first in the file comes first.
        domains.sort_by(|a, b| b.1.total_cmp(&a.1));
        let first = domains.first().copied().filter(|(_, p)| *p >= out_of_scope);
        let (name, probability) =
            first.map_or((OUT_OF_SCOPE, out_of_scope), |(row, p)| (row.name, p));
        let row = first.map(|(row, _)| row);
        Self {
            name: Some(name),
            probability,
            likely: domains
                .iter()
                .take(LIKELY_MAX)
                .filter(|(_, p)| *p >= LIKELY_MIN)
                .map(|(row, p)| Likely {
                    name: row.name,
                    probability: *p,
                })
                .collect(),
            category: row.map(|row| row.category),
            empathy_level: row.map(|row| row.empathy_level),
            disclaimer: row
                .and_then(Domain::disclaimer)
                .or_else(|| class_disclaimer(&domains)),
            emotion_default: row.is_none_or(|row| row.emotion_default),
            route: first.map_or_else(Vec::new, |_| route(&domains)),
        }
    }
}

/// The disclaimer of the likeliest domain of a safety class that is likely enough as a whole.
fn class_disclaimer(domains: &[(&'static Domain, f32)]) -> Option<&'static str> {
    ["health", "legal", "financial"].iter().find_map(|class| {
        let of_class = || domains.iter().filter(|(row, _)| row.safety_class == *class);
        let sum: f32 = of_class().map(|(_, p)| p).sum();
        let mut rows = of_class().filter_map(|(row, _)| row.disclaimer());
        rows.next().filter(|_| sum >= CLASS_MIN)
    })
}

fn route(domains: &[(&'static Domain, f32)]) -> Vec<Routed> {
    let mut chosen: Vec<(&Domain, f32)> = domains.iter().take(2).copied().collect();
    match chosen[..] {
        [(_, first), ..] if first < ROUTE_MIN => return Vec::new(),
        [(_, first), (_, second)] if second < first * MIX_SHARE => chosen.truncate(1),
        _ => {}
    }
    let sum: f32 = chosen.iter().map(|(_, p)| p).sum();
    let routed = chosen.iter().map(|(row, p)| Routed {
        name: row.name,
        weight: p / sum,
    });
    routed.collect()
}
