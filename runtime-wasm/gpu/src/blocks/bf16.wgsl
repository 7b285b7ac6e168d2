// BF16: the upper halves of F32 numbers; sixteen are a part, which may reach past the end of its row.
const BLOCK_BYTES: u32 = 32u;
const PARTS: u32 = 1u;

fn unpack(at: u32, part: u32) {
    for (var i = 0u; i < 16u; i++) {
        w[i] = bitcast<f32>(two_bytes(at + 2u * i) << 16u);
    }
}
