//! What a reply must be: a JSON value of a schema, or a text of a grammar.
//!
//! The crate `constraint` says before each token which may come next; the
//! sampler leaves the others out, before all else that it does. So every way to
//! sample works, and the greedy one takes the likeliest token that is allowed.
//! Log-probabilities stay the model's own. A reply that is cut off ends with
//! the shortest text that the walk of `constraint` finds; those bytes are no
//! tokens of the model's, cost no evaluation and are not counted.

use serde::{Deserialize, Serialize};

/// What a reply must be. Only builds with the feature `constrained` take one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// A JSON object of any shape.
    JsonObject,
    /// A JSON value that this schema, itself the text of a JSON object, accepts.
    JsonSchema(String),
    /// A text of this grammar, in llguidance's dialect of Lark.
    Lark(String),
}

#[cfg(feature = "constrained")]
pub(super) use built_in::{compile, to_error};

#[cfg(feature = "constrained")]
mod built_in {
    use meetara_constraint as constraint;

    use super::Constraint;
    use crate::error::{Error, ErrorKind, Result};
    use crate::generate::GenerateParams;
    use crate::model::Model;

    /// The constraint that `params` ask for.
    pub(in crate::generate) fn compile(
        model: &Model,
        params: &GenerateParams,
    ) -> Result<Option<constraint::Constraint>> {
        let rule = match &params.constraint {
            None => return Ok(None),
            Some(Constraint::JsonObject) => constraint::Rule::JsonObject,
            Some(Constraint::JsonSchema(text)) => constraint::Rule::JsonSchema(text),
            Some(Constraint::Lark(text)) => constraint::Rule::Lark(text),
        };
        let compiled = constraint::Constraint::new(model.vocabulary()?, rule);
        compiled.map(Some).map_err(to_error)
    }

    pub(in crate::generate) fn to_error(error: constraint::Error) -> Error {
        Error::new(ErrorKind::InvalidConstraint, error.to_string())
    }
}
