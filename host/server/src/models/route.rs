//! Who answers: a model by name, an adapter by name, a domain by name, or whom the router chooses.
//!
//! ```text
//! meetara:auto      the base model, with the adapters named like the domains that the reader finds likely
//! meetara:NAME      the model or the adapter of that name
//! meetara:DOMAIN    the base model alone, where there is neither
//! ```

use std::sync::Arc;

use meetara_api::{AdapterUse, ApiError, Routed, TurnsRead};

use super::{ID_PREFIX, Mix, Model, Registry};
use crate::sandbox::wire::Domain;

/// The name that leaves the choice to the router.
const AUTO: &str = "auto";
/// The base model, where there is one of this name; else the first.
const BASE: &str = "meetara:pocket";

/// Who is asked.
pub struct Target<'r> {
    /// The model.
    pub model: &'r Arc<Model>,
    /// What is added to it.
    pub mix: Mix,
    /// What the reply calls it.
    pub id: String,
    /// The domain that the client named.
    pub domain: Option<&'r Domain>,
    /// Whether the router chooses.
    pub is_auto: bool,
}

impl Registry {
    /// The id that leaves the choice to the router, where there is a reader for it and a model to be asked.
    pub fn auto(&self) -> Option<(String, &Arc<Model>)> {
        self.reader_usable().ok()?;
        Some((format!("{ID_PREFIX}{AUTO}"), self.base().ok()?))
    }

    /// Whom a request for `id` with the field `adapters` asks.
    ///
    /// # Errors
    /// 404 when there is no model, adapter or domain of that name; 503 when the model or the reader is of no use; those
    /// of adapters.
    pub fn target(&self, id: &str, used: &[AdapterUse]) -> Result<Target<'_>, ApiError> {
        let name = id.strip_prefix(ID_PREFIX).unwrap_or(id);
        let domain = self.domains.iter().find(|domain| domain.name == name);
        let found = self.get_with(id, used);
        let (is_auto, domain_alone) = match &found {
            Err(error) if error.status == 404 && error.error.param.as_deref() == Some("model") => {
                (name == AUTO, domain.is_some())
            }
            _ => (false, false),
        };
        if !is_auto && !domain_alone {
            let (model, mix, id) = found?;
            return Ok(Target {
                model,
                mix,
                id,
                domain,
                is_auto,
            });
        }
        if is_auto {
            self.reader_usable()?;
        }
        let model = self.base()?;
        Ok(Target {
            model,
            mix: self.adapters.mix(model, used)?,
            id: model.id.clone(),
            domain,
            is_auto,
        })
    }

    /// Adds the adapters of the domains that were found likely, as far as they are there; and which those are.
    pub fn route(&self, target: &mut Target<'_>, read: &TurnsRead) -> Vec<Routed> {
        let routed = read.domain.iter().flat_map(|domain| &domain.route);
        let found: Vec<_> = routed
            .filter_map(|routed| Some((self.adapters.get(&routed.name)?, routed.weight)))
            .filter(|(adapter, _)| adapter.base() == target.model.id)
            .collect();
        let sum: f32 = found.iter().map(|(_, weight)| weight).sum();
        let mut chosen = Vec::with_capacity(found.len());
        for (adapter, weight) in found {
            let weight = weight / sum;
            chosen.push(Routed {
                name: adapter.name.clone(),
                weight,
            });
            target.mix.push((adapter, weight));
        }
        chosen
    }

    /// The model that answers where none is named.
    fn base(&self) -> Result<&Arc<Model>, ApiError> {
        let mut usable = self.usable();
        let base = self.usable().find(|model| model.id == BASE);
        base.or_else(|| usable.next())
            .ok_or_else(|| ApiError::model_unavailable("No model can be served; see /health."))
    }
}
