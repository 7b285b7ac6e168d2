//! What the hosts say beside a reply: feeling, domain, danger; and `POST /v1/emotion/analyze`.
//!
//! A chat takes the extra field `meetara`:
//!
//! | key | |
//! |---|---|
//! | `emotion` | `true`: say how the person feels, from their turns; `false`: do not, whatever the host's default |
//! | `region` | a country code, such as `DE`, whose lines a help text names |
//! | `disclaimer` | `false`: do not add it to the text, because the client shows it from the reply's field |
//!
//! None of them turns the safety gate off, and nothing else does. The reply carries `meetara` too ([`Meetara`]): a whole
//! reply at its top, a stream in its first event, before any text.
//!
//! When somebody may need help at once, the model is not asked: the answer is a fixed help text, with the finish reason
//! `content_filter`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::chat::Message;
use crate::error::ApiError;
use crate::fields::Fields;

/// Longest text of [`AnalyzeRequest`], in characters.
pub const ANALYZE_CHARS_MAX: usize = 200_000;
/// So many of somebody's last turns are read; more change nothing.
pub const TURNS_MAX: usize = 8;
/// The longest name of a region or locale.
const REGION_LEN_MAX: usize = 35;

/// The field `meetara` of a chat request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeetaraOptions {
    /// Whether feelings are asked for; `None` leaves it to the host.
    pub emotion: Option<bool>,
    /// Where the person is.
    pub region: Option<String>,
    /// Whether a disclaimer is kept out of the text.
    pub no_disclaimer_text: bool,
}

impl MeetaraOptions {
    pub(crate) fn parse(value: Option<Value>) -> Result<Self, ApiError> {
        let map = match value {
            None => return Ok(Self::default()),
            Some(Value::Object(map)) => map,
            Some(_) => {
                return Err(ApiError::invalid_value(
                    "meetara",
                    "'meetara' must be an object with 'emotion', 'region' and 'disclaimer', all optional.",
                ));
            }
        };
        let mut fields = Fields::from(map);
        let options = Self {
            emotion: fields.bool("emotion")?,
            region: region(&mut fields)?,
            no_disclaimer_text: fields.bool("disclaimer")? == Some(false),
        };
        fields.finish()?;
        Ok(options)
    }
}

/// The field `region`: a country code, or a locale with one.
fn region(fields: &mut Fields) -> Result<Option<String>, ApiError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match fields.take("region") {
        None => Ok(None),
        Some(Value::String(region))
            if (2..=REGION_LEN_MAX).contains(&region.len()) && region.bytes().all(plain) =>
        {
            Ok(Some(region))
        }
        Some(_) => Err(ApiError::invalid_value(
            "region",
            "'region' must be a country code such as 'DE', or a locale such as 'de-DE'.",
        )),
    }
}

/// The turns of the person, the last so many of them.
pub fn turns_of(messages: &[Message]) -> Vec<String> {
    let turns = messages.iter().filter(|message| message.role == "user");
    let mut turns: Vec<String> = turns
        .rev()
        .take(TURNS_MAX)
        .map(|message| message.content.clone())
        .collect();
    turns.reverse();
    turns
}

/// The body of `POST /v1/emotion/analyze`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalyzeRequest {
    /// Any text, also an empty one.
    pub text: String,
    /// Where the person is.
    pub region: Option<String>,
}

impl AnalyzeRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// A 400 that names the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let text = fields.required_string("text")?;
        let region = region(&mut fields)?;
        fields.finish()?;
        if text.chars().nth(ANALYZE_CHARS_MAX).is_some() {
            return Err(ApiError::invalid_value(
                "text",
                format!("'text' must have at most {ANALYZE_CHARS_MAX} characters."),
            ));
        }
        Ok(Self { text, region })
    }
}

/// What the engine's reader says of somebody's turns, and the body of `POST /v1/emotion/analyze`'s answer. Of what is
/// said of a text no more is typed here than the hosts look at; the rest is passed on as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnsRead {
    /// The feeling: `primary_emotion`, `emotion_scores`, `labels`, `intensity`, `confidence`, `abstained`, `reason`.
    pub text: Option<Value>,
    /// What it is about.
    pub domain: Option<DomainRead>,
    /// Whether somebody may need help at once.
    pub safety: SafetyRead,
    /// How much was read.
    pub read: Option<Value>,
    /// The feelings over the turns: `primary_emotion`, `emotion_scores`, `intensity`, `confidence`, `trajectory`,
    /// `mixed`, `requires_empathy`, `abstained`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feelings: Option<Value>,
    /// What to say where `safety` is flagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<Help>,
}

/// What a text is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainRead {
    /// The likeliest of the 62 domains, or `out_of_scope`; `None` where the text was not read.
    pub name: Option<String>,
    /// Its probability, 0 to 1.
    pub probability: f32,
    /// What must be shown with a reply.
    pub disclaimer: Option<String>,
    /// Whether feelings may be read without an operator's own setting: not in business and education.
    pub emotion_default: bool,
    /// Whose adapters should answer.
    pub route: Vec<Routed>,
    /// `likely`, `category`, `empathy_level`.
    #[serde(flatten)]
    pub more: serde_json::Map<String, Value>,
}

/// A domain whose expert should answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Routed {
    /// Its name.
    pub name: String,
    /// Its part of the mixture.
    pub weight: f32,
}

/// Whether somebody may need help at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SafetyRead {
    /// Whether a help text takes the place of a reply.
    pub flagged: bool,
    /// `mental_health`, `medical`, `abuse` or `none`.
    pub category: String,
    /// `rules` or `classifier`.
    pub by: Option<String>,
    /// Whether `flagged: false` means little.
    pub abstained: bool,
    /// `also`, `scores`.
    #[serde(flatten)]
    pub more: serde_json::Map<String, Value>,
}

/// A help text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Help {
    /// What is said.
    pub text: String,
    /// The country whose numbers it names.
    pub region: Option<String>,
    /// When those numbers were last looked at; not: verified.
    pub checked: Option<String>,
}

/// The field `meetara` of a reply.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Meetara {
    /// The domain that was chosen, by the client or by the router; `None` where nothing could be read.
    pub domain: Option<String>,
    /// How sure the router is of it, 0 to 1; 1 where the client chose.
    pub domain_confidence: Option<f32>,
    /// The adapters that answer, where the router chose them; none: the model alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapters: Option<Vec<Routed>>,
    /// The feelings over the turns, where they were asked for and may be read.
    pub emotion: Option<Value>,
    /// What the gate says.
    pub safety: Safety,
    /// What must be shown with the reply.
    pub disclaimer: Option<String>,
}

/// The gate's part of [`Meetara`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Safety {
    /// Whether the answer is a help text.
    pub flagged: bool,
    /// `mental_health`, `medical`, `abuse` or `none`.
    pub category: String,
    /// `rules` or `classifier`.
    pub by: Option<String>,
    /// Whether `flagged: false` means little.
    pub abstained: bool,
    /// The country whose numbers the help text names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// When those numbers were last looked at; not: verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked: Option<String>,
}

impl Meetara {
    /// From what was read; `chosen` is the domain that the client named, with its disclaimer.
    pub fn new(read: &TurnsRead, chosen: Option<(&str, Option<&str>)>) -> Self {
        let domain = read.domain.as_ref();
        let by_client = chosen.and_then(|(_, disclaimer)| disclaimer.map(str::to_owned));
        let help = read.help.as_ref().filter(|_| read.safety.flagged);
        Self {
            domain: match chosen {
                Some((name, _)) => Some(name.to_owned()),
                None => domain.and_then(|domain| domain.name.clone()),
            },
            domain_confidence: match (chosen, domain) {
                (Some(_), _) => Some(1.0),
                (None, Some(domain)) => domain.name.as_ref().map(|_| domain.probability),
                (None, None) => None,
            },
            adapters: None,
            emotion: read.feelings.clone(),
            safety: Safety {
                flagged: read.safety.flagged,
                category: read.safety.category.clone(),
                by: read.safety.by.clone(),
                abstained: read.safety.abstained,
                region: help.and_then(|help| help.region.clone()),
                checked: help.and_then(|help| help.checked.clone()),
            },
            disclaimer: by_client.or_else(|| domain.and_then(|domain| domain.disclaimer.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read() -> TurnsRead {
        serde_json::from_value(json!({
            "text": {"primary_emotion": "fear"},
            "domain": {
                "name": "legal", "probability": 0.75, "likely": [], "category": "specialized",
                "empathy_level": "low", "disclaimer": "Not advice.", "emotion_default": true,
                "route": [{"name": "legal", "weight": 1.0}],
            },
            "safety": {"flagged": false, "category": "none", "by": null, "also": [], "scores": null, "abstained": false},
            "read": {"characters": 4},
            "feelings": null,
            "help": null,
        }))
        .unwrap()
    }

    #[test]
    fn a_reading_is_passed_on_whole() {
        let value = serde_json::to_value(read()).unwrap();
        assert_eq!(value["domain"]["category"], "specialized");
        assert_eq!(value["safety"]["scores"], Value::Null);
        assert!(value.get("help").is_none() && value.get("feelings").is_none());
    }

    #[test]
    fn the_client_or_the_router_chooses_the_domain() {
        let routed = Meetara::new(&read(), None);
        assert_eq!(routed.domain.as_deref(), Some("legal"));
        assert_eq!(routed.domain_confidence, Some(0.75));
        let chosen = Meetara::new(&read(), Some(("nutrition", Some("Ask a dietitian."))));
        assert_eq!(chosen.domain.as_deref(), Some("nutrition"));
        assert_eq!(chosen.disclaimer.as_deref(), Some("Ask a dietitian."));
        let chosen = Meetara::new(&read(), Some(("music", None)));
        assert_eq!(
            chosen.disclaimer.as_deref(),
            Some("Not advice."),
            "what it is about counts"
        );
    }

    #[test]
    fn options_are_checked() {
        let parse = |value: Value| MeetaraOptions::parse(Some(value));
        let options =
            parse(json!({"emotion": true, "region": "de-AT", "disclaimer": false})).unwrap();
        assert_eq!(options.emotion, Some(true));
        assert_eq!(options.region.as_deref(), Some("de-AT"));
        assert!(options.no_disclaimer_text);
        assert_eq!(
            MeetaraOptions::parse(None).unwrap(),
            MeetaraOptions::default()
        );
        for wrong in [
            json!(true),
            json!({"emotion": 1}),
            json!({"region": "a village in the hills"}),
            json!({"region": 49}),
            json!({"safety": false}),
        ] {
            assert_eq!(parse(wrong).unwrap_err().status, 400);
        }
    }

    #[test]
    fn a_request_to_analyze_is_checked() {
        let parse = |body: &str| AnalyzeRequest::parse(body.as_bytes());
        assert_eq!(parse(r#"{"text": ""}"#).unwrap().text, "");
        for wrong in ["", "{}", r#"{"text": 1}"#, r#"{"text": "a", "more": 1}"#] {
            assert_eq!(parse(wrong).unwrap_err().status, 400, "{wrong}");
        }
        let invalid = AnalyzeRequest::parse(b"{\"text\": \"\xff\"}").unwrap_err();
        assert_eq!(invalid.error.code.as_deref(), Some("invalid_json"));
        let long = json!({"text": "a".repeat(ANALYZE_CHARS_MAX + 1)}).to_string();
        assert_eq!(
            parse(&long).unwrap_err().error.param.as_deref(),
            Some("text")
        );
    }

    #[test]
    fn only_the_person_is_read() {
        let message = |role: &str, content: &str| Message {
            role: role.to_owned(),
            content: content.to_owned(),
        };
        let messages = [
            message("system", "s"),
            message("user", "one"),
            message("assistant", "a"),
            message("user", "two"),
        ];
        assert_eq!(turns_of(&messages), ["one", "two"]);
    }
}
