//! Whole files: written, read, cut short and damaged.

mod common;

use common::small_file;
use meetara_format::{Array, ErrorKind, GgmlType, Gguf, Value, Writer, dequantize, limits};

fn parse(file: &[u8]) -> Result<Gguf, meetara_format::Error> {
    Gguf::parse(file, file.len() as u64)
}

/// Where the header ends, padding not counted.
fn header_end(file: &[u8], gguf: &Gguf) -> usize {
    let start = gguf.data_start as usize;
    (0..start)
        .find(|&end| Gguf::parse(&file[..end], file.len() as u64).is_ok())
        .unwrap_or(start)
}

fn data_end(gguf: &Gguf) -> usize {
    gguf.tensors
        .iter()
        .map(|tensor| gguf.tensor_range(tensor).end)
        .max()
        .expect("tensors")
}

#[test]
fn what_was_written_is_read() {
    let file = small_file();
    let gguf = parse(&file).expect("a good file");
    assert_eq!((gguf.version, gguf.alignment), (3, 32));
    assert_eq!(gguf.metadata.len(), 27);
    assert_eq!(gguf.get_str("general.architecture"), Ok(Some("llama")));
    assert_eq!(gguf.get_u32("llama.block_count"), Ok(Some(1)));
    assert_eq!(gguf.get_u64("scalar.u64"), Ok(Some(u64::MAX)));
    assert_eq!(
        gguf.get_f32("llama.attention.layer_norm_rms_epsilon"),
        Ok(Some(1e-5))
    );
    assert_eq!(
        gguf.get_bool("tokenizer.ggml.add_bos_token"),
        Ok(Some(true))
    );
    assert_eq!(gguf.get_f32_array("array.f32"), Ok(Some(&[0.5, -0.0][..])));
    assert_eq!(
        gguf.get_i32_array("array.i32"),
        Ok(Some(&[1, -1, i32::MIN][..]))
    );
    let tokens = gguf.get_string_array("tokenizer.ggml.tokens");
    let tokens = tokens.expect("strings").expect("there");
    assert!(tokens.iter().eq(["<s>", "", "\u{120}the"]));
    assert_eq!(
        gguf.get("array.bool"),
        Some(&Value::Array(Array::Bool(vec![true, false, true])))
    );
    assert_eq!(gguf.get_u32("no.such.key"), Ok(None));

    let down = gguf.tensor("blk.0.ffn_down.weight").expect("there");
    assert_eq!(
        (down.dims, down.n_dims, down.ty, down.bytes),
        ([32, 2, 2, 1], 4, GgmlType::Q8_0, 136)
    );
    assert_eq!((down.shape(), down.elements()), (&[32, 2, 2, 1][..], 128));
    let data = gguf.tensor_data(down, &file).expect("in the file");
    let y = dequantize(down.ty, data, 128).expect("whole blocks");
    assert!((y[0] - -128.0 / 37.0).abs() < 0.02, "{}", y[0]);
    assert_eq!(file.len() % 32, 0, "the last tensor is padded");
}

#[test]
fn getters_name_key_wanted_and_found() {
    let gguf = parse(&small_file()).expect("a good file");
    let error = gguf.get_u32("general.name").expect_err("a string");
    assert_eq!(error.kind, ErrorKind::WrongType);
    let text = error.to_string();
    for part in ["general.name", "u32", "string"] {
        assert!(text.contains(part), "{text}");
    }
    let text = gguf.get_u32("scalar.i8").expect_err("negative").to_string();
    assert!(text.contains("found i8"), "{text}");
    let text = gguf.get_u32("scalar.u64").expect_err("large").to_string();
    assert!(text.contains("18446744073709551615"), "{text}");
    let text = gguf.get_str("array.f32").expect_err("an array").to_string();
    assert!(text.contains("array of f32"), "{text}");
    assert_eq!(
        gguf.get_u32("scalar.u8"),
        Ok(Some(200)),
        "narrower integers fit"
    );
}

#[test]
fn read_and_written_again_is_the_same() {
    let file = small_file();
    let again = |file: &[u8]| {
        let gguf = parse(file).expect("a good file");
        let writer = Writer::from_gguf(&gguf, file).expect("whole file");
        writer.finish().expect("still valid")
    };
    assert_eq!(again(&file), file);

    // Version 2 stays version 2.
    let mut version_2 = file.clone();
    version_2[4] = 2;
    assert_eq!(again(&version_2), version_2);

    // Without the padding after the last tensor.
    let end = data_end(&parse(&file).expect("a good file"));
    assert!(end < file.len());
    assert_eq!(again(&file[..end]), &file[..end]);

    // Without tensors, with the header's padding and without.
    let mut writer = Writer::new("llama");
    writer.set("general.alignment", 64u32);
    let header = writer.finish().expect("valid");
    assert_eq!(header.len() % 64, 0);
    assert_eq!(again(&header), header);
    let unpadded = header_end(&header, &parse(&header).expect("a good file"));
    assert!(unpadded < header.len());
    assert_eq!(again(&header[..unpadded]), &header[..unpadded]);
}

#[test]
fn alignment_is_obeyed() {
    for alignment in [1u32, 8, 32, 4096] {
        let mut writer = Writer::new("llama");
        writer.set("general.alignment", alignment);
        for name in ["a", "b"] {
            writer
                .add_tensor(name, &[3], GgmlType::F16, vec![7; 6])
                .expect("fits");
        }
        let file = writer.finish().expect("valid");
        let gguf = parse(&file).expect("a good file");
        assert_eq!(gguf.alignment, u64::from(alignment));
        assert_eq!(file.len() as u64 % gguf.alignment, 0);
        for tensor in &gguf.tensors {
            assert_eq!(gguf.tensor_range(tensor).start as u64 % gguf.alignment, 0);
            assert_eq!(
                gguf.tensor_data(tensor, &file).expect("in the file"),
                [7; 6]
            );
        }
    }
}

/// At each byte: a prefix asks for more, a file that ends there is cut short.
#[test]
fn cut_at_every_byte() {
    let file = small_file();
    let gguf = parse(&file).expect("a good file");
    let (header_end, data_end) = (header_end(&file, &gguf), data_end(&gguf));
    assert!(header_end > 1000 && data_end > header_end);
    for cut in 0..=file.len() {
        let prefix = Gguf::parse(&file[..cut], file.len() as u64);
        if cut < header_end {
            match prefix.expect_err("the header is not all there").kind {
                ErrorKind::NeedMore { bytes } => {
                    assert!(
                        bytes > cut as u64 && bytes <= header_end as u64,
                        "{cut}: {bytes}"
                    );
                }
                other => panic!("{cut}: {other:?}"),
            }
        } else {
            assert_eq!(prefix.as_ref(), Ok(&gguf), "{cut}");
        }
        let whole = parse(&file[..cut]);
        if cut < data_end {
            assert_eq!(
                whole.expect_err("cut short").kind,
                ErrorKind::Truncated,
                "{cut}"
            );
        } else {
            assert_eq!(whole.as_ref(), Ok(&gguf), "{cut}");
        }
    }
}

/// Where one section ends and the next begins.
#[test]
fn cut_at_section_boundaries() {
    let file = small_file();
    let gguf = parse(&file).expect("a good file");
    let key = b"general.architecture";
    let metadata = file
        .windows(key.len())
        .position(|w| w == key)
        .expect("there")
        - 8;
    let name = b"token_embd.weight";
    let tensors = file
        .windows(name.len())
        .position(|w| w == name)
        .expect("there")
        - 8;
    assert_eq!(metadata, 24);
    let mut boundaries = vec![4, 8, 16, metadata, tensors, gguf.data_start as usize];
    boundaries.extend(
        gguf.tensors
            .iter()
            .map(|tensor| gguf.tensor_range(tensor).end - 1),
    );
    for cut in boundaries {
        let error = parse(&file[..cut]).expect_err("cut short");
        assert_eq!(error.kind, ErrorKind::Truncated, "{cut}");
        assert!(
            error.offset.is_some_and(|offset| offset <= cut as u64),
            "{cut}: {error}"
        );
        assert!(
            error.to_string().contains("fetch it again"),
            "{cut}: {error}"
        );
    }
    let error = parse(&file[..data_end(&gguf) - 1]).expect_err("cut short");
    assert!(
        error
            .to_string()
            .starts_with("`output_norm.weight` at byte"),
        "{error}"
    );
}

/// Single bytes replaced at random: an error, or a file that keeps every promise.
#[test]
fn random_faults() {
    let file = small_file();
    let mut state = 20_260_824u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % below
    };
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..1000 {
        let mut damaged = file.clone();
        let at = random(file.len());
        damaged[at] ^= 1 + random(255) as u8;
        match parse(&damaged) {
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
            Ok(gguf) => {
                for tensor in &gguf.tensors {
                    let data = gguf
                        .tensor_data(tensor, &damaged)
                        .expect("promised by parse");
                    let n = tensor.elements() as usize;
                    assert_eq!(
                        dequantize(tensor.ty, data, n).expect("whole blocks").len(),
                        n
                    );
                }
                let writer = Writer::from_gguf(&gguf, &damaged).expect("whole file");
                assert!(
                    writer.finish().is_ok(),
                    "what reads also writes (fault at {at})"
                );
                taken += 1;
            }
        }
    }
    assert!(
        refused > 100 && taken > 100,
        "{refused} refused, {taken} taken"
    );
}

/// Replaces the first occurrence of `from`.
fn replaced(from: &[u8], to: &[u8]) -> Vec<u8> {
    let file = small_file();
    let at = file
        .windows(from.len())
        .position(|w| w == from)
        .expect("there");
    [&file[..at], to, &file[at + from.len()..]].concat()
}

/// One tensor's table row in bytes, up to its dimensions.
fn row(name: &str, dims: &[u64], ty: u32, offset: u64) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend((name.len() as u64).to_le_bytes());
    out.extend(name.as_bytes());
    out.extend((dims.len() as u32).to_le_bytes());
    out.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
    out.extend(ty.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

/// A key and a value of type `ty`.
fn entry(key: &str, ty: u32, value: &[u8]) -> Vec<u8> {
    let mut out = (key.len() as u64).to_le_bytes().to_vec();
    out.extend(key.as_bytes());
    out.extend(ty.to_le_bytes());
    out.extend(value);
    out
}

/// A file of raw parts, with 64 KiB of zeros as data.
fn raw(entries: &[Vec<u8>], rows: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((rows.len() as u64).to_le_bytes());
    out.extend((entries.len() as u64).to_le_bytes());
    out.extend(entries.concat());
    out.extend(rows.concat());
    out.resize(out.len() + 65_536, 0);
    out
}

#[test]
fn rules_of_the_format() {
    assert!(
        parse(&raw(
            &[entry("a", 4, &[1, 0, 0, 0])],
            &[row("t", &[32], 8, 0), row("u", &[1, 2], 0, 64)]
        ))
        .is_ok()
    );

    let nested = [9u32.to_le_bytes().as_slice(), &1u64.to_le_bytes(), &[0; 12]].concat();
    let long_array = [0u32.to_le_bytes().as_slice(), &(1u64 << 31).to_le_bytes()].concat();
    let long_string = ((1u64 << 30) + 1).to_le_bytes();
    let bad_text = [2u64.to_le_bytes().as_slice(), b"\xff\xfe"].concat();
    let align = |n: u32| entry("general.alignment", 4, &n.to_le_bytes());
    let long_name = "n".repeat(64);
    let half = 1u64 << 32;
    let cases: Vec<(&str, Vec<u8>, ErrorKind, &str)> = vec![
        (
            "magic",
            replaced(b"GGUF", b"GGML"),
            ErrorKind::NotGguf,
            "is this a model file",
        ),
        (
            "version 1",
            replaced(b"GGUF\x03", b"GGUF\x01"),
            ErrorKind::UnsupportedVersion,
            "version 1",
        ),
        (
            "version 4",
            replaced(b"GGUF\x03", b"GGUF\x04"),
            ErrorKind::UnsupportedVersion,
            "version 4",
        ),
        (
            "endianness",
            replaced(b"GGUF\x03\0\0\0", b"GGUF\0\0\0\x03"),
            ErrorKind::UnsupportedVersion,
            "big endian",
        ),
        (
            "key twice",
            replaced(b"scalar.i8", b"scalar.u8"),
            ErrorKind::Malformed,
            "`scalar.u8`",
        ),
        (
            "empty key",
            raw(&[entry("", 0, &[1])], &[]),
            ErrorKind::Malformed,
            "key is empty",
        ),
        (
            "value type",
            raw(&[entry("k", 13, &[1])], &[]),
            ErrorKind::UnsupportedType,
            "value type 13",
        ),
        (
            "bool",
            raw(&[entry("k", 7, &[2])], &[]),
            ErrorKind::Malformed,
            "`k`",
        ),
        (
            "text",
            raw(&[entry("k", 8, &bad_text)], &[]),
            ErrorKind::Malformed,
            "UTF-8",
        ),
        (
            "long string",
            raw(&[entry("k", 8, &long_string)], &[]),
            ErrorKind::TooLarge,
            "1073741825",
        ),
        (
            "long array",
            raw(&[entry("k", 9, &long_array)], &[]),
            ErrorKind::TooLarge,
            "2147483648",
        ),
        (
            "nested",
            raw(&[entry("k", 9, &nested)], &[]),
            ErrorKind::UnsupportedType,
            "array of arrays",
        ),
        (
            "alignment 0",
            raw(&[align(0)], &[]),
            ErrorKind::Malformed,
            "power of two",
        ),
        (
            "alignment 24",
            raw(&[align(24)], &[]),
            ErrorKind::Malformed,
            "power of two",
        ),
        (
            "alignment u8",
            raw(&[entry("general.alignment", 0, &[32])], &[]),
            ErrorKind::WrongType,
            "found u8",
        ),
        (
            "name twice",
            raw(&[], &[row("t", &[1], 0, 0), row("t", &[1], 0, 32)]),
            ErrorKind::Malformed,
            "twice",
        ),
        (
            "name length",
            raw(&[], &[row(&long_name, &[1], 0, 0)]),
            ErrorKind::TooLarge,
            "64 bytes",
        ),
        (
            "empty name",
            raw(&[], &[row("", &[1, 1], 0, 0)]),
            ErrorKind::Malformed,
            "name is empty",
        ),
        (
            "no dims",
            raw(&[], &[row("t", &[], 0, 0)]),
            ErrorKind::Malformed,
            "0 dimensions",
        ),
        (
            "five dims",
            raw(&[], &[row("t", &[1; 5], 0, 0)]),
            ErrorKind::Malformed,
            "5 dimensions",
        ),
        (
            "dim 0",
            raw(&[], &[row("t", &[4, 0], 0, 0)]),
            ErrorKind::Malformed,
            "`t`",
        ),
        (
            "dims overflow",
            raw(&[], &[row("t", &[half, half, half], 0, 0)]),
            ErrorKind::TooLarge,
            "`t`",
        ),
        (
            "bytes overflow",
            raw(&[], &[row("t", &[half, half / 4], 0, 0)]),
            ErrorKind::TooLarge,
            "`t`",
        ),
        (
            "elements overflow",
            raw(&[], &[row("t", &[half, half / 2], 12, 0)]),
            ErrorKind::TooLarge,
            "`t`",
        ),
        (
            "negative dim",
            raw(&[], &[row("t", &[u64::MAX - 31], 8, 0)]),
            ErrorKind::TooLarge,
            "`t`",
        ),
        (
            "row length",
            raw(&[], &[row("t", &[48], 12, 0)]),
            ErrorKind::Malformed,
            "48 elements",
        ),
        (
            "unknown type",
            raw(&[], &[row("t", &[256], 10, 0)]),
            ErrorKind::UnsupportedType,
            "Q2_K",
        ),
        (
            "removed type",
            raw(&[], &[row("t", &[256], 4, 0)]),
            ErrorKind::UnsupportedType,
            "type 4 ",
        ),
        (
            "first offset",
            raw(&[], &[row("t", &[1], 0, 32)]),
            ErrorKind::Malformed,
            "start at 32",
        ),
        (
            "gap",
            raw(&[], &[row("t", &[1], 0, 0), row("u", &[1], 0, 64)]),
            ErrorKind::Malformed,
            "`u`",
        ),
        (
            "overlap",
            raw(&[], &[row("t", &[1], 0, 0), row("u", &[1], 0, 0)]),
            ErrorKind::Malformed,
            "`u`",
        ),
        (
            "past the end",
            raw(&[], &[row("t", &[1 << 20], 0, 0)]),
            ErrorKind::Truncated,
            "`t`",
        ),
        (
            "sum overflow",
            raw(
                &[],
                &[
                    row("t", &[(1 << 61) - 8], 0, 0),
                    row("u", &[(1 << 61) - 8], 0, (1 << 63) - 32),
                    row("v", &[1], 0, u64::MAX - 63),
                    row("w", &[1], 0, u64::MAX - 31),
                ],
            ),
            ErrorKind::TooLarge,
            "`w`",
        ),
    ];
    for (what, file, kind, part) in cases {
        let error = parse(&file).expect_err(what);
        let text = error.to_string();
        assert_eq!(error.kind, kind, "{what}: {text}");
        assert!(text.contains(part), "{what}: {text}");
        // The same when the file is said to be longer than what is at hand, unless its
        // length was what was wrong.
        let longer = Gguf::parse(&file, 1 << 50);
        if kind != ErrorKind::Truncated {
            assert_eq!(longer.expect_err(what).kind, kind, "{what}");
        }
    }
}

#[test]
fn counts_beyond_the_file_are_refused_before_the_tables_are_read() {
    for (at, what) in [(8, "tensor table"), (16, "metadata table")] {
        for count in [1u64 << 20, 1 << 40, u64::MAX] {
            let mut file = small_file();
            file[at..at + 8].copy_from_slice(&count.to_le_bytes());
            let error = parse(&file).expect_err("too many");
            assert_eq!(error.kind, ErrorKind::Truncated);
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}

#[test]
fn lengths_that_cannot_be_are_the_callers_fault() {
    let file = small_file();
    let error = Gguf::parse(&file, file.len() as u64 - 1).expect_err("longer than the file");
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    let gguf = parse(&file).expect("a good file");
    let last = gguf.tensors.last().expect("tensors");
    let error = gguf
        .tensor_data(last, &file[..100])
        .expect_err("not the whole file");
    assert_eq!(error.kind, ErrorKind::Truncated);
    assert!(Writer::from_gguf(&gguf, &file[..100]).is_err());
}

#[test]
fn hostile_names_are_cut_and_escaped_in_messages() {
    let key = format!("\n\u{1b}[31m{}", "x".repeat(1000));
    let file = raw(&[entry(&key, 7, &[9])], &[]);
    let error = parse(&file).expect_err("no bool");
    let text = error.to_string();
    assert!(text.len() < 300, "{text}");
    assert!(!text.contains('\n') && !text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn the_writer_refuses_what_no_reader_takes() {
    let invalid = Some(ErrorKind::InvalidArgument);
    let add = |name: &str, dims: &[u64], ty, bytes: usize| {
        let mut writer = Writer::new("llama");
        let error = writer.add_tensor(name, dims, ty, vec![0; bytes]).err();
        error.map(|error| error.kind)
    };
    assert_eq!(add("t", &[256], GgmlType::Q4_K, 144), None);
    assert_eq!(add("t", &[256], GgmlType::Q4_K, 143), invalid);
    assert_eq!(add("t", &[], GgmlType::F32, 4), invalid);
    assert_eq!(add("t", &[1; 5], GgmlType::F32, 4), invalid);
    assert_eq!(add("", &[1], GgmlType::F32, 4), invalid);
    assert_eq!(
        add(
            &"n".repeat(limits::NAME_BYTES_MAX as usize),
            &[1],
            GgmlType::F32,
            4
        ),
        None
    );
    assert_eq!(add(&"n".repeat(64), &[1], GgmlType::F32, 4), invalid);
    assert_eq!(
        add("t", &[255], GgmlType::Q4_K, 144),
        Some(ErrorKind::Malformed)
    );

    let finish = |change: fn(&mut Writer<'_>)| {
        let mut writer = Writer::new("llama");
        change(&mut writer);
        writer.finish().err().map(|error| error.kind)
    };
    assert_eq!(finish(|_| ()), None);
    assert_eq!(
        finish(|w| {
            w.set("", 1u32);
        }),
        invalid
    );
    assert_eq!(
        finish(|w| {
            w.set(&"k".repeat(65_536), 1u32);
        }),
        invalid
    );
    assert_eq!(
        finish(|w| {
            w.set("general.alignment", 24u32);
        }),
        Some(ErrorKind::Malformed)
    );
    assert_eq!(
        finish(|w| {
            w.set("general.alignment", 32u64);
        }),
        Some(ErrorKind::WrongType)
    );
    let twice = finish(|w| {
        for _ in 0..2 {
            w.add_tensor("t", &[1], GgmlType::F32, vec![0; 4])
                .expect("fits");
        }
    });
    assert_eq!(twice, Some(ErrorKind::Malformed));
}

#[test]
fn setting_again_keeps_the_place() {
    let mut writer = Writer::new("llama");
    writer.set("a", 1u32).set("b", 2u32).set("a", "three");
    assert!(writer.remove("b") && !writer.remove("b"));
    let file = writer.finish().expect("valid");
    let gguf = parse(&file).expect("a good file");
    let keys: Vec<&str> = gguf.metadata.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["general.architecture", "a"]);
    assert_eq!(gguf.get_str("a"), Ok(Some("three")));
}

/// llama.cpp's own vocabulary files, from a folder beside the repository: they are too large
/// and too differently licensed to be in it.
#[test]
fn vocabularies_of_llama_cpp() {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/vocab");
    if !folder.is_dir() {
        eprintln!(
            "SKIPPED vocabularies_of_llama_cpp: no folder ../shared/data/vocab beside the repository"
        );
        return;
    }
    for (name, tokens) in [
        ("gpt-2", 50_257),
        ("llama-spm", 32_000),
        ("llama-bpe", 128_256),
        ("qwen2", 151_936),
        ("starcoder", 49_152),
    ] {
        let file = std::fs::read(folder.join(format!("ggml-vocab-{name}.gguf"))).expect("readable");
        let gguf = parse(&file).expect(name);
        let found = gguf
            .get_string_array("tokenizer.ggml.tokens")
            .expect(name)
            .expect(name);
        assert_eq!(found.len(), tokens, "{name}");
        let writer = Writer::from_gguf(&gguf, &file).expect(name);
        assert!(
            writer.finish().expect(name) == file,
            "{name}: same bytes again"
        );
    }
}
