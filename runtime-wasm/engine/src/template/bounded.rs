//! How deep values may be nested while a template runs.
//!
//! minijinja drops, prints, compares and serialises values by recursion, one level of the stack for each
//! list within a list, and bounds none of it. In a loop a template can nest a value by one more level each
//! time, thousands deep, and what then drops it overflows the stack. So every value that outlives a tag
//! goes through one of two filters that `tags` writes into every `set`, and what is printed or made JSON
//! is looked at first. Within a tag brackets are counted, and macros within macros are bounded already.
//!
//! A namespace can be changed after it was looked at, and could come to hold itself. So it may stand in a
//! variable, but not within another value, and neither may macros, which hold the variables they use.
//!
//! A list that holds another twice, and so on, is small and has more paths than anybody can walk: steps
//! are counted, too, over the whole of one rendering.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};

/// The filter of what is assigned to a variable.
pub(super) const VARIABLE: &str = "meetara_variable";
/// The filter of what is assigned to an attribute of a namespace.
pub(super) const ATTRIBUTE: &str = "meetara_attribute";
/// Lists and maps within one another. Messages that call tools have about ten levels.
const DEPTH_MAX: usize = 48;
/// Items that are looked at in one rendering.
const STEPS_MAX: usize = 2_000_000;

/// Counts the items that one rendering has looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps(Arc<AtomicUsize>);

/// Bounds what `environment` renders, which is one text.
pub(super) fn install(environment: &mut Environment<'_>) {
    let steps = Steps::default();
    let of_variable = steps.clone();
    environment.add_filter(VARIABLE, move |value: Value| {
        of_variable.check(&value)?;
        Ok::<_, Error>(value)
    });
    let of_attribute = steps.clone();
    environment.add_filter(ATTRIBUTE, move |value: Value| {
        refuse_holder(&value)?;
        of_attribute.check(&value)?;
        Ok::<_, Error>(value)
    });
    environment.set_formatter(move |output, state, value| {
        steps.check(value)?;
        minijinja::escape_formatter(output, state, value)
    });
}

impl Steps {
    /// Refuses a value that is nested too deep, or too large to tell.
    pub(super) fn check(&self, value: &Value) -> Result<(), Error> {
        self.walk(value, DEPTH_MAX)
    }

    fn walk(&self, value: &Value, depth_left: usize) -> Result<(), Error> {
        // None of the filters that templates have makes an iterable that can be walked only once.
        let kind = value.kind();
        if !matches!(kind, ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
            return Ok(());
        }
        let Some(depth_left) = depth_left.checked_sub(1) else {
            return Err(too_deep());
        };
        let step = |item: &Value| {
            if self.0.fetch_add(1, Ordering::Relaxed) >= STEPS_MAX {
                return Err(ErrorKind::OutOfFuel.into());
            }
            refuse_holder(item)?;
            self.walk(item, depth_left)
        };
        match value.as_object().filter(|_| kind == ValueKind::Map) {
            Some(map) => {
                let pairs = map.try_iter_pairs().into_iter().flatten();
                pairs.into_iter().try_for_each(|(_, item)| step(&item))
            }
            None => value.try_iter()?.try_for_each(|item| step(&item)),
        }
    }
}

/// Refuses what holds values that may change.
fn refuse_holder(value: &Value) -> Result<(), Error> {
    let holder = |name: &str| {
        let holders = ["Namespace", "Macro", "Closure", "Loop"];
        holders.iter().any(|holder| name.ends_with(holder))
    };
    if value.as_object().is_some_and(|o| holder(o.type_name())) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "a namespace, macro or loop within another value",
        ));
    }
    Ok(())
}

fn too_deep() -> Error {
    Error::new(ErrorKind::InvalidOperation, "a value is nested too deep")
}
