//! Takes a module apart: code without data, and the memory that the data makes.
//!
//! wasmtime writes a module's data into the memory of each new instance. Our instances spring from
//! images (see `image`), of which the data is the first; to write it again would undo what a loaded
//! model has changed, and cost a copy. So the data is taken out of the module before it is compiled.
//!
//! An image holds linear memory and nothing else. That is an instance's whole state between calls,
//! because what this module lets through has no other: no start function, no data that is written
//! later, and one global that can change, the stack pointer, which is back at its start by then.

use std::ops::Range;

use wasmparser::{ConstExpr, DataKind, Operator, Parser, Payload};

use super::image::PAGE_BYTES;

/// A module taken apart.
pub(super) struct Split {
    /// The module without its data.
    pub(super) code: Vec<u8>,
    /// What the memory of a new instance holds, whole pages.
    pub(super) memory: Vec<u8>,
}

/// The most memory that a module may want from its start on.
const START_BYTES_MAX: u64 = 1 << 30;

/// Takes `wasm` apart.
///
/// # Errors
/// What the module has that an image could not hold, or where it is broken.
pub(super) fn split(wasm: &[u8]) -> Result<Split, String> {
    let broken = |e: wasmparser::BinaryReaderError| e.to_string();
    let mut code = Vec::with_capacity(wasm.len());
    code.extend(wasm.get(..8).ok_or("it is no WebAssembly module")?);
    let mut memory = Vec::new();
    let mut mutable_globals = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(broken)?;
        match &payload {
            Payload::MemorySection(memories) => {
                for found in memories.clone() {
                    let found = found.map_err(broken)?;
                    let bytes = found.initial.saturating_mul(PAGE_BYTES as u64);
                    if !memory.is_empty() || found.memory64 || bytes > START_BYTES_MAX {
                        return Err("it must have one memory of 32-bit addresses".to_owned());
                    }
                    memory.resize(bytes as usize, 0);
                }
            }
            Payload::GlobalSection(globals) => {
                for global in globals.clone() {
                    mutable_globals += u32::from(global.map_err(broken)?.ty.mutable);
                }
            }
            Payload::StartSection { .. } => return Err("it has a start function".to_owned()),
            Payload::DataSection(segments) => {
                for segment in segments.clone() {
                    let segment = segment.map_err(broken)?;
                    let place = place(&segment.kind, segment.data.len());
                    let place = place.and_then(|place| memory.get_mut(place));
                    let place = place.ok_or("it has data that is not for its memory's start")?;
                    place.copy_from_slice(segment.data);
                }
                continue;
            }
            // Only instructions for data that is written later need it; with them, compiling fails.
            Payload::DataCountSection { .. } => continue,
            _ => {}
        }
        if let Some((id, range)) = payload.as_section() {
            let contents = wasm.get(range).ok_or("a section is cut short")?;
            code.push(id);
            put_length(&mut code, contents.len());
            code.extend(contents);
        }
    }
    if mutable_globals > 1 {
        return Err(format!(
            "it has {mutable_globals} globals that change, of which an image could hold none"
        ));
    }
    Ok(Split { code, memory })
}

/// Where a segment belongs; `None` if that is not known before the module runs.
fn place(kind: &DataKind<'_>, len: usize) -> Option<Range<usize>> {
    let DataKind::Active {
        memory_index: 0,
        offset_expr,
    } = kind
    else {
        return None;
    };
    let at = constant(offset_expr)?;
    Some(at..at.checked_add(len)?)
}

/// The value of `i32.const`, which stands for an address and so has no sign.
fn constant(expression: &ConstExpr<'_>) -> Option<usize> {
    let mut operators = expression.get_operators_reader();
    match operators.read().ok()? {
        Operator::I32Const { value } => Some(value.cast_unsigned() as usize),
        _ => None,
    }
}

/// A length as WebAssembly writes it: seven bits a byte, the lowest first, the top bit while more follow.
fn put_length(code: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        code.push(length as u8 | 0x80);
        length >>= 7;
    }
    code.push(length as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with these sections: (id, contents).
    fn module(sections: &[(u8, &[u8])]) -> Vec<u8> {
        let mut wasm = b"\0asm\x01\0\0\0".to_vec();
        for (id, contents) in sections {
            wasm.push(*id);
            put_length(&mut wasm, contents.len());
            wasm.extend_from_slice(contents);
        }
        wasm
    }

    /// One memory of two pages.
    const MEMORY: (u8, &[u8]) = (5, &[1, 0, 2]);
    /// One segment: "ab" at 65,537, an address of three bytes.
    const DATA: (u8, &[u8]) = (11, &[1, 0, 0x41, 0x81, 0x80, 4, 0x0b, 2, b'a', b'b']);

    #[test]
    fn data_goes_into_the_memory_and_all_else_stays() {
        let custom: (u8, &[u8]) = (0, &[1, b'x', 7]);
        let Split { code, memory } = split(&module(&[MEMORY, DATA, custom])).unwrap();
        assert_eq!(code, module(&[MEMORY, custom]));
        assert_eq!(memory.len(), 2 * PAGE_BYTES);
        let written = PAGE_BYTES + 1..PAGE_BYTES + 3;
        assert_eq!(memory[written.clone()], *b"ab");
        let zeros = memory.iter().filter(|&&byte| byte == 0).count();
        assert_eq!(zeros, memory.len() - written.len());
    }

    #[test]
    fn what_an_image_cannot_hold_is_refused() {
        // Passive data; data beyond the end; two globals that change; a second memory.
        let passive: (u8, &[u8]) = (11, &[1, 1, 1, b'a']);
        let beyond: (u8, &[u8]) = (11, &[1, 0, 0x41, 0xff, 0xff, 7, 0x0b, 2, b'a', b'b']);
        let globals: (u8, &[u8]) = (6, &[2, 0x7f, 1, 0x41, 0, 0x0b, 0x7f, 1, 0x41, 0, 0x0b]);
        let memories: (u8, &[u8]) = (5, &[2, 0, 1, 0, 1]);
        for sections in [
            &[MEMORY, passive][..],
            &[MEMORY, beyond],
            &[MEMORY, globals],
            &[memories],
            &[DATA],
        ] {
            assert!(split(&module(sections)).is_err(), "{sections:?}");
        }
        assert!(split(b"\0as").is_err());
        let cut = module(&[MEMORY, DATA]);
        assert!(split(&cut[..cut.len() - 1]).is_err());
    }
}
