//! Reads JSON lines, plain or zstandard-compressed (told by the first four bytes).
//!
//! | row | becomes |
//! |---|---|
//! | `{"turns": [{"role", "content"}, ...]}` or `{"messages": [...]}` | chat |
//! | `{"instruction", "input", "output"}` (`input` may be missing or empty) | chat of two turns |
//! | `{"prompt", "completion"}` | chat of two turns |
//! | `{"text"}` | text |
//!
//! Other keys are ignored, except `"domain"`, which is kept. A byte-order mark, CRLF and empty
//! lines are tolerated. Errors carry file, line and what was wrong, never the line's content.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};

use super::{Body, Example, Role, Turn};

/// A longer line is taken for a file of another kind.
const LINE_BYTES_MAX: u64 = 16 << 20;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The examples of one file, in its order. After an error the iterator ends.
pub struct Reader {
    path: PathBuf,
    lines: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    number: u64,
    failed: bool,
}

impl Reader {
    /// Opens a file; reads nothing but its first bytes.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)
            .with_context(|| format!("cannot open the data file {}", path.display()))?;
        Self::new(path, BufReader::new(file))
    }

    #[cfg(test)]
    /// Reads from memory; `name` stands for the path in errors.
    fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self> {
        Self::new(Path::new(name), std::io::Cursor::new(bytes))
    }

    fn new(path: &Path, mut bytes: impl BufRead + Send + 'static) -> Result<Self> {
        let cannot_read = || format!("cannot read the data file {}", path.display());
        let compressed = bytes
            .fill_buf()
            .with_context(cannot_read)?
            .starts_with(&ZSTD_MAGIC);
        let lines: Box<dyn BufRead + Send> = if compressed {
            let decoder = zstd::Decoder::with_buffer(bytes).with_context(cannot_read)?;
            Box::new(BufReader::with_capacity(1 << 16, decoder))
        } else {
            Box::new(bytes)
        };
        Ok(Self {
            path: path.to_owned(),
            lines,
            line: Vec::new(),
            number: 0,
            failed: false,
        })
    }

    fn next_example(&mut self) -> Result<Option<Example>> {
        loop {
            self.number += 1;
            self.line.clear();
            let mut limited = (&mut self.lines).take(LINE_BYTES_MAX + 1);
            let n_bytes = limited
                .read_until(b'\n', &mut self.line)
                .context("cannot read or decompress it")?;
            if n_bytes == 0 {
                return Ok(None);
            }
            ensure!(
                n_bytes as u64 <= LINE_BYTES_MAX,
                "the line is longer than {} MiB: is this a file of JSON lines?",
                LINE_BYTES_MAX >> 20
            );
            let mut line = self.line.as_slice();
            if self.number == 1 {
                line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
            }
            let line = line.trim_ascii();
            if !line.is_empty() {
                return parse_line(line).map(Some);
            }
        }
    }

    fn locate(&self, error: &Error) -> Error {
        anyhow!("{}, line {}: {error:#}", self.path.display(), self.number)
    }
}

impl Iterator for Reader {
    type Item = Result<Example>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match self.next_example() {
            Ok(example) => example.map(Ok),
            Err(error) => {
                self.failed = true;
                Some(Err(self.locate(&error)))
            }
        }
    }
}

/// Shapes that a row may have, for the error that says none was found.
const SHAPES: &str = "expected \"turns\", \"messages\", \"text\", \"prompt\" and \"completion\", or \
    \"instruction\" and \"output\"";

fn parse_line(line: &[u8]) -> Result<Example> {
    let line = std::str::from_utf8(line)
        .map_err(|e| anyhow!("not UTF-8 after byte {}", e.valid_up_to()))?;
    // Parsed to a `Value` first: its errors are about syntax only and quote nothing.
    let row: Value = serde_json::from_str(line).map_err(|e| {
        let what = if e.is_eof() {
            "the JSON ends early"
        } else {
            "not valid JSON"
        };
        anyhow!("{what} at column {}", e.column())
    })?;
    let Value::Object(row) = row else {
        bail!("the row is {}, not an object; {SHAPES}", kind(&row));
    };
    let body = if let Some(turns) = row.get("turns") {
        Body::Chat(parse_turns("turns", turns)?)
    } else if let Some(turns) = row.get("messages") {
        Body::Chat(parse_turns("messages", turns)?)
    } else if row.contains_key("prompt") && row.contains_key("completion") {
        pair(text(&row, "prompt")?.to_owned(), text(&row, "completion")?)
    } else if row.contains_key("instruction") && row.contains_key("output") {
        let mut question = text(&row, "instruction")?.to_owned();
        let input = match row.get("input") {
            None | Some(Value::Null) => "",
            Some(Value::String(input)) => input.trim(),
            Some(other) => bail!("\"input\" is {}, not a string", kind(other)),
        };
        if !input.is_empty() {
            question.push_str("\n\n");
            question.push_str(input);
        }
        pair(question, text(&row, "output")?)
    } else if row.contains_key("text") {
        Body::Text(text(&row, "text")?.to_owned())
    } else {
        bail!("the row has none of the known keys; {SHAPES}");
    };
    let domain = row.get("domain").and_then(Value::as_str).map(str::to_owned);
    Ok(Example { body, domain })
}

fn parse_turns(key: &str, turns: &Value) -> Result<Vec<Turn>> {
    let Value::Array(turns) = turns else {
        bail!("\"{key}\" is {}, not an array", kind(turns));
    };
    let parsed: Vec<Turn> = turns
        .iter()
        .enumerate()
        .map(|(i, turn)| parse_turn(turn).map_err(|e| anyhow!("{key}[{i}]: {e}")))
        .collect::<Result<_>>()?;
    ensure!(
        parsed.iter().any(|turn| turn.role == Role::Assistant),
        "\"{key}\" has {} turns and none of them is the assistant's",
        parsed.len()
    );
    Ok(parsed)
}

fn parse_turn(turn: &Value) -> Result<Turn> {
    let Value::Object(turn) = turn else {
        bail!("the turn is {}, not an object", kind(turn));
    };
    let role = match text(turn, "role")? {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => bail!("\"role\" is none of \"system\", \"user\" and \"assistant\""),
    };
    let content = text(turn, "content")?.to_owned();
    Ok(Turn { role, content })
}

fn pair(question: String, answer: &str) -> Body {
    Body::Chat(vec![
        Turn {
            role: Role::User,
            content: question,
        },
        Turn {
            role: Role::Assistant,
            content: answer.to_owned(),
        },
    ])
}

/// A string with something in it.
fn text<'r>(row: &'r Map<String, Value>, key: &str) -> Result<&'r str> {
    match row.get(key) {
        Some(Value::String(text)) if text.trim().is_empty() => bail!("\"{key}\" is empty"),
        Some(Value::String(text)) => Ok(text),
        Some(other) => bail!("\"{key}\" is {}, not a string", kind(other)),
        None => bail!("\"{key}\" is missing"),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Example>> {
        Reader::from_bytes("mine.jsonl", bytes.to_vec())?.collect()
    }

    fn chat(turns: &[(Role, &str)]) -> Body {
        let turn = |&(role, content): &(Role, &str)| Turn {
            role,
            content: content.to_owned(),
        };
        Body::Chat(turns.iter().map(turn).collect())
    }

    const ROWS: &str = concat!(
        "\u{FEFF}{\"turns\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}],\"domain\":\"x/y\"}\r\n",
        "\r\n",
        "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"assistant\",\"content\":\"b\"}]}\n",
        "   \n",
        "{\"text\":\"t\\n\\u00e9\",\"labels\":[1]}\n",
        "{\"prompt\":\"p\",\"completion\":\"c\"}\n",
        "{\"instruction\":\"i\",\"input\":\"\",\"output\":\"o\"}\n",
        "{\"instruction\":\"i\",\"input\":\"n\",\"output\":\"o\"}",
    );

    #[test]
    fn every_shape_is_read_plain_and_compressed() {
        let expected = [
            chat(&[(Role::User, "a"), (Role::Assistant, "b")]),
            chat(&[(Role::System, "s"), (Role::Assistant, "b")]),
            Body::Text("t\n\u{e9}".into()),
            chat(&[(Role::User, "p"), (Role::Assistant, "c")]),
            chat(&[(Role::User, "i"), (Role::Assistant, "o")]),
            chat(&[(Role::User, "i\n\nn"), (Role::Assistant, "o")]),
        ];
        let compressed = zstd::encode_all(ROWS.as_bytes(), 3).unwrap();
        for bytes in [ROWS.as_bytes(), &compressed] {
            let rows = read(bytes).unwrap();
            assert_eq!(rows[0].domain.as_deref(), Some("x/y"));
            let bodies: Vec<Body> = rows.into_iter().map(|row| row.body).collect();
            assert_eq!(bodies, expected);
        }
    }

    #[test]
    fn errors_say_where_and_what_but_not_the_content() {
        let good = "{\"text\":\"fine\"}\n\n";
        for (row, what) in [
            ("{\"text\":\"SECRET\"", "ends early"),
            (
                "{\"text\":\"SECRET\" SECRET}",
                "not valid JSON at column 18",
            ),
            ("[\"SECRET\"]", "an array, not an object"),
            ("{\"SECRET\":1}", "none of the known keys"),
            ("{\"text\":[\"SECRET\"]}", "\"text\" is an array"),
            ("{\"text\":\"  \"}", "\"text\" is empty"),
            ("{\"turns\":\"SECRET\"}", "\"turns\" is a string"),
            (
                "{\"turns\":[{\"role\":\"SECRET\",\"content\":\"SECRET\"}]}",
                "turns[0]: \"role\"",
            ),
            (
                "{\"turns\":[{\"role\":\"user\",\"content\":\"SECRET\"}]}",
                "none of them",
            ),
            (
                "{\"messages\":[{\"role\":\"assistant\"}]}",
                "messages[0]: \"content\" is missing",
            ),
            (
                "{\"prompt\":\"SECRET\",\"completion\":7}",
                "\"completion\" is a number",
            ),
            (
                "{\"instruction\":\"SECRET\",\"input\":7,\"output\":\"o\"}",
                "\"input\" is a number",
            ),
        ] {
            let error = read(format!("{good}{row}\n{good}").as_bytes()).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.starts_with("mine.jsonl, line 3: "), "{error}");
            assert!(error.contains(what), "{error} does not say {what}");
            assert!(!error.contains("SECRET"), "{error}");
        }
        let error = read(b"{\"text\":\"\xFF\"}").unwrap_err().to_string();
        assert!(error.contains("not UTF-8 after byte 9"), "{error}");
    }

    #[test]
    fn a_cut_compressed_file_is_an_error() {
        let compressed = zstd::encode_all(ROWS.as_bytes(), 3).unwrap();
        let error = read(&compressed[..compressed.len() - 8]).unwrap_err();
        assert!(error.to_string().contains("decompress"), "{error}");
    }
}
