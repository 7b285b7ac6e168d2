// Q6_K: u8 ql[128], u8 qh[64], i8 scales[16], f16 d; w = d * scale_(i / 16) * (q - 32). Two halves of
// four quarters of 32 weights; a part is half a quarter.
const BLOCK_BYTES: u32 = 210u;
const PARTS: u32 = 16u;

fn unpack(at: u32, part: u32) {
    let h = part / 8u;
    let quarter = (part % 8u) / 2u;
    let inside = 16u * (part & 1u);
    let scale = extractBits(bitcast<i32>(byte(at + 192u + part)), 0u, 8u);
    let d = half(at + 208u) * f32(scale);
    let ql = at + 64u * h + 32u * (quarter & 1u) + inside;
    let qh = at + 128u + 32u * h + inside;
    for (var i = 0u; i < 8u; i++) {
        let low = two_bytes(ql + 2u * i) >> (4u * (quarter / 2u));
        let high = two_bytes(qh + 2u * i) >> (2u * quarter);
        w[2u * i] = d * (f32((low & 15u) | ((high & 3u) << 4u)) - 32.0);
        w[2u * i + 1u] = d * (f32(((low >> 8u) & 15u) | (((high >> 8u) & 3u) << 4u)) - 32.0);
    }
}
