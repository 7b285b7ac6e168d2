// F16: sixteen numbers are a part. The last one of a row may reach past its end.
const BLOCK_BYTES: u32 = 32u;
const PARTS: u32 = 1u;

fn unpack(at: u32, part: u32) {
    for (var i = 0u; i < 16u; i++) {
        w[i] = half(at + 2u * i);
    }
}
