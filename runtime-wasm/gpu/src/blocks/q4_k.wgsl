// Q4_K: f16 d, f16 dmin, u8 scales[12], u8 qs[128]; w = d * scale_j * q - dmin * min_j, j = i / 32.
const BLOCK_BYTES: u32 = 144u;
const PARTS: u32 = 16u;

fn unpack(at: u32, part: u32) {
    let j = part / 2u;
    var scale: u32;
    var least: u32;
    if j < 4u {
        scale = byte(at + 4u + j) & 63u;
        least = byte(at + 8u + j) & 63u;
    } else {
        let low = byte(at + 8u + j);
        scale = (low & 15u) | ((byte(at + j) >> 6u) << 4u);
        least = (low >> 4u) | ((byte(at + 4u + j) >> 6u) << 4u);
    }
    let d = half(at) * f32(scale);
    let m = half(at + 2u) * f32(least);
    let inside = 16u * (part & 1u);
    let qs = at + 16u + 32u * (j / 2u) + inside;
    for (var i = 0u; i < 8u; i++) {
        let pair = two_bytes(qs + 2u * i) >> (4u * (j & 1u));
        w[2u * i] = d * f32(pair & 15u) - m;
        w[2u * i + 1u] = d * f32((pair >> 8u) & 15u) - m;
    }
}
