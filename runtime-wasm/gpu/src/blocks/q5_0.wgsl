// Q5_0: f16 d, u32 qh, u8 qs[16]; the fifth bit of weight i is bit i of qh; w = d * (q - 16).
const BLOCK_BYTES: u32 = 22u;
const PARTS: u32 = 2u;

fn unpack(at: u32, part: u32) {
    let d = half(at);
    let fifth = four_bytes(at + 2u) >> (16u * part);
    for (var i = 0u; i < 8u; i++) {
        let pair = two_bytes(at + 6u + 2u * i) >> (4u * part);
        let low = (pair & 15u) | (extractBits(fifth, 2u * i, 1u) << 4u);
        let high = ((pair >> 8u) & 15u) | (extractBits(fifth, 2u * i + 1u, 1u) << 4u);
        w[2u * i] = d * (f32(low) - 16.0);
        w[2u * i + 1u] = d * (f32(high) - 16.0);
    }
}
