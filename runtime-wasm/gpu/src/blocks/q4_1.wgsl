// Q4_1: f16 d, f16 m, u8 qs[16] with nibbles as in Q4_0; w = d * q + m.
const BLOCK_BYTES: u32 = 20u;
const PARTS: u32 = 2u;

fn unpack(at: u32, part: u32) {
    let d = half(at);
    let m = half(at + 2u);
    for (var i = 0u; i < 8u; i++) {
        let pair = two_bytes(at + 4u + 2u * i) >> (4u * part);
        w[2u * i] = d * f32(pair & 15u) + m;
        w[2u * i + 1u] = d * f32((pair >> 8u) & 15u) + m;
    }
}
