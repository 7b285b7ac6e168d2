//! The bytes of every block type against ggml's own, and what they decode to.
//!
//! `tests/vectors/README.md` says where the vectors come from.

use meetara_format::{ErrorKind, GgmlType, dequantize, quantize};

/// The vectors' weights.
fn weights(n: i32) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 7919 + 13) % 257 - 128) as f32 / 64.0)
        .collect()
}

/// The vectors' importance per column.
fn importance(n: i32) -> Vec<f32> {
    (0..n).map(|i| (1 + (i * 31) % 17) as f32 / 8.0).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter_map(|c| c.to_digit(16).map(|d| d as u8))
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn mean_squared_error(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    sum / a.len() as f64
}

/// (type, vector, weighted, mean squared error of what it decodes to, its first values), all
/// measured with ggml.
#[test]
fn vectors() {
    macro_rules! vector {
        ($name:literal) => {
            include_str!(concat!("vectors/", $name, ".hex"))
        };
    }
    type Case<'c> = (GgmlType, &'c str, bool, f64, &'c [f32]);
    let cases: [Case<'_>; 15] = [
        (
            GgmlType::F16,
            vector!("f16"),
            false,
            0.0,
            &[-1.796_875, 1.468_75, 0.718_75, -0.031_25],
        ),
        (
            GgmlType::BF16,
            vector!("bf16"),
            false,
            0.0,
            &[-1.796_875, 1.468_75, 0.718_75, -0.031_25],
        ),
        (
            GgmlType::Q4_0,
            vector!("q4_0"),
            false,
            0.005_009_591_6,
            &[-1.75, 1.5, 0.75, -0.0],
        ),
        (
            GgmlType::Q4_1,
            vector!("q4_1"),
            false,
            0.003_910_392_5,
            &[-1.704_101_6, 1.471_679_7, 0.677_734_4, -0.116_210_94],
        ),
        (
            GgmlType::Q5_0,
            vector!("q5_0"),
            false,
            0.001_134_946_9,
            &[-1.75, 1.5, 0.75, -0.0],
        ),
        (
            GgmlType::Q5_1,
            vector!("q5_1"),
            false,
            0.001_455_785_9,
            &[-1.840_698_2, 1.488_647_5, 0.720_336_9, -0.047_973_633],
        ),
        (
            GgmlType::Q8_0,
            vector!("q8_0"),
            false,
            0.000_018_876_869,
            &[-1.795_166, 1.464_477_5, 0.724_365_23, -0.031_494_14],
        ),
        (
            GgmlType::Q4_K,
            vector!("q4_k"),
            false,
            0.001_190_814_47,
            &[-1.757_503_5, 1.538_566_6, 0.777_935, 0.017_303_467],
        ),
        (
            GgmlType::Q5_K,
            vector!("q5_k"),
            false,
            0.001_173_947_79,
            &[-1.809_406_3, 1.521_030_4],
        ),
        (
            GgmlType::Q6_K,
            vector!("q6_k"),
            false,
            0.000_271_615_775,
            &[-1.799_560_5, 1.478_210_4, 0.706_970_2, -0.0],
        ),
        (
            GgmlType::Q4_0,
            vector!("q4_0_weighted"),
            true,
            0.003_632_095_6,
            &[-1.758_544_9, 1.507_324_2, 0.753_662_1, -0.0],
        ),
        (
            GgmlType::Q4_1,
            vector!("q4_1_weighted"),
            true,
            0.001_411_362_6,
            &[-1.760_742_2, 1.505_127, 0.751_464_84, -0.002_197_265_6],
        ),
        (
            GgmlType::Q5_0,
            vector!("q5_0_weighted"),
            true,
            0.001_115_004_3,
            &[-1.75, 1.5, 0.75, -0.0],
        ),
        (
            GgmlType::Q5_1,
            vector!("q5_1_weighted"),
            true,
            0.001_007_689_2,
            &[-1.855_224_6, 1.5, 0.754_394_53, 0.008_789_062_5],
        ),
        (
            GgmlType::Q4_K,
            vector!("q4_k_weighted"),
            true,
            0.001_055_802_16,
            &[],
        ),
    ];
    // Their decoded values have not been measured with ggml; the bytes have.
    let bytes_only = [
        (GgmlType::Q5_K, vector!("q5_k_weighted")),
        (GgmlType::Q6_K, vector!("q6_k_weighted")),
    ];
    for (ty, hex) in bytes_only {
        let blocks = quantize(ty, &weights(256), 256, Some(&importance(256)));
        assert_eq!(blocks.as_ref(), Ok(&bytes(hex)), "{ty}, weighted");
    }
    for (ty, hex, weighted, error_expected, first) in cases {
        let expected = bytes(hex);
        let n = expected.len() / ty.block_bytes() * ty.block_len();
        let (x, importance) = (weights(n as i32), importance(n as i32));
        let found = quantize(ty, &x, n, weighted.then_some(&importance)).expect("whole blocks");
        assert_eq!(found, expected, "{ty}, weighted: {weighted}");

        let y = dequantize(ty, &found, n).expect("whole blocks");
        let error = mean_squared_error(&x, &y);
        assert!(
            (error - error_expected).abs() < 1e-9,
            "{ty}, weighted: {weighted}: mean squared error {error}"
        );
        assert_eq!(&y[..first.len()], first, "{ty}");
    }
}

/// The generator of `vectors/make_blocks.c`.
struct Bits(u32);

impl Bits {
    fn next(&mut self) -> i32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) as i32
    }
}

/// 96 rows of 768 weights of mixed kinds, and an importance for the columns.
fn mixed() -> (Vec<f32>, Vec<f32>) {
    let mut bits = Bits(20_260_824);
    let mut x = Vec::new();
    for _ in 0..96 * 768 / 32 {
        let kind = bits.next() % 8;
        let unit = 0.5f32.powi(bits.next() % 24);
        for _ in 0..32 {
            let (a, b, c) = (bits.next(), bits.next(), bits.next());
            let bell = (a + b + c) / 4 - 24_576;
            x.push(match kind {
                0 => 0.0,
                1 => unit,
                2 if a % 16 == 0 => bell as f32 / 8192.0 * unit,
                2 => 0.0,
                3 => (a % 15 - 7) as f32 * unit,
                4 => (bell + 32_768) as f32 / 8192.0 * unit,
                _ => bell as f32 / 8192.0 * unit,
            });
        }
    }
    let importance = (0..768)
        .map(|_| {
            let (a, b) = (bits.next(), bits.next() % 8);
            if a % 9 == 0 {
                0.0
            } else {
                (i64::from(a) << b) as f32 / 65_536.0
            }
        })
        .collect();
    (x, importance)
}

#[test]
fn digests() {
    let (x, importance) = mixed();
    let mut compared = 0;
    for line in include_str!("vectors/digests.txt").lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [name, how, expected] = fields[..] else {
            panic!("a line of digests.txt has three fields: {line}");
        };
        let ty = GgmlType::ALL
            .into_iter()
            .find(|ty| ty.name().eq_ignore_ascii_case(name))
            .expect("a known type");
        let importance = (how == "weighted").then_some(&importance[..]);
        let blocks = quantize(ty, &x, 768, importance).expect("whole blocks");
        let digest = blocks
            .iter()
            .fold(0xcbf2_9ce4_8422_2325u64, |digest, &byte| {
                (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
            });
        assert_eq!(format!("{digest:016x}"), expected, "{name} {how}");
        compared += 1;
    }
    assert_eq!(compared, 17);
}

/// Importance must matter: columns that count less may be further off, the others nearer.
#[test]
fn importance_moves_the_error_to_where_it_counts_less() {
    let (x, _) = mixed();
    let importance: Vec<f32> = (0..768)
        .map(|i| if i % 2 == 0 { 100.0 } else { 0.01 })
        .collect();
    let weighted_error = |y: &[f32]| -> f64 {
        let terms = x.iter().zip(y).zip(importance.iter().cycle());
        terms
            .map(|((x, y), w)| f64::from(*w) * f64::from(x - y).powi(2))
            .sum()
    };
    for ty in [
        GgmlType::Q4_0,
        GgmlType::Q4_1,
        GgmlType::Q5_0,
        GgmlType::Q4_K,
        GgmlType::Q5_K,
    ] {
        let error = |importance| {
            let blocks = quantize(ty, &x, 768, importance).expect("whole blocks");
            weighted_error(&dequantize(ty, &blocks, x.len()).expect("whole blocks"))
        };
        let (plain, weighted) = (error(None), error(Some(&importance[..])));
        assert!(weighted < plain, "{ty}: {weighted} with, {plain} without");
    }
}

#[test]
fn arguments_that_do_not_fit_are_errors() {
    let kind = |result: Result<Vec<u8>, meetara_format::Error>| result.expect_err("refused").kind;
    let x = weights(256);
    for (ty, row_len) in [
        (GgmlType::Q4_K, 128),
        (GgmlType::Q8_0, 16),
        (GgmlType::F32, 0),
        (GgmlType::F32, 100),
    ] {
        assert_eq!(
            kind(quantize(ty, &x, row_len, None)),
            ErrorKind::InvalidArgument,
            "{ty} {row_len}"
        );
    }
    assert_eq!(
        kind(quantize(GgmlType::Q4_K, &x, 256, Some(&x[1..]))),
        ErrorKind::InvalidArgument
    );
    assert_eq!(
        kind(quantize(GgmlType::Q4_K, &x, 256, Some(&x))),
        ErrorKind::InvalidArgument,
        "negative"
    );

    let mut diverged = x.clone();
    diverged[200] = f32::NAN;
    let error = quantize(GgmlType::Q6_K, &diverged, 256, None).expect_err("NaN");
    assert!(
        error.to_string().contains("row 0, column 200 is NaN"),
        "{error}"
    );
    let kept = quantize(GgmlType::F32, &diverged, 256, None).expect("F32 keeps what it is given");
    assert_eq!(kept.len(), 1024);

    for (bytes, n) in [(143, 256), (144, 255), (288, 256), (0, 256), (144, 0)] {
        let error = dequantize(GgmlType::Q4_K, &vec![0; bytes], n).expect_err("lengths");
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{bytes} {n}");
    }
    assert_eq!(dequantize(GgmlType::Q4_K, &[], 0), Ok(vec![]));
}

/// Extreme but finite weights come back as something, without a panic.
#[test]
fn extremes_do_not_panic() {
    let mut x = weights(256);
    for (i, extreme) in [f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, -0.0]
        .into_iter()
        .enumerate()
    {
        x[i * 37] = extreme;
        let importance = [vec![0.0; 128], vec![f32::MAX; 128]].concat();
        for ty in GgmlType::ALL {
            for importance in [None, Some(&importance[..])] {
                let blocks = quantize(ty, &x, 256, importance).expect("finite weights");
                assert_eq!(
                    dequantize(ty, &blocks, 256).expect("whole blocks").len(),
                    256
                );
            }
        }
    }
}

/// Any bytes decode to something, without a panic.
#[test]
fn any_block_decodes() {
    let mut bits = Bits(7);
    for ty in GgmlType::ALL {
        for _ in 0..200 {
            let data: Vec<u8> = (0..ty.block_bytes()).map(|_| bits.next() as u8).collect();
            let y = dequantize(ty, &data, ty.block_len()).expect("one block");
            assert_eq!(y.len(), ty.block_len());
        }
    }
}

/// At a tie Q8_0 rounds away from zero (the K types' searches round to even).
#[test]
fn ties() {
    let mut x = [0.0; 32];
    x[..6].copy_from_slice(&[127.0, 0.5, 1.5, 2.5, -0.5, -2.5]);
    let blocks = quantize(GgmlType::Q8_0, &x, 32, None).expect("one block");
    assert_eq!(
        dequantize(GgmlType::Q8_0, &blocks, 32).expect("one block")[..6],
        [127.0, 1.0, 2.0, 3.0, -1.0, -3.0]
    );
}
