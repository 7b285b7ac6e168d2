//! One suite over every set of kernels: each must give the bits that the scalar kernels give.
//!
//! It runs wherever it is compiled for; for WebAssembly with SIMD:
//!
//! ```text
//! RUSTFLAGS="-C target-feature=+simd128" CARGO_TARGET_WASM32_WASIP1_RUNNER="node runtime-wasm/engine/tests/wasi.mjs" \
//!     cargo test --release -p meetara-kernels --target wasm32-wasip1 --test kernels
//! ```

use meetara_format::GgmlType;
use meetara_kernels::dispatch::{LayerNorm, Product};
use meetara_kernels::layout::{GROUP, weave};
use meetara_kernels::{KEY_GROUP, Kernels, Q8, Q8_LEN, Q8K, Q8K_LEN, SUMS, Weights, scalar};

/// A small generator of bits (splitmix64), the same on every machine.
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Between -1 and 1.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Kinds of numbers that kernels have to agree on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Data {
    /// As in a model: bell-like around 0.
    Usual,
    /// A few values thousands of times larger than the rest.
    Spiky,
    /// The largest finite numbers, so that sums overflow.
    Huge,
    /// Subnormal numbers and both zeros.
    Tiny,
    /// Everything alike: the largest integers inside a block.
    Constant,
    /// Infinities and NaN among the usual ones.
    Broken,
}

/// Miri is some thousand times slower than the CPU, and looks at addresses, which numbers do not change.
const KINDS: &[Data] = if cfg!(miri) {
    &[Data::Usual, Data::Broken]
} else {
    &[
        Data::Usual,
        Data::Spiky,
        Data::Huge,
        Data::Tiny,
        Data::Constant,
        Data::Broken,
    ]
};

/// Rows, blocks in a row, columns of a product.
const SHAPES: &[(usize, usize, usize)] = if cfg!(miri) {
    &[(1, 1, 1), (13, 1, 9), (9, 2, 3)]
} else {
    &[
        (1, 1, 1),
        (7, 2, 3),
        (8, 3, 8),
        (13, 1, 9),
        (4, 2, 2),
        (9, 1, 31),
        (16, 3, 32),
    ]
};

fn floats(bits: &mut Bits, n: usize, kind: Data) -> Vec<f32> {
    let sign = if bits.next() & 1 == 0 { 1.0 } else { -1.0 };
    let one = |bits: &mut Bits| {
        let x = bits.float() + bits.float() + bits.float();
        match kind {
            Data::Usual => x,
            Data::Spiky if bits.below(50) == 0 => x * 5000.0,
            Data::Spiky => x * 0.1,
            Data::Huge => bits.float() * f32::MAX,
            Data::Tiny => match bits.below(4) {
                0 => 0.0,
                1 => -0.0,
                2 => f32::from_bits(bits.next() as u32 & 0x807f_ffff),
                _ => x * 1e-37,
            },
            Data::Constant => sign * 3.7,
            Data::Broken => match bits.below(40) {
                0 => f32::NAN,
                1 => f32::INFINITY,
                2 => f32::NEG_INFINITY,
                _ => x,
            },
        }
    };
    (0..n).map(|_| one(bits)).collect()
}

/// The same bits; any NaN is like any other.
fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

#[track_caller]
fn assert_same(what: &str, wanted: &[f32], found: &[f32]) {
    assert_eq!(wanted.len(), found.len(), "{what}");
    for (i, (&a, &b)) in wanted.iter().zip(found).enumerate() {
        assert!(
            same(a, b),
            "{what}: element {i} is {b:e} ({:08x}), scalar says {a:e} ({:08x})",
            b.to_bits(),
            a.to_bits()
        );
    }
}

/// Where the half-precision scales of a block lie.
fn scales_at(ty: GgmlType) -> &'static [usize] {
    match ty {
        GgmlType::Q4_0 | GgmlType::Q5_0 | GgmlType::Q8_0 => &[0],
        GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4_K | GgmlType::Q5_K => &[0, 2],
        GgmlType::Q6_K => &[208],
        _ => &[],
    }
}

/// `n` weights of type `ty`. Quantised ones are any bytes, their scales of the kind asked for.
fn weights(bits: &mut Bits, ty: GgmlType, n: usize, kind: Data) -> Vec<u8> {
    match ty {
        GgmlType::F32 => {
            return floats(bits, n, kind)
                .iter()
                .flat_map(|x| x.to_le_bytes())
                .collect();
        }
        GgmlType::F16 => {
            let halves = floats(bits, n, kind).into_iter().map(half::f16::from_f32);
            return halves.flat_map(half::f16::to_le_bytes).collect();
        }
        GgmlType::BF16 => {
            let uppers = floats(bits, n, kind)
                .into_iter()
                .map(|x| (x.to_bits() >> 16) as u16);
            return uppers.flat_map(u16::to_le_bytes).collect();
        }
        _ => {}
    }
    let mut bytes = Vec::new();
    for _ in 0..n / ty.block_len() {
        let fill = bits.next();
        let block: Vec<u8> = (0..ty.block_bytes())
            .map(|_| match kind {
                // All ones, or -128 and the like: the extremes of every packed field.
                Data::Constant if fill & 1 == 0 => 0xff,
                Data::Constant => 0x80,
                _ => bits.next() as u8,
            })
            .collect();
        let start = bytes.len();
        bytes.extend(block);
        for &at in scales_at(ty) {
            // Weaving refuses scales that are not finite.
            let scale = floats(bits, 1, kind)[0] * 0.01;
            let scale = half::f16::from_f32(if scale.is_nan() {
                0.0
            } else {
                scale.clamp(-6e4, 6e4)
            });
            bytes[start + at..start + at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    bytes
}

/// Sets other than the scalar one. A machine that has none tests nothing here, and says so.
fn fast_sets() -> Vec<Kernels> {
    let sets: Vec<_> = Kernels::available()
        .into_iter()
        .filter(|set| set.name != "scalar")
        .collect();
    if sets.is_empty() {
        eprintln!("SKIPPED: this build on this CPU has scalar kernels only");
    }
    sets
}

/// Activations of both kinds, quantised by `kernels`.
struct Quantized {
    len: usize,
    stride: usize,
    quants: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    sums_k: Vec<i16>,
}

impl Quantized {
    fn new(kernels: &Kernels, block_len: usize, x: &[f32], len: usize) -> Self {
        let columns = x.len() / len;
        let stride = columns.next_multiple_of(8);
        let blocks = len / block_len;
        let mut q = Self {
            len,
            stride,
            quants: vec![0; x.len()],
            scales: vec![0.0; blocks * stride],
            sums: vec![0; blocks * stride],
            sums_k: vec![0; x.len() / block_len * SUMS],
        };
        for c in 0..columns {
            let (x, quants) = (&x[c * len..][..len], &mut q.quants[c * len..][..len]);
            let scales = &mut q.scales[c..];
            if block_len == Q8_LEN {
                (kernels.quantize_q8)(x, quants, scales, &mut q.sums[c..], stride);
            } else {
                let sums = &mut q.sums_k[c * blocks * SUMS..][..blocks * SUMS];
                (kernels.quantize_q8k)(x, quants, scales, sums, stride);
            }
        }
        q
    }

    fn q8(&self) -> Q8<'_> {
        Q8 {
            len: self.len,
            stride: self.stride,
            quants: &self.quants,
            scales: &self.scales,
            sums: &self.sums,
        }
    }

    fn q8k(&self) -> Q8K<'_> {
        Q8K {
            len: self.len,
            stride: self.stride,
            quants: &self.quants,
            scales: &self.scales,
            sums: &self.sums_k,
        }
    }
}

/// (columns, rows) of `kernels`; column by column where `matvec`.
fn product(
    kernels: &Kernels,
    ty: GgmlType,
    w: &[u8],
    x: &[f32],
    len: usize,
    rows: usize,
    matvec: bool,
) -> Vec<f32> {
    let columns = x.len() / len;
    let mut out = vec![f32::NAN; columns * rows];
    let block_len = if ty.block_len() == Q8K_LEN {
        Q8K_LEN
    } else {
        Q8_LEN
    };
    let mut woven = w.to_vec();
    let row_bytes = ty.row_bytes(len).unwrap();
    let tail = if ty.is_quantized() {
        weave(ty, &mut woven, row_bytes).unwrap()
    } else {
        Vec::new()
    };
    let weights = Weights {
        groups: &woven[..rows / GROUP * GROUP * row_bytes],
        tail: &tail,
    };
    match kernels.product(ty).unwrap() {
        Product::F32(p) if matvec => {
            for (x, out) in x.chunks_exact(len).zip(out.chunks_exact_mut(rows)) {
                (p.matvec)(w, x, out);
            }
        }
        Product::F32(p) => (p.matmul)(w, len, x, &mut out),
        Product::Q8(p) => {
            let q = Quantized::new(kernels, block_len, x, len);
            if matvec {
                for (c, out) in out.chunks_exact_mut(rows).enumerate() {
                    (p.matvec)(weights, q.q8().column(c), out);
                }
            } else {
                (p.matmul)(weights, q.q8(), &mut out);
            }
        }
        Product::Q8K(p) => {
            let q = Quantized::new(kernels, block_len, x, len);
            if matvec {
                for (c, out) in out.chunks_exact_mut(rows).enumerate() {
                    (p.matvec)(weights, q.q8k().column(c), out);
                }
            } else {
                (p.matmul)(weights, q.q8k(), &mut out);
            }
        }
    }
    out
}

#[test]
fn products_of_every_type_and_shape_have_the_scalar_bits() {
    let scalar = Kernels::scalar();
    let mut bits = Bits(1);
    for kernels in fast_sets() {
        for ty in GgmlType::ALL {
            for &kind in KINDS {
                for &(rows, blocks, columns) in SHAPES {
                    // Float rows also come in lengths that are no multiple of eight.
                    let len = if ty.is_quantized() {
                        blocks * ty.block_len()
                    } else {
                        blocks * 29 + 3
                    };
                    let w = weights(&mut bits, ty, rows * len, kind);
                    let x = floats(&mut bits, columns * len, kind);
                    let wanted = product(&scalar, ty, &w, &x, len, rows, true);
                    let what = format!("{} {ty} {kind:?} {rows} x {len} x {columns}", kernels.name);
                    assert_same(
                        &format!("{what} matvec"),
                        &wanted,
                        &product(&kernels, ty, &w, &x, len, rows, true),
                    );
                    assert_same(
                        &format!("{what} matmul"),
                        &wanted,
                        &product(&kernels, ty, &w, &x, len, rows, false),
                    );
                    assert_same(
                        &format!("{what} scalar matmul"),
                        &wanted,
                        &product(&scalar, ty, &w, &x, len, rows, false),
                    );
                }
            }
        }
    }
}

#[test]
fn quantised_activations_are_the_same() {
    let scalar = Kernels::scalar();
    let mut bits = Bits(2);
    for kernels in fast_sets() {
        for &kind in KINDS {
            for block_len in [Q8_LEN, Q8K_LEN] {
                for columns in [1, 3] {
                    let x = floats(&mut bits, columns * 2 * block_len, kind);
                    let wanted = Quantized::new(&scalar, block_len, &x, 2 * block_len);
                    let found = Quantized::new(&kernels, block_len, &x, 2 * block_len);
                    let what = format!("{} {kind:?} {block_len}", kernels.name);
                    assert_eq!(wanted.quants, found.quants, "{what}");
                    assert_eq!(wanted.sums, found.sums, "{what}");
                    assert_eq!(wanted.sums_k, found.sums_k, "{what}");
                    assert_same(&what, &wanted.scales, &found.scales);
                }
            }
        }
    }
}

#[test]
fn a_quantised_activation_is_the_nearest_step() {
    let mut bits = Bits(3);
    let x = floats(&mut bits, 256, Data::Usual);
    let q = Quantized::new(&Kernels::scalar(), Q8K_LEN, &x, 256);
    for (&x, &quant) in x.iter().zip(&q.quants) {
        let error = (f64::from(x) - f64::from(q.scales[0]) * f64::from(quant)).abs();
        assert!(
            error <= f64::from(q.scales[0]) * 0.5001,
            "{x}: {quant} steps of {}",
            q.scales[0]
        );
    }
    assert_eq!(q.quants.iter().map(|q| q.unsigned_abs()).max(), Some(127));
}

#[test]
fn scalar_products_are_the_sums_they_claim_to_be() {
    let mut bits = Bits(4);
    for ty in GgmlType::ALL {
        let (rows, len) = (3, if cfg!(miri) { 256 } else { 512 });
        let w = weights(&mut bits, ty, rows * len, Data::Usual);
        let x = floats(&mut bits, len, Data::Usual);
        let block_len = if ty.block_len() == Q8K_LEN {
            Q8K_LEN
        } else {
            Q8_LEN
        };
        let q = Quantized::new(&Kernels::scalar(), block_len, &x, len);
        let real: Vec<f64> = (0..len)
            .map(|i| match ty.is_quantized() {
                true => f64::from(q.quants[i]) * f64::from(q.scales[i / block_len * q.stride]),
                false => f64::from(x[i]),
            })
            .collect();
        let found = product(&Kernels::scalar(), ty, &w, &x, len, rows, true);
        for (row, &found) in found.iter().enumerate() {
            let bytes = ty.row_bytes(len).unwrap();
            let row_weights =
                meetara_format::dequantize(ty, &w[row * bytes..][..bytes], len).unwrap();
            let products = || {
                row_weights
                    .iter()
                    .zip(&real)
                    .map(|(&w, &x)| f64::from(w) * x)
            };
            let (wanted, size): (f64, f64) = (products().sum(), products().map(f64::abs).sum());
            let error = (f64::from(found) - wanted).abs() / size;
            assert!(error < 2e-6, "{ty} row {row}: {found}, in f64 {wanted}");
        }
    }
}

#[test]
fn vector_kernels_have_the_scalar_bits() {
    let mut bits = Bits(5);
    for kernels in fast_sets() {
        for &kind in KINDS {
            for len in [2, 6, 8, 10, 16, 31, 32, 40, 64, 72, 100, 256, 259] {
                let what = |name: &str| format!("{} {name} {kind:?} {len}", kernels.name);
                let x = floats(&mut bits, len, kind);
                let y = floats(&mut bits, len, kind);
                let factor = floats(&mut bits, 1, kind)[0];
                assert_same(
                    &what("dot"),
                    &[scalar::dot(&x, &y)],
                    &[(kernels.dot)(&x, &y)],
                );

                let run = |f: &dyn Fn(&mut [f32])| {
                    let mut out = y.clone();
                    f(&mut out);
                    out
                };
                let pair = |name: &str, a: &dyn Fn(&mut [f32]), b: &dyn Fn(&mut [f32])| {
                    assert_same(&what(name), &run(a), &run(b));
                };
                pair("axpy", &|y| scalar::axpy(factor, &x, y), &|y| {
                    (kernels.axpy)(factor, &x, y)
                });
                pair("softmax", &|y| scalar::softmax(y), &|y| {
                    (kernels.softmax)(y)
                });
                pair("silu_mul", &|y| scalar::silu_mul(y, &x), &|y| {
                    (kernels.silu_mul)(y, &x)
                });
                let norm = |f: fn(&[f32], &[f32], f32, &mut [f32])| {
                    let mut out = vec![0.0; len];
                    f(&x, &y, 1e-5, &mut out);
                    out
                };
                assert_same(
                    &what("rms_norm"),
                    &norm(scalar::rms_norm),
                    &norm(kernels.rms_norm),
                );

                pair("gelu", &scalar::gelu, &kernels.gelu);
                let norm = |f: LayerNorm| {
                    let mut out = vec![0.0; len];
                    f(&x, &y, &x, 1e-5, &mut out);
                    out
                };
                assert_same(
                    &what("layer_norm"),
                    &norm(scalar::layer_norm),
                    &norm(kernels.layer_norm),
                );

                let rows = floats(&mut bits, 5 * len, kind);
                let factors = floats(&mut bits, 5, kind);
                pair(
                    "axpy_rows",
                    &|y| scalar::axpy_rows(&factors, &rows, y),
                    &|y| (kernels.axpy_rows)(&factors, &rows, y),
                );
                let dots = |f: fn(&[f32], &[f32], &mut [f32])| {
                    let mut out = [0.0; 5];
                    f(&rows, &x, &mut out);
                    out
                };
                assert_same(
                    &what("dot_rows"),
                    &dots(scalar::dot_rows),
                    &dots(kernels.dot_rows),
                );

                if len.is_multiple_of(2) {
                    let (cos, sin) = (
                        floats(&mut bits, len, Data::Usual),
                        floats(&mut bits, len, Data::Usual),
                    );
                    let turn = |f: fn(&mut [f32], &[f32], &[f32])| {
                        let mut heads = [x.clone(), y.clone()].concat();
                        f(&mut heads, &cos, &sin);
                        heads
                    };
                    assert_same(&what("rope"), &turn(scalar::rope), &turn(kernels.rope));
                }
                let halves = |f: fn(&[f32], &mut [u16])| {
                    let mut out = vec![0; len];
                    f(&x, &mut out);
                    out
                };
                assert_eq!(
                    halves(scalar::f32_to_f16),
                    halves(kernels.f32_to_f16),
                    "{}",
                    what("f32_to_f16")
                );
            }
        }
    }
}

#[test]
fn attention_has_the_scalar_bits_and_reads_woven_keys() {
    let mut bits = Bits(6);
    for &kind in KINDS {
        for (head_dim, heads, groups) in [
            (2, 1, 1),
            (12, 3, 2),
            (32, 2, 4),
            (40, 5, 1),
            (64, 3, 3),
            (72, 1, 4),
            (128, 4, 1),
        ]
        .into_iter()
        .take(if cfg!(miri) { 2 } else { 7 })
        {
            let positions = groups * KEY_GROUP;
            let stride = positions + 5;
            let q = floats(&mut bits, heads * head_dim, kind);
            let rows = floats(&mut bits, positions * head_dim, kind);
            let mut keys = vec![0.0; rows.len()];
            for (i, &x) in rows.iter().enumerate() {
                let (t, d) = (i / head_dim, i % head_dim);
                keys[(t / KEY_GROUP * head_dim + d) * KEY_GROUP + t % KEY_GROUP] = x;
            }
            let mut wanted = vec![7.0; heads * stride];
            for (q, scores) in q.chunks(head_dim).zip(wanted.chunks_mut(stride)) {
                scalar::dot_rows(&rows, q, &mut scores[..positions]);
            }
            let probabilities = floats(&mut bits, heads * stride, kind);
            // As many positions as there are, and fewer than a group.
            for positions in [positions, 3] {
                let values = &rows[..positions * head_dim];
                let mut out = q.clone();
                scalar::attention_values(values, &probabilities, stride, head_dim, &mut out);
                for kernels in fast_sets() {
                    let what = format!("{} {kind:?} {heads} x {head_dim}", kernels.name);
                    let mut found = q.clone();
                    (kernels.attention_values)(
                        values,
                        &probabilities,
                        stride,
                        head_dim,
                        &mut found,
                    );
                    assert_same(&format!("{what} values of {positions}"), &out, &found);
                }
            }
            for kernels in Kernels::available() {
                let mut found = vec![7.0; heads * stride];
                (kernels.attention_scores)(&keys, &q, &mut found, stride, head_dim);
                let what = format!("{} {kind:?} {heads} x {head_dim}", kernels.name);
                assert_same(&format!("{what} scores of {positions}"), &wanted, &found);
            }
        }
    }
}

#[test]
fn every_finite_half_widens_the_same_and_back() {
    let halves: Vec<u16> = (0..=u16::MAX)
        .step_by(if cfg!(miri) { 997 } else { 1 })
        .filter(|&bits| half::f16::from_bits(bits).is_finite())
        .collect();
    for kernels in Kernels::available() {
        let mut wide = vec![0.0; halves.len()];
        (kernels.f16_to_f32)(&halves, &mut wide);
        let wanted: Vec<f32> = halves
            .iter()
            .map(|&bits| half::f16::from_bits(bits).to_f32())
            .collect();
        assert_same(kernels.name, &wanted, &wide);
        let mut back = vec![0; halves.len()];
        (kernels.f32_to_f16)(&wide, &mut back);
        assert_eq!(halves, back, "{}", kernels.name);
    }
}

#[test]
fn softmax_exponentials_follow_one_exp() {
    // Through softmax: with the largest element 0, every other is exp(x) over the sum.
    for kernels in fast_sets() {
        for start in 0..if cfg!(miri) { 1 } else { 200 } {
            let mut x: Vec<f32> = (0..512)
                .map(|i| -(start as f32) * 0.53 - i as f32 * 0.000_37)
                .collect();
            x.push(0.0);
            let mut wanted = x.clone();
            scalar::softmax(&mut wanted);
            (kernels.softmax)(&mut x);
            assert_same(kernels.name, &wanted, &x);
        }
    }
}

#[test]
fn halves_are_rounded_to_even_at_and_beside_every_tie() {
    let mut x = vec![f32::MAX, 65_519.9, 65_520.0, 1e-45, 2.98e-8];
    for bits in (0..0x7bff).step_by(if cfg!(miri) { 997 } else { 1 }) {
        let [low, high] = [bits, bits + 1].map(|bits| half::f16::from_bits(bits).to_f32());
        // Exact: halves have 13 bits less.
        let tie = (low + high) / 2.0;
        x.extend([tie.next_down(), tie, tie.next_up()]);
    }
    x.extend(x.clone().iter().map(|x| -x));
    let mut wanted = vec![0; x.len()];
    scalar::f32_to_f16(&x, &mut wanted);
    for kernels in fast_sets() {
        let mut found = vec![0; x.len()];
        (kernels.f32_to_f16)(&x, &mut found);
        assert_eq!(wanted, found, "{}", kernels.name);
    }
}
