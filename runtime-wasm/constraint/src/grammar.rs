//! Grammars in llguidance's dialect of Lark.

use llguidance::Matcher;
use llguidance::api::TopLevelGrammar;

use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

/// The longest grammar.
pub const GRAMMAR_BYTES_MAX: usize = 64 << 10;
/// The deepest nesting of brackets, which the grammar's parser goes down by recursion.
const BRACKETS_DEPTH_MAX: usize = 64;

/// Compiles the grammar `text`.
pub(crate) fn compile(vocabulary: &Vocabulary, text: &str) -> Result<Matcher> {
    if text.trim().is_empty() {
        return Err(Error::rule("the grammar is empty; it needs a rule `start`"));
    }
    if text.len() > GRAMMAR_BYTES_MAX {
        return Err(Error::rule(format!(
            "the grammar has {} bytes, at most {GRAMMAR_BYTES_MAX} are allowed",
            text.len()
        )));
    }
    // Those in strings count too, which a grammar of a person's making does not notice.
    let mut depth = 0_usize;
    for (line, text) in (1..).zip(text.lines()) {
        for byte in text.bytes() {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > BRACKETS_DEPTH_MAX {
                return Err(Error::rule(format!(
                    "line {line} of the grammar nests brackets more than {BRACKETS_DEPTH_MAX} deep"
                )));
            }
        }
    }
    let grammar = TopLevelGrammar::from_lark(text.to_owned());
    vocabulary.compile(grammar).map_err(|error| {
        Error::rule(match place(&error) {
            Some((line, column)) => format!(
                "the grammar cannot be compiled at line {line}, column {column}; see llguidance's description of its Lark"
            ),
            None => "the grammar cannot be compiled; a rule or a terminal that it uses may be missing, or it is too large".to_owned(),
        })
    })
}

/// The first `line(column)` of one of llguidance's messages, which begin with it or with `at` and it.
fn place(message: &str) -> Option<(u32, u32)> {
    let message = message.strip_prefix("at ").unwrap_or(message);
    let (line, rest) = message.split_once('(')?;
    let (column, _) = rest.split_once(')')?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn the_place_is_read_and_nothing_else() {
        assert_eq!(place("3(14): unexpected (at \"x\")"), Some((3, 14)));
        assert_eq!(place("at 3(14): no\n  words"), Some((3, 14)));
        assert_eq!(place("at EOF: no (3)"), None);
        assert_eq!(place("words"), None);
    }
}
