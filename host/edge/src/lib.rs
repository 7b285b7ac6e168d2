//! The engine as a Cloudflare Worker: OpenAI's chat routes at the edge, configured by
//! wrangler.toml.
//!
//! | route | answer |
//! |---|---|
//! | `GET /v1/models`, `GET /v1/models/{id}` | the one model that this Worker serves, alone and with each adapter |
//! | `POST /v1/chat/completions` | a reply, whole or as server-sent events |
//! | `POST /v1/emotion/analyze` | the feeling, domain and danger in a text |
//! | `GET /v1/lora_adapters` | the adapters over it |
//! | `POST /v1/load_lora_adapter`, `/v1/unload_lora_adapter` | changes them in the isolate that answers; needs the key |
//! | `GET /health` | whether the models are loaded, replies in progress, tokens so far |
//!
//! An isolate runs many requests on one thread, in turns: a reply gives way after every step of the
//! engine. What they share is [`isolate`]: the model, fetched once, and a few sessions that are
//! leased to requests. A session forgets its conversation before it serves the next request.
//!
//! workerd drops a request whose client is gone by never waking it again, without running
//! destructors. The work stops with that; its session is given back by the request's abort signal.

mod adapters;
mod asset;
mod auth;
mod body;
mod chat;
mod config;
mod isolate;
mod load;
mod pool;
mod read;
mod reply;

use config::Config;
use meetara_api::{ApiError, Model, ModelList};
use worker::{Context, Env, Method, Request, Response, event};

/// Every request comes in here. Errors are part of the API, so none is left to the runtime.
#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> worker::Result<Response> {
    match route(request, &env).await {
        Ok(response) => Ok(response),
        Err(error) => reply::error(&error),
    }
}

async fn route(mut request: Request, env: &Env) -> Result<Response, ApiError> {
    let config = Config::read(env)?;
    let path = request.path();
    let method = request.method();
    let only = |allowed: Method| {
        if method == allowed {
            Ok(())
        } else {
            Err(ApiError::method_not_allowed(allowed.as_ref()))
        }
    };
    if path == "/health" {
        only(Method::Get)?;
        return reply::json(&isolate::health());
    }
    auth::check(&request, env)?;
    match path.as_str() {
        "/v1/chat/completions" => {
            only(Method::Post)?;
            chat::completions(request, env, &config).await
        }
        "/v1/emotion/analyze" => {
            only(Method::Post)?;
            let body = body::read(&mut request).await?;
            reply::json(&read::analyze(&body, env, &config).await?)
        }
        "/v1/models" => {
            only(Method::Get)?;
            let mut list = vec![model(&config)];
            list.extend(adapters::models(&config));
            reply::json(&ModelList::new(list))
        }
        "/v1/lora_adapters" => {
            only(Method::Get)?;
            reply::json(&adapters::list(&config))
        }
        "/v1/load_lora_adapter" => {
            only(Method::Post)?;
            auth::check_change(env)?;
            let body = body::read(&mut request).await?;
            reply::text(&adapters::load(&body, env, &config).await?)
        }
        "/v1/unload_lora_adapter" => {
            only(Method::Post)?;
            auth::check_change(env)?;
            let body = body::read(&mut request).await?;
            reply::text(&adapters::unload(&body, &config)?)
        }
        _ => match path.strip_prefix("/v1/models/") {
            Some(id) => {
                only(Method::Get)?;
                let chosen = adapters::choose(&config, id, &[])?;
                reply::json(&Model::new(chosen.id, config.model_created))
            }
            None => Err(ApiError::not_found()),
        },
    }
}

fn model(config: &Config) -> Model {
    Model::new(config.model_id.clone(), config.model_created)
}
