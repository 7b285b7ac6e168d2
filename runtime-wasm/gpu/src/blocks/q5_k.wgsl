// Q5_K: as Q4_K, with u8 qh[32] before qs: bit j of qh[l] is the fifth bit of weight l of sub-block j.
const BLOCK_BYTES: u32 = 176u;
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
    let qs = at + 48u + 32u * (j / 2u) + inside;
    for (var i = 0u; i < 8u; i++) {
        let pair = two_bytes(qs + 2u * i) >> (4u * (j & 1u));
        let fifth = two_bytes(at + 16u + inside + 2u * i) >> j;
        w[2u * i] = d * f32((pair & 15u) | ((fifth & 1u) << 4u)) - m;
        w[2u * i + 1u] = d * f32(((pair >> 8u) & 15u) | (((fifth >> 8u) & 1u) << 4u)) - m;
    }
}
