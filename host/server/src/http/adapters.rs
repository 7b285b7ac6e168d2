//! `GET /v1/lora_adapters`, `POST /v1/load_lora_adapter`, `POST /v1/unload_lora_adapter`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use meetara_api::{LoadAdapter, LoraAdapterList, UnloadAdapter};

use super::chat::whole_body;
use super::error::Failure;
use super::rest::App;

/// Lists them, in memory or not.
pub(super) async fn list(State(app): State<App>) -> Json<LoraAdapterList> {
    Json(LoraAdapterList::new(app.registry.adapters()))
}

/// Loads one, and says so in vLLM's words.
pub(super) async fn load(
    State(app): State<App>,
    body: Result<Bytes, BytesRejection>,
) -> Result<String, Failure> {
    let request = LoadAdapter::parse(&whole_body(body)?)?;
    let adapter = app.registry.load_adapter(request).await?;
    Ok(format!(
        "Success: LoRA adapter '{}' added successfully.",
        adapter.name
    ))
}

/// Forgets one.
pub(super) async fn unload(
    State(app): State<App>,
    body: Result<Bytes, BytesRejection>,
) -> Result<String, Failure> {
    let request = UnloadAdapter::parse(&whole_body(body)?)?;
    app.registry.unload_adapter(&request.lora_name)?;
    Ok(format!(
        "Success: LoRA adapter '{}' removed successfully.",
        request.lora_name
    ))
}
