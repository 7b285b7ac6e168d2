//! The Jinja that chat templates are written for, as `transformers` sets it up:
//! `trim_blocks`, `lstrip_blocks`, loop controls, Python's methods of strings and
//! maps, `raise_exception`, and `tojson` as Python writes JSON.
//!
//! Of Jinja's filters and tests these are the ones that chat templates use; the
//! rest, sorting above all, would add 15 kB gzip to the module of the browser.

use std::io;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, filters, functions, tests};
use serde::Serialize;

/// Macros and blocks within one another. Templates in use have three; the stack of wasm is 1 MiB.
const RECURSION_MAX: usize = 32;
/// The widest indentation of JSON, per level.
const INDENT_MAX: usize = 16;

/// The environment, without a template.
pub(super) fn environment() -> Environment<'static> {
    let mut jinja = Environment::empty();
    jinja.set_trim_blocks(true);
    jinja.set_lstrip_blocks(true);
    jinja.set_recursion_limit(RECURSION_MAX);
    jinja.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);

    jinja.add_function("raise_exception", raise_exception);
    jinja.add_function("range", functions::range);
    jinja.add_function("dict", functions::dict);
    jinja.add_function("namespace", functions::namespace);

    jinja.add_filter("tojson", to_json);
    jinja.add_filter("safe", filters::safe);
    jinja.add_filter("lower", filters::lower);
    jinja.add_filter("upper", filters::upper);
    jinja.add_filter("title", filters::title);
    jinja.add_filter("capitalize", filters::capitalize);
    jinja.add_filter("trim", filters::trim);
    jinja.add_filter("replace", filters::replace);
    jinja.add_filter("indent", filters::indent);
    jinja.add_filter("format", filters::format);
    jinja.add_filter("string", filters::string);
    jinja.add_filter("int", filters::int);
    jinja.add_filter("length", filters::length);
    jinja.add_filter("count", filters::length);
    jinja.add_filter("default", filters::default);
    jinja.add_filter("d", filters::default);
    jinja.add_filter("first", filters::first);
    jinja.add_filter("last", filters::last);
    jinja.add_filter("list", filters::list);
    jinja.add_filter("items", filters::items);
    jinja.add_filter("reverse", filters::reverse);
    jinja.add_filter("join", filters::join);
    jinja.add_filter("map", filters::map);
    jinja.add_filter("select", filters::select);
    jinja.add_filter("reject", filters::reject);
    jinja.add_filter("selectattr", filters::selectattr);
    jinja.add_filter("rejectattr", filters::rejectattr);

    jinja.add_test("defined", tests::is_defined);
    jinja.add_test("undefined", tests::is_undefined);
    jinja.add_test("none", tests::is_none);
    jinja.add_test("boolean", tests::is_boolean);
    jinja.add_test("true", tests::is_true);
    jinja.add_test("false", tests::is_false);
    jinja.add_test("string", tests::is_string);
    jinja.add_test("number", tests::is_number);
    jinja.add_test("integer", tests::is_integer);
    jinja.add_test("mapping", tests::is_mapping);
    jinja.add_test("sequence", tests::is_sequence);
    jinja.add_test("iterable", tests::is_iterable);
    jinja.add_test("odd", tests::is_odd);
    jinja.add_test("even", tests::is_even);
    jinja.add_test("in", tests::is_in);
    for name in ["eq", "equalto", "=="] {
        jinja.add_test(name, tests::is_eq);
    }
    for name in ["ne", "!="] {
        jinja.add_test(name, tests::is_ne);
    }
    jinja
}

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
