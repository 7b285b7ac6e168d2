//! The images that a model's conversations spring from: of the model alone, and with adapters.
//!
//! A model is loaded once, with its tokenizer built, its weights in the kernels' order and a session
//! open; the instance it was loaded in is gone when its image has been taken. An adapter is loaded
//! once too, into an instance that springs from that image, and makes an image of its own, which
//! holds little more than the adapter. Those that were not used for longest are dropped when all
//! together exceed a limit; conversations that sprang from them keep what they have.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::{Mix, Model, WorkerConfig, lock};
use crate::sandbox::{Image, Instance, Sandbox, SandboxError};

/// A loaded model.
pub(super) struct Images {
    /// Of the model alone.
    root: Arc<Image>,
    /// The session that is open in every image.
    pub(super) session: i32,
    /// The most tokens of a conversation.
    pub(super) context_max: u32,
    /// With adapters, the last used last.
    adapted: Mutex<Vec<Adapted>>,
    adapter_bytes_max: usize,
}

/// The image of a model with adapters loaded.
struct Adapted {
    /// Their keys, in order.
    keys: Vec<String>,
    image: Arc<Image>,
}

impl Images {
    /// Loads a model.
    ///
    /// # Errors
    /// What is wrong with its file, or what limit it meets.
    pub(super) fn load(
        sandbox: &Sandbox,
        model: &Model,
        config: &WorkerConfig,
    ) -> Result<Self, SandboxError> {
        let path = &model.path;
        let file_len = std::fs::metadata(path)
            .map_err(|source| SandboxError::File {
                path: path.clone(),
                source,
            })?
            .len();
        let mut instance = Instance::new(sandbox)?;
        let facts = instance.load(path, file_len)?;
        if !facts.chat {
            return Err(SandboxError::Engine {
                code: "unsupported_model".to_owned(),
                message: "the file has no chat template (tokenizer.chat_template), so it cannot chat; use an instruction-tuned model"
                    .to_owned(),
            });
        }
        instance.set_adapters_max(config.adapter_bytes_max)?;
        // One setting for all models, so it is no error if one of them holds less.
        let context_max = u64::from(config.context_max).min(facts.context_len);
        let context_max = u32::try_from(context_max).unwrap_or(u32::MAX);
        let (session, opened) = instance.open_session(context_max, config.kv)?;
        Ok(Self {
            root: instance.image(None)?,
            session,
            context_max: opened.context_max,
            adapted: Mutex::default(),
            adapter_bytes_max: config.adapter_bytes_max as usize,
        })
    }

    /// Bytes of the model in memory, the adapters not counted.
    pub(super) fn bytes(&self) -> usize {
        self.root.bytes()
    }

    /// The image with the adapters of `mix`, whatever their scales.
    ///
    /// # Errors
    /// What is wrong with an adapter, by name.
    pub(super) fn with(
        &self,
        sandbox: &Sandbox,
        mix: &Mix,
        model: &Model,
    ) -> Result<Arc<Image>, SandboxError> {
        if mix.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        let keys = keys(mix);
        let found = {
            let mut adapted = lock(&self.adapted);
            let index = adapted.iter().position(|found| found.keys == keys);
            index.map(|index| {
                let found = adapted.remove(index);
                let image = Arc::clone(&found.image);
                adapted.push(found);
                image
            })
        };
        if let Some(image) = found {
            return Ok(image);
        }
        let made = self.adapt(sandbox, keys, mix, model)?;
        let image = Arc::clone(&made.image);
        let mut adapted = lock(&self.adapted);
        // Another thread may have made the same.
        adapted.retain(|other| other.keys != made.keys);
        adapted.push(made);
        let bytes = |adapted: &[Adapted]| -> usize {
            adapted.iter().map(|made| made.image.own_bytes()).sum()
        };
        while adapted.len() > 1 && bytes(&adapted) > self.adapter_bytes_max {
            adapted.remove(0);
        }
        let held = adapted.iter().flat_map(|made| made.keys.iter().cloned());
        *lock(&model.resident) = held.collect();
        drop(adapted);
        // A conversation would keep in memory what was just dropped.
        model.pool.forget(|mix| !self.holds(mix));
        Ok(image)
    }

    /// Whether the image with the adapters of `mix` is still held.
    pub(super) fn holds(&self, mix: &Mix) -> bool {
        let keys = keys(mix);
        mix.is_empty() || lock(&self.adapted).iter().any(|made| made.keys == keys)
    }

    fn adapt(
        &self,
        sandbox: &Sandbox,
        keys: Vec<String>,
        mix: &Mix,
        model: &Model,
    ) -> Result<Adapted, SandboxError> {
        let mut instance = Instance::spring(sandbox, &self.root)?;
        for key in &keys {
            let Some((adapter, _)) = mix.iter().find(|(adapter, _)| adapter.key == *key) else {
                continue;
            };
            let began = Instant::now();
            instance
                .load_adapter(&adapter.key, &adapter.path)
                .map_err(|error| named(error, &adapter.name))?;
            let load_us = began.elapsed().as_micros();
            tracing::info!(model = model.id, adapter = adapter.name, load_us, "loaded");
        }
        let image = instance.image(Some(&self.root))?;
        Ok(Adapted { keys, image })
    }
}

/// The keys of the adapters of `mix`, in order.
fn keys(mix: &Mix) -> Vec<String> {
    let mut keys: Vec<_> = mix.iter().map(|(adapter, _)| adapter.key.clone()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The error with the name of the adapter that it is about.
fn named(error: SandboxError, name: &str) -> SandboxError {
    match error {
        // What is wrong lies in the request, which chose the file: no fault of the base.
        SandboxError::Engine { message, .. } => SandboxError::Engine {
            code: "invalid_request".to_owned(),
            message: format!("adapter '{name}': {message}"),
        },
        other => other,
    }
}
