//! Python's methods of strings, maps and lists, which chat templates call, and `[::-1]`, which `tags`
//! makes a call of a method.
//!
//! The same ones as `minijinja-contrib` has in its `pycompat`. With that the browser's module would
//! have the standard library's tables of cases and categories (see `case`), 16 kB gzip.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, FormatStyle, State, filters, format_filter};

use super::case;
use crate::tokenizer::unicode::{Class, class};

/// The method that gives `value[::-1]`, with its dot.
pub(super) const REVERSED: &str = ".meetara_reversed";

/// Calls `value.method(arguments)` for a method that the value itself does not have.
///
/// # Errors
/// `UnknownMethod` if Python has none of the name, or none that a template may call.
pub(super) fn call(
    _: &State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    match value.as_str() {
        _ if REVERSED.strip_prefix('.') == Some(method) => filters::reverse(value),
        Some(text) => of_text(text, method, arguments),
        None => of_collection(value, method, arguments),
    }
}

fn of_text(text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    match method {
        "strip" | "lstrip" | "rstrip" => {
            let (which,): (Option<&str>,) = from_args(arguments)?;
            let goes = |c: char| match which {
                Some(which) => which.contains(c),
                None => c.is_whitespace(),
            };
            let mut left = text;
            if method != "rstrip" {
                left = left.trim_start_matches(goes);
            }
            if method != "lstrip" {
                left = left.trim_end_matches(goes);
            }
            Ok(Value::from(left))
        }
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(arguments)?;
            let count = count.and_then(|count| usize::try_from(count).ok());
            Ok(text.replacen(old, new, count.unwrap_or(usize::MAX)).into())
        }
        "split" => {
            let (separator, count): (Option<&str>, Option<i64>) = from_args(arguments)?;
            let count = count.and_then(|count| usize::try_from(count).ok());
            split(text, separator, count.unwrap_or(usize::MAX))
        }
        "splitlines" => {
            let (keep_ends,): (Option<bool>,) = from_args(arguments)?;
            let line = |line: &str| {
                let end = if keep_ends == Some(true) {
                    line.len()
                } else {
                    line.trim_end_matches(['\r', '\n']).len()
                };
                Value::from(&line[..end])
            };
            Ok(text.split_inclusive('\n').map(line).collect())
        }
        "count" | "find" | "rfind" => {
            let (what,): (&str,) = from_args(arguments)?;
            let place = match method {
                "count" => return Ok(text.matches(what).count().into()),
                "find" => text.find(what),
                _ => text.rfind(what),
            };
            // Python counts characters.
            let before = place.map(|bytes| text[..bytes].chars().count());
            Ok(before.map_or(Value::from(-1), Value::from))
        }
        "startswith" | "endswith" => {
            let (affix,): (&Value,) = from_args(arguments)?;
            let fits = |affix: &Value| {
                let affix = affix.as_str().ok_or(ErrorKind::InvalidOperation)?;
                Ok(if method == "startswith" {
                    text.starts_with(affix)
                } else {
                    text.ends_with(affix)
                })
            };
            if affix.as_str().is_some() {
                return fits(affix).map(Value::from);
            }
            for affix in affix.try_iter()? {
                if fits(&affix)? {
                    return Ok(Value::from(true));
                }
            }
            Ok(Value::from(false))
        }
        "join" => {
            let (parts,): (&Value,) = from_args(arguments)?;
            let mut joined = String::new();
            for (index, part) in parts.try_iter()?.enumerate() {
                if index > 0 {
                    joined.push_str(text);
                }
                match part.as_str() {
                    Some(part) => joined.push_str(part),
                    None => joined.push_str(&part.to_string()),
                }
            }
            Ok(joined.into())
        }
        "format" => format_filter(FormatStyle::StrFormat, text, arguments).map(Value::from),
        _ => {
            let () = from_args(arguments)?;
            of_text_alone(text, method)
        }
    }
}

/// Methods without arguments.
fn of_text_alone(text: &str, method: &str) -> Result<Value, Error> {
    let changed = match method {
        "upper" => case::upper(text),
        "lower" => case::lower(text),
        "title" => case::title(text),
        "capitalize" => case::capitalize(text),
        _ => return property(text, method).map(Value::from),
    };
    Ok(changed.into())
}

/// What `text.isupper()` and its like say: of every character and at least one, where of the cased
/// ones alone, of at least one of those.
fn property(text: &str, name: &str) -> Result<bool, Error> {
    let all = |has: &dyn Fn(char) -> bool| !text.is_empty() && text.chars().all(has);
    Ok(match name {
        "isascii" => text.is_ascii(),
        "isspace" => all(&char::is_whitespace),
        "isalpha" => all(&|c| class(c) == Class::Letter),
        "isdigit" | "isnumeric" => all(&|c| class(c) == Class::Number),
        "isalnum" => all(&|c| matches!(class(c), Class::Letter | Class::Number)),
        "islower" => text.chars().any(case::is_lower) && !text.chars().any(case::is_upper),
        "isupper" => text.chars().any(case::is_upper) && !text.chars().any(case::is_lower),
        _ => return Err(ErrorKind::UnknownMethod.into()),
    })
}

/// `text.split(separator, count)`; without a separator, at runs of white space.
fn split(text: &str, separator: Option<&str>, count: usize) -> Result<Value, Error> {
    let Some(separator) = separator else {
        let mut parts = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let end = rest
                .find(char::is_whitespace)
                .filter(|_| parts.len() < count);
            let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
            parts.push(Value::from(part));
            rest = after.trim_start();
        }
        return Ok(Value::from(parts));
    };
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    let parts = text.splitn(count.saturating_add(1), separator);
    Ok(parts.map(Value::from).collect())
}

fn of_collection(value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    match (value.kind(), method) {
        (ValueKind::Map, "get") => {
            let (key, default): (&Value, Option<Value>) = from_args(arguments)?;
            let found = value.as_object().and_then(|map| map.get_value(key));
            Ok(found.or(default).unwrap_or_else(|| Value::from(())))
        }
        (ValueKind::Map, "keys" | "values" | "items") => {
            let () = from_args(arguments)?;
            match method {
                "keys" => Ok(value.try_iter()?.collect()),
                "items" => filters::items(value),
                _ => {
                    let map = value.as_object().map(|map| map.try_iter_pairs());
                    let pairs = map.flatten().into_iter().flatten();
                    Ok(pairs.map(|(_, value)| value).collect())
                }
            }
        }
        (ValueKind::Seq, "count") => {
            let (what,): (&Value,) = from_args(arguments)?;
            Ok(value.try_iter()?.filter(|item| item == what).count().into())
        }
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}
