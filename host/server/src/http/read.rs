//! What is read of a request before a model is asked, and `POST /v1/emotion/analyze`.
//!
//! The gate stands here: [`before`] is called by every route whose answer a model writes, and gives the help text that
//! takes its place. It reads what the person wrote, and no field of the request, no system prompt and no file changes
//! that it does.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use meetara_api::meetara::Help;
use meetara_api::{AnalyzeRequest, Meetara, MeetaraOptions, TurnsRead};

use super::chat::whole_body;
use super::error::Failure;
use super::rest::App;
use crate::config::EmotionPolicy;
use crate::models::{Target, ToRead};

/// What was read before a reply.
pub(super) struct Before {
    /// For the reply's field.
    pub(super) meetara: Meetara,
    /// What is said in the place of a reply.
    pub(super) help: Option<String>,
}

/// Reads somebody's turns, and chooses adapters where the router is to.
pub(super) async fn before(
    app: &App,
    target: &mut Target<'_>,
    turns: Vec<String>,
    options: MeetaraOptions,
) -> Result<Before, Failure> {
    let asked = match (app.emotion, options.emotion) {
        (_, Some(asked)) => asked,
        (EmotionPolicy::Asked, None) => false,
        (EmotionPolicy::On | EmotionPolicy::Everywhere, None) => true,
    };
    let mut read = app
        .registry
        .read(ToRead {
            turns,
            region: options.region,
            feelings: asked,
        })
        .await?;
    let in_domain = |read: &TurnsRead| {
        let named = target.domain.is_none_or(|domain| domain.emotion_default);
        let found = read
            .domain
            .as_ref()
            .is_none_or(|domain| domain.emotion_default);
        named && found
    };
    if app.emotion != EmotionPolicy::Everywhere && !in_domain(&read) {
        read.feelings = None;
    }
    let chosen = target.domain.map(|domain| {
        let disclaimer = Some(domain.disclaimer.as_str()).filter(|text| !text.is_empty());
        (domain.name.as_str(), disclaimer)
    });
    let mut meetara = Meetara::new(&read, chosen);
    if target.is_auto {
        meetara.adapters = Some(app.registry.route(target, &read));
    }
    let help = read.help.filter(|_| read.safety.flagged);
    Ok(Before {
        meetara,
        help: help.map(|Help { text, .. }| text),
    })
}

/// The handler of `/v1/emotion/analyze`.
pub(super) async fn analyze(
    State(app): State<App>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<TurnsRead>, Failure> {
    let AnalyzeRequest { text, region } = AnalyzeRequest::parse(&whole_body(body)?)?;
    app.registry.reader_usable()?;
    let to_read = ToRead {
        turns: vec![text],
        region,
        feelings: false,
    };
    let read = app.registry.read(to_read).await?;
    // Its file may have turned out to be of no use just now.
    app.registry.reader_usable()?;
    Ok(Json(read))
}
