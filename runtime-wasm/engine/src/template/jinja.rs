//! The Jinja that chat templates are written for, as `transformers` sets it up:
//! `trim_blocks`, `lstrip_blocks`, loop controls, Python's methods of strings and
//! maps, `raise_exception`, and `tojson` as Python writes JSON.
//!
//! Of Jinja's filters and tests these are the ones that chat templates use; the
//! rest, sorting above all, would add 15 kB gzip to the module of the browser.

use std::borrow::Cow;
use std::io;

use minijinja::value::{Kwargs, Rest, Value};
use minijinja::{Environment, Error, ErrorKind, State, filters, functions, tests};
use serde::Serialize;

use super::{bounded, case, python};

/// Macros and blocks within one another. Templates in use have three; the stack of wasm is 256 KiB.
const RECURSION_MAX: usize = 32;
/// The widest indentation of JSON, per level.
const INDENT_MAX: usize = 16;

/// The environment, without a template.
pub(super) fn environment() -> Environment<'static> {
    let mut jinja = Environment::empty();
    jinja.set_trim_blocks(true);
    jinja.set_lstrip_blocks(true);
    jinja.set_recursion_limit(RECURSION_MAX);
    jinja.set_unknown_method_callback(python::call);

    jinja.add_function("raise_exception", raise_exception);
    jinja.add_function("range", functions::range);
    jinja.add_function("dict", functions::dict);
    jinja.add_function("namespace", functions::namespace);

    jinja.add_filter("tojson", to_json);
    jinja.add_filter("safe", filters::safe);
    jinja.add_filter("trim", filters::trim);
    jinja.add_filter("replace", filters::replace);
    jinja.add_filter("indent", filters::indent);
    jinja.add_filter("join", filters::join);
    for (name, filter) in OF_A_TEXT {
        jinja.add_filter(name, filter);
    }
    for (name, filter) in OF_A_VALUE {
        jinja.add_filter(name, filter);
    }
    for (name, filter) in OF_A_VALUE_AND_MORE {
        jinja.add_filter(name, filter);
    }
    for (name, filter) in OF_A_LIST_AND_A_TEST {
        jinja.add_filter(name, filter);
    }
    for (name, filter) in OF_A_LIST_AND_AN_ATTRIBUTE {
        jinja.add_filter(name, filter);
    }
    for (name, test) in IS_A {
        jinja.add_test(name, test);
    }
    for (name, test) in COMPARES {
        jinja.add_test(name, test);
    }
    jinja.add_test("in", tests::is_in);
    jinja
}

/// Named functions of one type. The code that takes a function's arguments apart is made once for
/// each type; given as functions instead of pointers, it would be made for every function.
type Named<F, const N: usize> = [(&'static str, F); N];
/// What a filter gives.
type Filtered = Result<Value, Error>;

const OF_A_TEXT: Named<fn(Cow<'_, str>) -> String, 4> = [
    ("lower", |text| case::lower(&text)),
    ("upper", |text| case::upper(&text)),
    ("title", |text| case::title(&text)),
    ("capitalize", |text| case::capitalize(&text)),
];

const OF_A_VALUE: Named<fn(&State<'_, '_>, &Value) -> Filtered, 9> = [
    ("string", filters::string),
    ("int", filters::int),
    ("length", |_, value| filters::length(value).map(Value::from)),
    ("count", |_, value| filters::length(value).map(Value::from)),
    ("first", |_, value| filters::first(value)),
    ("last", |_, value| filters::last(value.clone())),
    ("list", |state, value| filters::list(state, value.clone())),
    ("items", |_, value| {
        // The one filter that nests what it is given.
        bounded::Steps::default().check(value)?;
        filters::items(value)
    }),
    ("reverse", |_, value| filters::reverse(value)),
];

type OfAValueAndMore = fn(&State<'_, '_>, &Value, Rest<Value>) -> Filtered;

const OF_A_VALUE_AND_MORE: Named<OfAValueAndMore, 4> = [
    ("format", filters::format),
    ("default", filters::default),
    ("d", filters::default),
    ("map", |state, value, arguments| {
        filters::map(state, value.clone(), arguments).map(Value::from)
    }),
];

/// An optional text among the arguments.
type Word<'a> = Option<Cow<'a, str>>;
type OfAListAndATest =
    fn(&State<'_, '_>, Value, Word<'_>, Rest<Value>) -> Result<Vec<Value>, Error>;

const OF_A_LIST_AND_A_TEST: Named<OfAListAndATest, 2> =
    [("select", filters::select), ("reject", filters::reject)];

type OfAListAndAnAttribute =
    fn(&State<'_, '_>, Value, Cow<'_, str>, Word<'_>, Rest<Value>) -> Result<Vec<Value>, Error>;

const OF_A_LIST_AND_AN_ATTRIBUTE: Named<OfAListAndAnAttribute, 2> = [
    ("selectattr", filters::selectattr),
    ("rejectattr", filters::rejectattr),
];

const IS_A: Named<fn(&Value) -> bool, 14> = [
    ("defined", tests::is_defined),
    ("undefined", tests::is_undefined),
    ("none", tests::is_none),
    ("boolean", tests::is_boolean),
    ("true", tests::is_true),
    ("false", tests::is_false),
    ("string", tests::is_string),
    ("number", tests::is_number),
    ("integer", tests::is_integer),
    ("mapping", tests::is_mapping),
    ("sequence", tests::is_sequence),
    ("iterable", tests::is_iterable),
    ("odd", |value| tests::is_odd(value.clone())),
    ("even", |value| tests::is_even(value.clone())),
];

const COMPARES: Named<fn(&Value, &Value) -> bool, 5> = [
    ("eq", tests::is_eq),
    ("equalto", tests::is_eq),
    ("==", tests::is_eq),
    ("ne", tests::is_ne),
    ("!=", tests::is_ne),
];

/// `raise_exception(message)`: how a template refuses messages.
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::BadInclude, message))
}

/// `value | tojson(indent=None)`
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let format = PythonJson {
        indent: indent.map(|width| width.min(INDENT_MAX)),
        depth: 0,
        has_value: false,
    };
    bounded::Steps::default().check(value)?;
    let mut json = Vec::new();
    let unfit = || Error::new(ErrorKind::BadSerialization, "");
    value
        .serialize(&mut serde_json::Serializer::with_formatter(
            &mut json, format,
        ))
        .map_err(|_| unfit())?;
    String::from_utf8(json)
        .map(Value::from)
        .map_err(|_| unfit())
}

/// Python's `json.dumps`: `{"a": 1, "b": [2, 3]}`, or a line for each value.
struct PythonJson {
    /// Spaces per level; `None` writes one line.
    indent: Option<usize>,
    depth: usize,
    /// Whether the innermost array or object holds something.
    has_value: bool,
}

impl PythonJson {
    fn line<W: ?Sized + io::Write>(&self, writer: &mut W) -> io::Result<()> {
        let Some(indent) = self.indent else {
            return Ok(());
        };
        writer.write_all(b"\n")?;
        (0..self.depth * indent).try_for_each(|_| writer.write_all(b" "))
    }

    fn open<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_value = false;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth = self.depth.saturating_sub(1);
        if self.has_value {
            self.line(writer)?;
        }
        writer.write_all(bracket)
    }

    fn separate<W: ?Sized + io::Write>(&self, writer: &mut W, first: bool) -> io::Result<()> {
        match (first, self.indent) {
            (true, _) => {}
            (false, None) => writer.write_all(b", ")?,
            (false, Some(_)) => writer.write_all(b",")?,
        }
        self.line(writer)
    }
}

impl serde_json::ser::Formatter for PythonJson {
    /// As `{:?}` writes it, which is also the shortest text that reads as the same number: what
    /// serde_json brings for this has tables of 6 kB that do not compress.
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        write!(writer, "{value:?}")
    }

    fn write_f32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        self.write_f64(writer, f64::from(value))
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.separate(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.separate(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }
}
