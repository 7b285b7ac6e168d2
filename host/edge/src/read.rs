//! What is read of a request before the model is asked, and `POST /v1/emotion/analyze`.
//!
//! The gate stands here: [`before`] is called before every reply, and gives the help text that takes its
//! place. No field of the request and no system prompt changes that it does. Without a text model, or with
//! one that cannot be had, the rules still look for danger: they are part of the module.

use crate::adapters;
use crate::config::{Config, EmotionPolicy};
use crate::pool::engine_error;
use crate::{isolate, load};
use meetara_api::meetara::Help;
use meetara_api::{
    AdapterUse, AnalyzeRequest, ApiError, Meetara, MeetaraOptions, Routed, TurnsRead,
};
use meetara_engine::reader::{self, Reader};
use meetara_engine::safety::{self, Category, Gate};
use serde_json::{Value, json};
use std::rc::Rc;
use worker::Env;

/// After so long a text model that could not be had is asked for again.
const TRY_AGAIN_MS: u64 = 60_000;

/// The model id with which the router chooses adapters.
pub const AUTO: &str = "meetara:auto";

/// What was read before a reply.
pub struct Before {
    /// For the reply's field.
    pub meetara: Meetara,
    /// What is said in the place of a reply.
    pub help: Option<String>,
    /// Adapters that the router chose.
    pub routed: Vec<AdapterUse>,
}

/// Reads somebody's turns; `model` is the id that the request names, `country` where it came from.
///
/// # Errors
/// What the engine says.
pub async fn before(
    env: &Env,
    config: &Config,
    model: &str,
    turns: &[String],
    options: &MeetaraOptions,
    country: Option<String>,
) -> Result<Before, ApiError> {
    let asked = match (config.emotion, options.emotion) {
        (_, Some(asked)) => asked,
        (EmotionPolicy::Asked, None) => false,
        (EmotionPolicy::On | EmotionPolicy::Everywhere, None) => true,
    };
    let region = options.region.clone().or(country);
    let mut read = match reader_in_time(env, config).await {
        Some(reader) => read_turns(&reader, turns, asked)?,
        None => by_rules(turns)?,
    };
    let named = reader::domain(model.strip_prefix("meetara:").unwrap_or(model));
    let found = read.domain.as_ref();
    let allowed = named.is_none_or(|domain| domain.emotion_default)
        && found.is_none_or(|domain| domain.emotion_default);
    if config.emotion != EmotionPolicy::Everywhere && !allowed {
        read.feelings = None;
    }
    put_help(&mut read, region.as_deref());
    let mut meetara = Meetara::new(
        &read,
        named.map(|domain| (domain.name, domain.disclaimer())),
    );
    let mut routed = Vec::new();
    if model == AUTO {
        let route = read.domain.iter().flat_map(|domain| &domain.route);
        let chosen: Vec<Routed> = route
            .filter(|routed| adapters::is_listed(config, &routed.name))
            .cloned()
            .collect();
        routed = chosen
            .iter()
            .map(|Routed { name, weight }| AdapterUse {
                name: name.clone(),
                scale: *weight,
            })
            .collect();
        meetara.adapters = Some(chosen);
    }
    let help = read.help.filter(|_| read.safety.flagged);
    Ok(Before {
        meetara,
        help: help.map(|Help { text, .. }| text),
        routed,
    })
}

/// `POST /v1/emotion/analyze`.
///
/// # Errors
/// What is wrong with the request, or with the text model.
pub async fn analyze(body: &[u8], env: &Env, config: &Config) -> Result<TurnsRead, ApiError> {
    let AnalyzeRequest { text, region } = AnalyzeRequest::parse(body)?;
    let reader = reader(env, config).await?;
    let mut read = read_turns(&reader, &[text], false)?;
    put_help(&mut read, region.as_deref());
    Ok(read)
}

/// The text model for a reply. One that could not be had is not asked for again at once.
async fn reader_in_time(env: &Env, config: &Config) -> Option<Rc<Reader>> {
    let now_ms = isolate::now_ms();
    let failed_ms = isolate::with(|isolate| isolate.reader_failed_ms);
    if failed_ms.is_some_and(|failed| now_ms.saturating_sub(failed) < TRY_AGAIN_MS) {
        return None;
    }
    let found = reader(env, config).await.ok();
    let failed = found.is_none().then(isolate::now_ms);
    isolate::with(|isolate| isolate.reader_failed_ms = failed);
    found
}

async fn reader(env: &Env, config: &Config) -> Result<Rc<Reader>, ApiError> {
    match &config.reader_path {
        Some(path) => load::reader(env, path).await,
        None => Err(ApiError::model_unavailable(
            "This Worker has no text model; name one in READER_PATH under [vars] in wrangler.toml.",
        )),
    }
}

fn read_turns(reader: &Reader, turns: &[String], feelings: bool) -> Result<TurnsRead, ApiError> {
    let reading = reader.read_turns(turns).map_err(|e| engine_error(&e))?;
    let mut value = to_json(&reading)?;
    if feelings {
        let felt = reader.follow_turns(turns).map_err(|e| engine_error(&e))?;
        value["feelings"] = to_json(&felt)?;
    }
    from_json(value)
}

/// What the rules alone find.
fn by_rules(turns: &[String]) -> Result<TurnsRead, ApiError> {
    let gate = isolate::with(|isolate| {
        let gate = isolate.gate.get_or_insert_with(|| Rc::new(Gate::new()));
        Rc::clone(gate)
    });
    from_json(json!({ "safety": reader::read_by_rules(&gate, turns) }))
}

fn put_help(read: &mut TurnsRead, region: Option<&str>) {
    let named = |category: &&Category| category.name() == read.safety.category;
    let category = Category::ALL.iter().find(named);
    let help = category.and_then(|category| safety::help(*category, region));
    read.help = help.map(|help| Help {
        text: help.text,
        region: help.region.map(str::to_owned),
        checked: help.checked.map(str::to_owned),
    });
}

fn to_json(value: &impl serde::Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(value).map_err(|_| unwritten())
}

fn from_json(value: Value) -> Result<TurnsRead, ApiError> {
    serde_json::from_value(value).map_err(|_| unwritten())
}

fn unwritten() -> ApiError {
    ApiError::internal("What was read could not be written.")
}
