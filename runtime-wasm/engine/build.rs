//! Writes what people keep as TOML into tables that are compiled in: the rules and help texts of `models/safety`, and
//! the rows of `domains.toml`. So nothing has to be parsed at run time, and nobody can leave them out.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_ENCODER").is_none() {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (name, source, tables) in [
        (
            "rules.rs",
            "models/safety/rules.toml",
            rules as fn(&Table) -> String,
        ),
        ("help.rs", "models/safety/help.toml", help),
        ("domains.rs", "domains.toml", domains),
    ] {
        let source = root.join(source);
        println!("cargo::rerun-if-changed={}", source.display());
        let text = fs::read_to_string(&source)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", source.display()));
        let table = text
            .parse()
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", source.display()));
        fs::write(out.join(name), tables(&table)).expect("OUT_DIR can be written to");
    }
}

fn text<'t>(table: &'t Table, key: &str) -> &'t str {
    let value = table.get(key).and_then(Value::as_str);
    value.unwrap_or_else(|| panic!("{key} must be a text"))
}

fn flag(table: &Table, key: &str) -> bool {
    let value = table.get(key).and_then(Value::as_bool);
    value.unwrap_or_else(|| panic!("{key} must be true or false"))
}

fn table<'t>(table: &'t Table, key: &str) -> &'t Table {
    let value = table.get(key).and_then(Value::as_table);
    value.unwrap_or_else(|| panic!("{key} must be a table"))
}

/// `&["…", …]` of an array of texts; of nothing, where there is none.
fn texts(table: &Table, key: &str) -> String {
    let values = table.get(key).and_then(Value::as_array);
    let mut list = String::from("&[");
    for value in values.into_iter().flatten() {
        let value = value.as_str();
        let value = value.unwrap_or_else(|| panic!("{key} must be a list of texts"));
        write!(list, "{value:?}, ").expect("a String takes everything");
    }
    list + "]"
}

fn rules(file: &Table) -> String {
    let mut code = String::from("pub(super) static PARTS: &[(&str, &str)] = &[");
    for name in table(file, "parts").keys() {
        let part = text(table(file, "parts"), name);
        write!(code, "({name:?}, {part:?}), ").expect("a String takes everything");
    }
    let unless = texts(table(file, "unless"), "patterns");
    writeln!(code, "];\npub(super) static UNLESS: &[&str] = {unless};")
        .expect("a String takes everything");
    for name in ["mental_health", "medical", "abuse"] {
        let rules = table(file, name);
        let [certain, unless, patterns] =
            ["certain", "unless", "patterns"].map(|key| texts(rules, key));
        writeln!(
            code,
            "pub(super) static {}: Texts = Texts {{ certain: {certain}, unless: {unless}, patterns: {patterns} }};",
            name.to_uppercase()
        )
        .expect("a String takes everything");
    }
    code
}

fn help(file: &Table) -> String {
    let mut code = String::new();
    for name in ["mental_health", "medical", "abuse"] {
        let reply = table(table(file, "reply"), name);
        writeln!(
            code,
            "pub(super) static {}: Reply = Reply {{ kinds: {}, lines_optional: {}, text: {:?} }};",
            name.to_uppercase(),
            texts(reply, "kinds"),
            flag(reply, "lines_optional"),
            text(reply, "text").trim()
        )
        .expect("a String takes everything");
    }
    let fallback = table(file, "fallback");
    for key in ["emergency", "text"] {
        writeln!(
            code,
            "pub(super) static FALLBACK_{}: &str = {:?};",
            key.to_uppercase(),
            text(fallback, key)
        )
        .expect("a String takes everything");
    }
    code += "pub(super) static REGIONS: &[Region] = &[\n";
    for code_of_region in table(file, "region").keys() {
        let region = table(table(file, "region"), code_of_region);
        write!(
            code,
            "Region {{ code: {code_of_region:?}, emergency: {:?}, checked: {:?}, lines: &[",
            text(region, "emergency"),
            text(region, "checked")
        )
        .expect("a String takes everything");
        let lines = region.get("line").and_then(Value::as_array);
        for line in lines.into_iter().flatten() {
            let line = line.as_table().expect("a line is a table");
            let [kind, name, number, how] =
                ["kind", "name", "number", "how"].map(|key| text(line, key));
            let hours = line
                .get("hours")
                .and_then(Value::as_str)
                .unwrap_or_default();
            write!(
                code,
                "Line {{ kind: {kind:?}, name: {name:?}, number: {number:?}, how: {how:?}, hours: {hours:?} }}, "
            )
            .expect("a String takes everything");
        }
        code += "] },\n";
    }
    code + "];\n"
}

fn domains(file: &Table) -> String {
    let rows = file.get("domain").and_then(Value::as_array);
    let rows = rows.expect("domains.toml has rows");
    let mut code = String::from(
        "/// The rows of `domains.toml`, in their order.\npub static DOMAINS: &[Domain] = &[\n",
    );
    for row in rows {
        let row = row.as_table().expect("a domain is a table");
        let [name, category, empathy, safety, disclaimer] = [
            "name",
            "category",
            "empathy_level",
            "safety_class",
            "disclaimer",
        ]
        .map(|key| text(row, key));
        let emotion = flag(row, "emotion_default");
        writeln!(
            code,
            "Domain {{ name: {name:?}, category: {category:?}, empathy_level: {empathy:?}, safety_class: {safety:?}, disclaimer: {disclaimer:?}, emotion_default: {emotion} }},"
        )
        .expect("a String takes everything");
    }
    code + "];\n"
}
