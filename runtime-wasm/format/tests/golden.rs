//! The bytes of every block type against ggml's own, and what they decode to.
//!
//! `tests/vectors/README.md` says where the vectors come from.

use meetara_format::{GgmlType, dequantize, quantize};

/// The vectors' weights.
fn weights() -> Vec<f32> {
    (0..256i32)
        .map(|i| ((i * 7919 + 13) % 257 - 128) as f32 / 64.0)
        .collect()
}

/// The vectors' importance per column.
fn importance() -> Vec<f32> {
    (0..256i32)
        .map(|i| (1 + (i * 31) % 17) as f32 / 8.0)
        .collect()
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

/// Quantises, compares with the vector, and gives the values that come back.
fn check(ty: GgmlType, n: usize, weighted: bool, hex: &str) -> Vec<f32> {
    let x = &weights()[..n];
    let importance = &importance()[..n];
    let found = quantize(ty, x, n, weighted.then_some(importance)).expect("whole blocks");
    assert_eq!(found, bytes(hex), "{ty}, weighted: {weighted}");
    dequantize(ty, &found, n).expect("whole blocks")
}

#[test]
fn q8_0() {
    let y = check(GgmlType::Q8_0, 64, false, include_str!("vectors/q8_0.hex"));
    assert!(mean_squared_error(&weights()[..64], &y) < 3e-5);
}

#[test]
fn q4_k() {
    let y = check(GgmlType::Q4_K, 256, false, include_str!("vectors/q4_k.hex"));
    assert_eq!(
        y[..4],
        [-1.757_503_5, 1.538_566_6, 0.777_935, 0.017_303_467]
    );
    assert!((mean_squared_error(&weights(), &y) - 0.001_190_814_47).abs() < 1e-9);
}

#[test]
fn q4_k_weighted() {
    let y = check(
        GgmlType::Q4_K,
        256,
        true,
        include_str!("vectors/q4_k_weighted.hex"),
    );
    assert!((mean_squared_error(&weights(), &y) - 0.001_055_802_16).abs() < 1e-9);
}

#[test]
fn q5_k() {
    let y = check(GgmlType::Q5_K, 256, false, include_str!("vectors/q5_k.hex"));
    assert_eq!(y[..2], [-1.809_406_3, 1.521_030_4]);
    assert!((mean_squared_error(&weights(), &y) - 0.001_173_947_79).abs() < 1e-9);
}

#[test]
fn q6_k() {
    let y = check(GgmlType::Q6_K, 256, false, include_str!("vectors/q6_k.hex"));
    assert_eq!(y[..4], [-1.799_560_5, 1.478_210_4, 0.706_970_2, -0.0]);
    assert!((mean_squared_error(&weights(), &y) - 0.000_271_615_775).abs() < 1e-9);
}

#[test]
fn q6_k_weighted() {
    check(
        GgmlType::Q6_K,
        256,
        true,
        include_str!("vectors/q6_k_weighted.hex"),
    );
}
