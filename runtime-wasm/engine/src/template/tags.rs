//! The tags of a Jinja text, found as minijinja's lexer finds them.
//!
//! Three things need them before minijinja sees the text. It parses, compiles
//! and drops expressions by recursion, one level for each operator of a chain
//! such as `1+1+1`, and counts none of it: a hostile text overflows the stack.
//! So tags have a bounded number of tokens, and of brackets within brackets. What
//! is assigned goes through a filter that bounds how deep it is nested (`bounded`).
//! And minijinja does not know the tag `generation`, which this makes into a
//! condition that always holds.

use std::ops::Range;

use super::bounded;

/// The most tokens in one tag. Tags in use stay below 200; at 1,600 a stack of
/// 1 MiB, wasm's, overflowed on x86-64.
const TOKENS_MAX: usize = 600;
/// The most `elif` tags in one template, each of which is one level deeper, too.
/// Templates in use have about ten; 1,600 overflowed that stack.
const ELIF_MAX: usize = 200;

/// The most brackets within one another. Tags in use have about five.
const BRACKETS_MAX: usize = 24;

/// One `{{ ... }}` or `{% ... %}`.
struct Tag {
    /// Between the two-character markers, `-` and `+` included.
    body: Range<usize>,
    is_block: bool,
    tokens: usize,
    /// The most brackets within one another.
    brackets: usize,
    /// Where the first `=` stands that is in no bracket and no string.
    equals: Option<usize>,
}

/// Checks the tags of `source` and replaces those that minijinja does not know.
/// The error says what is too long, and where.
pub(super) fn prepare(source: &str) -> Result<String, String> {
    let mut prepared = String::with_capacity(source.len());
    let (mut from, mut copied, mut elifs) = (0, 0, 0);
    while let Some(tag) = next_tag(source, from) {
        if tag.tokens > TOKENS_MAX || tag.brackets > BRACKETS_MAX {
            let line = source[..tag.body.start].matches('\n').count() + 1;
            return Err(format!(
                "the tag in line {line} has more than {TOKENS_MAX} tokens, or more than {BRACKETS_MAX} brackets within one another"
            ));
        }
        let body = &source[tag.body.clone()];
        let name = body.trim_matches(|c: char| c.is_ascii_whitespace() || matches!(c, '-' | '+'));
        elifs += usize::from(tag.is_block && name.starts_with("elif"));
        if elifs > ELIF_MAX {
            return Err(format!("it has more than {ELIF_MAX} elif tags"));
        }
        let replacement = match name {
            "generation" if tag.is_block => Some("if true"),
            "endgeneration" if tag.is_block => Some("endif"),
            _ => None,
        };
        let is_set = tag.is_block
            && name.strip_prefix("set").is_some_and(|rest| {
                rest.starts_with(|c: char| c.is_ascii_whitespace() || c == '(')
            });
        if let (true, Some(equals), Some(at)) = (is_set, tag.equals, body.find(name)) {
            let end = tag.body.start + at + name.len();
            let filter = if source[tag.body.start..equals].contains('.') {
                bounded::ATTRIBUTE
            } else {
                bounded::VARIABLE
            };
            // Without a value the tag is wrong, and stays so.
            if let Some(value) = source.get(equals + 1..end).filter(|v| !v.trim().is_empty()) {
                prepared.push_str(&source[copied..=equals]);
                prepared.push_str(&format!(" ({value})|{filter}"));
                copied = end;
            }
        }
        if let (Some(replacement), Some(at)) = (replacement, body.find(name)) {
            let start = tag.body.start + at;
            prepared.push_str(&source[copied..start]);
            prepared.push_str(replacement);
            copied = start + name.len();
        }
        from = tag.body.end;
    }
    prepared.push_str(&source[copied..]);
    Ok(prepared)
}

/// The first tag that begins at `from` or later. Comments and raw blocks are passed over.
fn next_tag(source: &str, mut from: usize) -> Option<Tag> {
    loop {
        let marker = from + source.get(from..)?.find('{')?;
        let start = marker + 2;
        match source.as_bytes().get(marker + 1)? {
            b'#' => from = start + source.get(start..)?.find("#}")? + 2,
            b'%' => match raw_block(source.get(start..)?) {
                Some(len) => from = start + len?,
                None => return Some(read_tag(source, start, true)),
            },
            b'{' => return Some(read_tag(source, start, false)),
            _ => from = marker + 1,
        }
    }
}

/// If `text`, behind a `{%`, begins a raw block, its length as far as the end of the
/// `endraw` tag; `Some(None)` when that is missing.
fn raw_block(text: &str) -> Option<Option<usize>> {
    let start = bare_tag(text, "raw")?;
    let mut at = start;
    loop {
        let Some(next) = text[at..].find("{%") else {
            return Some(None);
        };
        at += next + 2;
        if let Some(len) = bare_tag(&text[at..], "endraw") {
            return Some(Some(at + len));
        }
    }
}

/// The length of `text` as far as the end of the tag, if the tag consists of `name` alone.
fn bare_tag(text: &str, name: &str) -> Option<usize> {
    let sign = |c| matches!(c, '-' | '+');
    let rest = text
        .strip_prefix(sign)
        .unwrap_or(text)
        .trim_ascii_start()
        .strip_prefix(name)?;
    let rest = rest.trim_ascii_start();
    let rest = rest.strip_prefix(sign).unwrap_or(rest).strip_prefix("%}")?;
    Some(text.len() - rest.len())
}

/// Reads the tag whose body begins at `start`. Its end does not count inside
/// brackets or strings; a tag without an end reaches to the end of the text.
fn read_tag(source: &str, start: usize, is_block: bool) -> Tag {
    let bytes = source.as_bytes();
    let end_marker: &[u8] = if is_block { b"%}" } else { b"}}" };
    let (mut at, mut depth, mut tokens) = (start, 0i64, 0);
    let (mut depth_max, mut equals) = (0, None);
    while let Some(&byte) = bytes.get(at) {
        if depth == 0 && bytes[at..].starts_with(end_marker) {
            break;
        }
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
        let len = match byte {
            b'\'' | b'"' => string_len(&bytes[at..]),
            _ if is_word(&byte) => bytes[at..].iter().take_while(|byte| is_word(byte)).count(),
            _ => 1,
        };
        depth += match byte {
            b'(' | b'[' | b'{' => 1,
            b')' | b']' | b'}' => -1,
            _ => 0,
        };
        depth_max = depth_max.max(depth);
        if byte == b'=' && depth == 0 {
            equals = equals.or(Some(at));
        }
        tokens += usize::from(!byte.is_ascii_whitespace());
        at += len;
    }
    Tag {
        body: start..at,
        is_block,
        tokens,
        brackets: usize::try_from(depth_max).unwrap_or(0),
        equals,
    }
}

/// The length of the string that `bytes` begins with, its quotes included.
fn string_len(bytes: &[u8]) -> usize {
    let mut escaped = false;
    for (at, &byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if Some(&byte) == bytes.first() => return at + 1,
            _ => {}
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::{Tag, next_tag, prepare};

    /// A tag's text, whether it is a block, its tokens.
    type Found<'s> = (&'s str, bool, usize);

    fn tags(source: &str) -> Vec<Found<'_>> {
        let mut from = 0;
        let next = || {
            let Tag {
                body,
                is_block,
                tokens,
                ..
            } = next_tag(source, from)?;
            from = body.end;
            Some((&source[body], is_block, tokens))
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn tags_end_where_the_lexer_ends_them() {
        let cases: [(&str, &[Found<'_>]); 9] = [
            ("no { tag } %}", &[]),
            (
                "a{{ b.c }}d{%- if e -%}",
                &[(" b.c ", false, 3), ("- if e -", true, 4)],
            ),
            (
                "{{ {'a': {}}}}x{{ y }}",
                &[(" {'a': {}}", false, 6), (" y ", false, 1)],
            ),
            (
                "{{ '}} \\' %}' }}{{ \"'\" }}",
                &[(" '}} \\' %}' ", false, 1), (" \"'\" ", false, 1)],
            ),
            ("{# {{ a }} #}{{ b }}", &[(" b ", false, 1)]),
            ("{% raw %}{{ ' {%- endraw -%}{{ c }}", &[(" c ", false, 1)]),
            (
                "{% raw x %}{{ d }}",
                &[(" raw x ", true, 2), (" d ", false, 1)],
            ),
            ("{{ ) }} {{ e }}", &[(" ) }} {{ e }}", false, 8)]),
            ("{{ 'never", &[(" 'never", false, 1)]),
        ];
        for (source, expected) in cases {
            assert_eq!(tags(source), expected, "{source}");
        }
        assert!(tags("{% raw %}{{ a }}").is_empty());
        assert!(tags("{# {{ a }}").is_empty());
    }

    #[test]
    fn generation_tags_become_conditions() {
        let source = "{% generation %}a{%-endgeneration-%}{{ generation }}{% set generation = 'é{% generation %}' %}";
        let expected = "{% if true %}a{%-endif-%}{{ generation }}{% set generation = ( 'é{% generation %}')|meetara_variable %}";
        assert_eq!(prepare(source).as_deref(), Ok(expected));
    }

    #[test]
    fn what_is_assigned_is_looked_at() {
        for (source, expected) in [
            ("{%- set a = 1 -%}", "{%- set a = ( 1)|meetara_variable -%}"),
            (
                "{% set a,b=1, f(c=2) %}",
                "{% set a,b= (1, f(c=2))|meetara_variable %}",
            ),
            (
                "{% set ns.a = a == 1 %}",
                "{% set ns.a = ( a == 1)|meetara_attribute %}",
            ),
            ("{%set\na='}}='%}", "{%set\na= ('}}=')|meetara_variable%}"),
            (
                "{% set a %}b = c{% endset %}",
                "{% set a %}b = c{% endset %}",
            ),
            (
                "{% settle = 1 %}{{ set = 1 }}",
                "{% settle = 1 %}{{ set = 1 }}",
            ),
            ("{% set a = %}", "{% set a = %}"),
        ] {
            assert_eq!(prepare(source).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn long_tags_are_refused_and_named() {
        let error = prepare(&format!("\n{{{{ {}1 }}}}", "-".repeat(601))).unwrap_err();
        assert!(error.contains("line 2"), "{error}");
        assert!(prepare(&format!("{{{{ '{}' }}}}", "- ".repeat(9_999))).is_ok());
        assert!(prepare(&"{% elif 1 %}".repeat(201)).is_err());
        assert!(prepare(&"{% if 1 %}{% elif 1 %}{% endif %}".repeat(200)).is_ok());
    }
}
