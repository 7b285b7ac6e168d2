//! The LoRA adapters that are listed: names and files, read by a worker when first asked for.
//!
//! A file found below the folder of models is used over the nearest model: the first in its own
//! folder, else in the folder above, and so on. Whether it fits is for the engine to say.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use meetara_api::{AdapterUse, ApiError, LoadAdapter, LoraAdapter};

use super::scan::FoundAdapter;
use super::{ID_PREFIX, Model, lock};

/// One adapter file.
#[derive(Debug)]
pub struct Adapter {
    /// What clients call it.
    pub name: String,
    /// The name in the sandbox. No other registration has it, so that weights of a file that
    /// was unloaded are never taken for those of another under its name.
    pub key: String,
    /// Its file.
    pub path: PathBuf,
    /// The file below the folder of models.
    file: PathBuf,
    bytes: u64,
    /// The id of its model.
    base: String,
}

/// Adapters in use by a request, each with its scale.
pub type Mix = Vec<(Arc<Adapter>, f32)>;

/// All that are listed, by name.
pub struct Adapters {
    folder: PathBuf,
    listed: Mutex<BTreeMap<String, Arc<Adapter>>>,
    count: AtomicU64,
}

impl Adapters {
    pub(super) fn new(folder: &Path, found: Vec<FoundAdapter>, models: &[Arc<Model>]) -> Self {
        let adapters = Self {
            folder: folder.to_owned(),
            listed: Mutex::default(),
            count: AtomicU64::new(0),
        };
        for adapter in found {
            let Some(base) = nearest(&adapter.file, models) else {
                tracing::warn!("the adapter {} has no model to be used over", adapter.name);
                continue;
            };
            let adapter = adapters.adapter(adapter, base.id.clone());
            lock(&adapters.listed).insert(adapter.name.clone(), Arc::new(adapter));
        }
        adapters
    }

    fn adapter(&self, found: FoundAdapter, base: String) -> Adapter {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        Adapter {
            key: format!("{}#{number}", found.name),
            name: found.name,
            path: found.path,
            file: found.file,
            bytes: found.bytes,
            base,
        }
    }

    /// The adapter of that name, `meetara:` may be left out.
    pub fn get(&self, name: &str) -> Option<Arc<Adapter>> {
        let name = name.strip_prefix(ID_PREFIX).unwrap_or(name);
        lock(&self.listed).get(name).cloned()
    }

    /// Those that a request over `model` names.
    ///
    /// # Errors
    /// 404 for one that is not listed, 400 for one of another model.
    pub fn mix(&self, model: &Model, used: &[AdapterUse]) -> Result<Mix, ApiError> {
        let one = |used: &AdapterUse| {
            let adapter = self
                .get(&used.name)
                .ok_or_else(|| ApiError::adapter_not_found(&used.name))?;
            if adapter.base != model.id {
                return Err(ApiError::invalid_value(
                    "adapters",
                    format!(
                        "The adapter '{}' is for the model '{}'.",
                        adapter.name, adapter.base
                    ),
                ));
            }
            Ok((adapter, used.scale))
        };
        used.iter().map(one).collect()
    }

    /// What `GET /v1/lora_adapters` says.
    pub fn list(&self, models: &[Arc<Model>]) -> Vec<LoraAdapter> {
        let resident = |adapter: &Adapter| {
            let base = models.iter().find(|model| model.id == adapter.base);
            base.is_some_and(|base| lock(&base.resident).contains(&adapter.key))
        };
        let line = |adapter: &Arc<Adapter>| LoraAdapter {
            id: adapter.id(),
            object: "lora_adapter".to_owned(),
            lora_name: adapter.name.clone(),
            lora_path: adapter.file.display().to_string(),
            base_model: adapter.base.clone(),
            bytes: adapter.bytes,
            resident: resident(adapter),
        };
        lock(&self.listed).values().map(line).collect()
    }

    /// The adapter that `request` asks for, not listed yet.
    ///
    /// # Errors
    /// 400 for a name in use or a path that is no file below the folder of models.
    pub fn find(&self, request: LoadAdapter, models: &[Arc<Model>]) -> Result<Adapter, ApiError> {
        let LoadAdapter {
            lora_name: name,
            lora_path,
            base_model_name,
        } = request;
        let id = format!("{ID_PREFIX}{name}");
        if self.get(&name).is_some() || models.iter().any(|model| model.id == id) {
            return Err(ApiError::invalid_value(
                "lora_name",
                format!("The name '{name}' is in use; unload that adapter first."),
            ));
        }
        let (path, file, bytes) = self.file(Path::new(&lora_path)).ok_or_else(|| {
            ApiError::invalid_value(
                "lora_path",
                "'lora_path' must be a *.gguf file below the folder of models, without '..'.",
            )
        })?;
        let base = match base_model_name {
            None => nearest(&file, models),
            Some(id) => models
                .iter()
                .find(|m| m.id == id || m.id.strip_prefix(ID_PREFIX) == Some(&id)),
        };
        let base = base.ok_or_else(|| {
            ApiError::invalid_value(
                "base_model_name",
                "There is no such model to use the adapter over; GET /v1/models lists them.",
            )
        })?;
        let found = FoundAdapter {
            name,
            path,
            file,
            bytes,
        };
        Ok(self.adapter(found, base.id.clone()))
    }

    /// Lists an adapter that [`Self::find`] gave.
    pub fn add(&self, adapter: Arc<Adapter>) {
        lock(&self.listed).insert(adapter.name.clone(), adapter);
    }

    /// Forgets an adapter.
    ///
    /// # Errors
    /// 404 when it is not listed.
    pub fn remove(&self, name: &str) -> Result<(), ApiError> {
        let removed = lock(&self.listed).remove(name);
        removed
            .map(drop)
            .ok_or_else(|| ApiError::adapter_not_found(name))
    }

    /// A path that a client named, if it lies below the folder of models: where it is, what it
    /// is below the folder, and its length.
    fn file(&self, path: &Path) -> Option<(PathBuf, PathBuf, u64)> {
        let below = path.strip_prefix(&self.folder).unwrap_or(path);
        let plain = |part| matches!(part, Component::Normal(_));
        let gguf = below.extension()?.eq_ignore_ascii_case("gguf");
        if !gguf || !below.components().all(plain) {
            return None;
        }
        let full = self.folder.join(below);
        let metadata = std::fs::metadata(&full).ok()?;
        metadata
            .is_file()
            .then(|| (full, below.to_owned(), metadata.len()))
    }
}

impl Adapter {
    /// `meetara:NAME`.
    pub fn id(&self) -> String {
        format!("{ID_PREFIX}{}", self.name)
    }

    /// The id of its model.
    pub fn base(&self) -> &str {
        &self.base
    }
}

/// The first model in the folder of `file`, else in the folder above, and so on; else the first.
fn nearest<'m>(file: &Path, models: &'m [Arc<Model>]) -> Option<&'m Arc<Model>> {
    let folders = file.ancestors().skip(1);
    let mut in_folders = folders.filter_map(|folder| {
        models
            .iter()
            .find(|model| Path::new(&model.file).parent() == Some(folder))
    });
    in_folders.next().or_else(|| models.first())
}
