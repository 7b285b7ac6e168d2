// A matrix as it lies in the file: bytes, of which nothing but two-byte alignment is known.

@group(0) @binding(2) var<storage, read> weights: array<u32>;

// Sixteen weights, filled by `unpack(at, part)` of the block type: those from 16 * part on, of the
// block whose first byte is `at`.
var<private> w: array<f32, 16>;

fn byte(at: u32) -> u32 {
    return extractBits(weights[at / 4u], 8u * (at % 4u), 8u);
}

fn two_bytes(at: u32) -> u32 {
    return extractBits(weights[at / 4u], 8u * (at & 2u), 16u);
}

fn four_bytes(at: u32) -> u32 {
    return two_bytes(at) | (two_bytes(at + 2u) << 16u);
}

// An F16. By hand, since drivers may take subnormal halves for 0, and scales of blocks are that small.
fn half(at: u32) -> f32 {
    let bits = two_bytes(at);
    let exponent = extractBits(bits, 10u, 5u);
    let mantissa = bits & 1023u;
    let normal = bitcast<f32>(((exponent + 112u) << 23u) | (mantissa << 13u));
    let magnitude = select(normal, f32(mantissa) * 0x1p-24f, exponent == 0u);
    return select(magnitude, -magnitude, (bits & 0x8000u) != 0u);
}
