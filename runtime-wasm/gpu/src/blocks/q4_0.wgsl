// Q4_0: f16 d, u8 qs[16], weight j in the low nibble of qs[j], j + 16 in the high; w = d * (q - 8).
const BLOCK_BYTES: u32 = 18u;
const PARTS: u32 = 2u;

fn unpack(at: u32, part: u32) {
    let d = half(at);
    for (var i = 0u; i < 8u; i++) {
        let pair = two_bytes(at + 2u + 2u * i) >> (4u * part);
        w[2u * i] = d * (f32(pair & 15u) - 8.0);
        w[2u * i + 1u] = d * (f32((pair >> 8u) & 15u) - 8.0);
    }
}
