//! LoRA adapters over the Worker's model: which there are, and those in this isolate's memory.
//!
//! They are static assets, as the model is. `[vars.ADAPTERS]` in wrangler.toml lists those that every
//! isolate serves. The routes `load_lora_adapter` and `unload_lora_adapter` change the list of the one
//! isolate that answers, so they are for those who hold the Worker's key.
//!
//! A file is fetched when a request first names it. The adapters used last stay in memory, as many as
//! fit `ADAPTERS_MAX_MIB`; a request holds the weights that it uses itself.

use crate::config::Config;
use crate::isolate::{self, Loaded};
use crate::{asset, load};
use meetara_api::{
    AdapterUse, ApiError, LoadAdapter, LoraAdapter, LoraAdapterList, Model, UnloadAdapter,
};
use meetara_engine::model::{Adapter, AdapterPool};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use worker::Env;

/// What model ids begin with, and names of adapters may begin with.
const ID_PREFIX: &str = "meetara:";

/// The most adapters that are listed.
const LISTED_MAX: usize = 256;

/// An adapter that is listed.
pub struct Listed {
    /// What clients call it.
    name: String,
    /// Its name in the pool. No other registration has it, so that weights of a file that was
    /// unloaded are never taken for those of another under its name.
    key: String,
    /// The asset.
    path: String,
    /// The file's length; 0 until it was fetched.
    bytes: Cell<u64>,
}

/// The adapters of an isolate.
pub struct Adapters {
    listed: BTreeMap<String, Rc<Listed>>,
    /// Registrations so far.
    count: u64,
    pool: AdapterPool,
}

/// Adapters in memory, each with its scale.
pub type Mix = Vec<(Adapter, f32)>;

/// What a request for a model id is answered by.
pub struct Chosen {
    /// The id that the reply names.
    pub id: String,
    /// The adapters and scales.
    used: Vec<(Rc<Listed>, f32)>,
}

impl Adapters {
    /// Those that wrangler.toml lists; none of them is fetched yet.
    pub fn new(config: &Config) -> Self {
        let mut adapters = Self {
            listed: BTreeMap::new(),
            count: 0,
            pool: AdapterPool::new(config.adapter_bytes_max),
        };
        for (name, path) in &config.adapters {
            adapters.add(name.clone(), path.clone(), 0);
        }
        adapters
    }

    fn add(&mut self, name: String, path: String, bytes: u64) -> Rc<Listed> {
        self.count += 1;
        let listed = Rc::new(Listed {
            key: format!("{name}#{}", self.count),
            name: name.clone(),
            path,
            bytes: Cell::new(bytes),
        });
        self.listed.insert(name, Rc::clone(&listed));
        listed
    }

    fn get(&self, name: &str) -> Option<Rc<Listed>> {
        let name = name.strip_prefix(ID_PREFIX).unwrap_or(name);
        self.listed.get(name).cloned()
    }
}

/// What a request with `model` and `adapters` is answered by: an id of an adapter stands for the
/// model with it.
///
/// # Errors
/// 404 for a model or an adapter that is not listed.
pub fn choose(config: &Config, model: &str, used: &[AdapterUse]) -> Result<Chosen, ApiError> {
    isolate::with_adapters(config, |adapters| {
        let alone = (model != config.model_id)
            .then(|| {
                let found = adapters.get(model);
                found.ok_or_else(|| ApiError::model_not_found(model))
            })
            .transpose()?;
        let id = alone.as_ref().map_or(config.model_id.clone(), |a| a.id());
        let mut mix: Vec<_> = alone.into_iter().map(|adapter| (adapter, 1.0)).collect();
        for used in used {
            let adapter = adapters.get(&used.name);
            let adapter = adapter.ok_or_else(|| ApiError::adapter_not_found(&used.name))?;
            mix.push((adapter, used.scale));
        }
        Ok(Chosen { id, used: mix })
    })
}

/// Whether there is an adapter of that name.
pub fn is_listed(config: &Config, name: &str) -> bool {
    isolate::with_adapters(config, |adapters| adapters.get(name).is_some())
}

impl Chosen {
    /// Its adapters, fetched where they are not in memory.
    ///
    /// # Errors
    /// 400 that names the adapter at fault, or says that all together are too large.
    pub async fn mix(&self, env: &Env, config: &Config, model: &Loaded) -> Result<Mix, ApiError> {
        let mut mix = Vec::with_capacity(self.used.len());
        for (listed, scale) in &self.used {
            let held = isolate::with_adapters(config, |a| a.pool.get(&listed.key).ok());
            let adapter = match held {
                Some(adapter) => adapter,
                None => {
                    let missing = listed.unusable("its file is missing");
                    listed.fetch(env, config, model, missing).await?
                }
            };
            mix.push((adapter, *scale));
        }
        let bytes: usize = mix.iter().map(|(adapter, _)| adapter.memory_bytes()).sum();
        if bytes > config.adapter_bytes_max {
            let max = config.adapter_bytes_max;
            let message = format!(
                "'adapters' of one request take {bytes} bytes together, more than the {max} that this server holds."
            );
            return Err(ApiError::invalid_value("adapters", message));
        }
        Ok(mix)
    }
}

impl Listed {
    /// `meetara:NAME`.
    fn id(&self) -> String {
        format!("{ID_PREFIX}{}", self.name)
    }

    /// The error of a request that names it.
    fn unusable(&self, what: &str) -> ApiError {
        let message = format!("adapter '{}': {what}", self.name);
        ApiError::from_engine("invalid_request", message)
    }

    /// Fetches the file, and keeps the adapter in memory while it fits; `missing` where there is none.
    async fn fetch(
        &self,
        env: &Env,
        config: &Config,
        model: &Loaded,
        missing: ApiError,
    ) -> Result<Adapter, ApiError> {
        let bytes = asset::fetch(env, &self.path, config.adapter_bytes_max);
        let bytes = bytes.await.map_err(|fault| match fault {
            asset::Fault::Missing => missing,
            asset::Fault::Broken(what) => self.unusable(&format!("its file {what}")),
            asset::Fault::Other(error) => error,
        })?;
        let adapter =
            Adapter::load(&model.model, &bytes).map_err(|e| self.unusable(e.message()))?;
        let kept = adapter.clone();
        isolate::with_adapters(config, |a| a.pool.insert(self.key.clone(), kept))
            .map_err(|e| self.unusable(e.message()))?;
        self.bytes.set(bytes.len() as u64);
        Ok(adapter)
    }
}

/// `GET /v1/lora_adapters`.
pub fn list(config: &Config) -> LoraAdapterList {
    isolate::with_adapters(config, |adapters| {
        let line = |listed: &Rc<Listed>| LoraAdapter {
            id: listed.id(),
            object: "lora_adapter".to_owned(),
            lora_name: listed.name.clone(),
            lora_path: listed.path.clone(),
            base_model: config.model_id.clone(),
            bytes: listed.bytes.get(),
            resident: adapters.pool.names().any(|name| name == listed.key),
        };
        LoraAdapterList::new(adapters.listed.values().map(line).collect())
    })
}

/// The lines of `GET /v1/models` for them.
pub fn models(config: &Config) -> Vec<Model> {
    let model = |listed: &Rc<Listed>| Model::new(listed.id(), config.model_created);
    isolate::with_adapters(config, |a| a.listed.values().map(model).collect())
}

/// `POST /v1/load_lora_adapter`: fetches an asset, to see that it fits the model, and lists it.
///
/// # Errors
/// What is wrong with the request or the file.
pub async fn load(body: &[u8], env: &Env, config: &Config) -> Result<String, ApiError> {
    let request = LoadAdapter::parse(body)?;
    let name = request.lora_name;
    let wrong_base =
        |id: &String| *id != config.model_id && format!("{ID_PREFIX}{id}") != config.model_id;
    if request.base_model_name.as_ref().is_some_and(wrong_base) {
        let message = "There is no such model to use the adapter over; GET /v1/models lists them.";
        return Err(ApiError::invalid_value("base_model_name", message));
    }
    let path = request.lora_path.trim_start_matches('/').to_owned();
    if !is_plain(&path) {
        return Err(bad_path());
    }
    check_free(config, &name)?;
    let model = load::model(env, config).await?;
    // Not listed yet, so that no request finds it before it is known to fit.
    let coming = Listed {
        key: format!("{name}#coming"),
        name: name.clone(),
        path: path.clone(),
        bytes: Cell::new(0),
    };
    let adapter = coming.fetch(env, config, &model, bad_path()).await?;
    // Another request may have taken the name meanwhile.
    check_free(config, &name)?;
    isolate::with_adapters(config, |adapters| {
        adapters.pool.remove(&coming.key);
        let listed = adapters.add(name.clone(), path, coming.bytes.get());
        adapters.pool.insert(listed.key.clone(), adapter)
    })
    .map_err(|e| ApiError::from_engine(e.code(), e.message()))?;
    Ok(format!(
        "Success: LoRA adapter '{name}' added successfully."
    ))
}

/// `POST /v1/unload_lora_adapter`: replies in the making go on with it.
///
/// # Errors
/// 404 when it is not listed.
pub fn unload(body: &[u8], config: &Config) -> Result<String, ApiError> {
    let name = UnloadAdapter::parse(body)?.lora_name;
    isolate::with_adapters(config, |adapters| {
        let removed = adapters.listed.remove(&name);
        let removed = removed.ok_or_else(|| ApiError::adapter_not_found(&name))?;
        adapters.pool.remove(&removed.key);
        Ok(format!(
            "Success: LoRA adapter '{name}' removed successfully."
        ))
    })
}

fn check_free(config: &Config, name: &str) -> Result<(), ApiError> {
    let (taken, count) = isolate::with_adapters(config, |adapters| {
        (adapters.get(name).is_some(), adapters.listed.len())
    });
    let message = if taken || format!("{ID_PREFIX}{name}") == config.model_id {
        format!("The name '{name}' is in use; unload that adapter first.")
    } else if count >= LISTED_MAX {
        format!("{LISTED_MAX} adapters are listed; unload one first.")
    } else {
        return Ok(());
    };
    Err(ApiError::invalid_value("lora_name", message))
}

/// Whether a path names a `*.gguf` file below the assets folder and nothing else.
fn is_plain(path: &str) -> bool {
    let plain = |part: &str| {
        let letters = |c: char| c.is_alphanumeric() || "._- ".contains(c);
        !part.is_empty() && !part.starts_with("..") && part != "." && part.chars().all(letters)
    };
    path.len() <= 512 && path.to_ascii_lowercase().ends_with(".gguf") && path.split('/').all(plain)
}

fn bad_path() -> ApiError {
    ApiError::invalid_value(
        "lora_path",
        "'lora_path' must be a *.gguf file below the folder of models, without '..'.",
    )
}
