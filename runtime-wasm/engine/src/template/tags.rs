//! The tags of a Jinja text, found as minijinja's lexer finds them.
//!
//! Four things need them before minijinja sees the text. It parses, compiles
//! and drops expressions by recursion, one level for each operator of a chain
//! such as `1+1+1`, and counts none of it: a hostile text overflows the stack.
//! So tags have a bounded number of tokens, and of brackets within brackets. What
//! is assigned goes through a filter that bounds how deep it is nested (`bounded`).
//! minijinja does not know the tag `generation`, which this makes into a
//! condition that always holds. And its slices panic where a list is walked
//! backwards that is empty: `[::-1]` becomes a call of a method (`python`), and
//! other steps that may be negative are refused.

use std::ops::Range;

use super::{bounded, python};

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
    /// Where `[::-1]` stands.
    reversals: Vec<Range<usize>>,
    /// Whether there is another slice whose step may be negative.
    has_other_steps: bool,
}

/// What to put in the place of a part of the text, in two pieces. No two overlap.
type Edit = (Range<usize>, [&'static str; 2]);

/// Checks the tags of `source` and replaces what minijinja does not know, or cannot be trusted with.
/// The error says what a tag has too much of, or must not have, and where.
pub(super) fn prepare(source: &str) -> Result<String, String> {
    let mut edits: Vec<Edit> = Vec::new();
    let (mut from, mut elifs) = (0, 0);
    while let Some(tag) = next_tag(source, from) {
        if tag.tokens > TOKENS_MAX || tag.brackets > BRACKETS_MAX || tag.has_other_steps {
            let line = source[..tag.body.start].matches('\n').count() + 1;
            return Err(format!(
                "the tag in line {line} has more than {TOKENS_MAX} tokens, more than {BRACKETS_MAX} brackets within one another, or a slice whose step is no number and not all of [::-1]"
            ));
        }
        let body = &source[tag.body.clone()];
        let name = body.trim_matches(|c: char| c.is_ascii_whitespace() || matches!(c, '-' | '+'));
        let start = tag.body.start + body.find(name).unwrap_or(0);
        let end = start + name.len();
        elifs += usize::from(tag.is_block && name.starts_with("elif"));
        if elifs > ELIF_MAX {
            return Err(format!("it has more than {ELIF_MAX} elif tags"));
        }
        match name {
            "generation" if tag.is_block => edits.push((start..end, ["if true", ""])),
            "endgeneration" if tag.is_block => edits.push((start..end, ["endif", ""])),
            _ => {}
        }
        let first = edits.len();
        let reversals = tag.reversals.into_iter();
        edits.extend(reversals.map(|range| (range, [python::REVERSED, "()"])));
        let is_set = tag.is_block
            && name.strip_prefix("set").is_some_and(|rest| {
                rest.starts_with(|c: char| c.is_ascii_whitespace() || c == '(')
            });
        // Without a value the tag is wrong, and stays so.
        if let (true, Some(equals)) = (is_set, tag.equals)
            && let Some(value) = source.get(equals + 1..end)
            && !value.trim().is_empty()
        {
            let filter = if source[tag.body.start..equals].contains('.') {
                bounded::ATTRIBUTE
            } else {
                bounded::VARIABLE
            };
            let before = edits[first..]
                .iter()
                .filter(|(range, _)| range.start < equals);
            let at = first + before.count();
            edits.insert(at, (equals + 1..equals + 1, [" (", ""]));
            edits.push((end..end, [")|", filter]));
        }
        from = tag.body.end;
    }
    let mut prepared = String::with_capacity(source.len());
    let mut copied = 0;
    for (range, [text, more]) in edits {
        prepared.push_str(&source[copied..range.start]);
        prepared.push_str(text);
        prepared.push_str(more);
        copied = range.end;
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
    // Of each bracket that is open: where it stands, its colons, and where the last of them stands.
    let mut open: Vec<(usize, u32, usize)> = Vec::new();
    let (mut reversals, mut has_other_steps) = (Vec::new(), false);
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
        match byte {
            b'=' if depth == 0 => equals = equals.or(Some(at)),
            b'(' | b'[' | b'{' => open.push((at, 0, at)),
            b':' => {
                if let Some((_, colons, last)) = open.last_mut() {
                    *colons += 1;
                    *last = at;
                }
            }
            b')' | b']' | b'}' => {
                if let Some((start, 2, last)) = open.pop()
                    && (bytes[start], byte) == (b'[', b']')
                {
                    let step = source[last + 1..at].trim();
                    let bounds = &bytes[start + 1..last];
                    if step == "-1" && bounds.iter().all(|b| b" \n:".contains(b)) {
                        reversals.push(start..at + 1);
                    } else {
                        has_other_steps |= !step.bytes().all(|byte| byte.is_ascii_digit());
                    }
                }
            }
            _ => {}
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
        reversals,
        has_other_steps,
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
    fn reversals_are_calls_and_other_steps_that_may_be_negative_are_refused() {
        for (source, expected) in [
            ("{{ a[::-1] }}", "{{ a.meetara_reversed() }}"),
            (
                "{% for m in a.b[ : : -1 ][0][::2][1:] %}",
                "{% for m in a.b.meetara_reversed()[0][::2][1:] %}",
            ),
            (
                "{% set a = b[c[::-1][0]] %}",
                "{% set a = ( b[c.meetara_reversed()[0]])|meetara_variable %}",
            ),
            (
                "{% set a=b[::-1]%}",
                "{% set a= (b.meetara_reversed())|meetara_variable%}",
            ),
            (
                "{{ a[1:] }}{{ {'a': [':::']} }} [::-1]",
                "{{ a[1:] }}{{ {'a': [':::']} }} [::-1]",
            ),
            ("{{ a[::-1 }}", "{{ a[::-1 }}"),
        ] {
            assert_eq!(prepare(source).as_deref(), Ok(expected));
        }
        for refused in [
            "a[::n]",
            "a[::-2]",
            "a[1::-1]",
            "a[b[::-1][0]::-1]",
            "a[::- 1]",
        ] {
            let error = prepare(&format!("\n{{{{ {refused} }}}}")).unwrap_err();
            assert!(error.contains("line 2 has"), "{refused}: {error}");
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
