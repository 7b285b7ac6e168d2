// Q8_0: f16 d, i8 q[32]; w = d * q.
const BLOCK_BYTES: u32 = 34u;
const PARTS: u32 = 2u;

fn unpack(at: u32, part: u32) {
    let d = half(at);
    for (var i = 0u; i < 8u; i++) {
        let pair = bitcast<i32>(two_bytes(at + 2u + 16u * part + 2u * i));
        w[2u * i] = d * f32(extractBits(pair, 0u, 8u));
        w[2u * i + 1u] = d * f32(extractBits(pair, 8u, 8u));
    }
}
