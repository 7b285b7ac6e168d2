// x[c] = row tokens[c] of the embedding: (C, n_in). One thread unpacks sixteen weights.
struct Op {
    n_in: u32,
    row_bytes: u32,
}

@group(0) @binding(1) var<uniform> op: Op;
@group(0) @binding(3) var<storage, read> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let start = 16u * id.x;
    let column = id.y;
    if start >= op.n_in || column >= step.columns {
        return;
    }
    unpack(tokens[column] * op.row_bytes + id.x / PARTS * BLOCK_BYTES, id.x % PARTS);
    let len = min(16u, op.n_in - start);
    for (var i = 0u; i < len; i++) {
        x[column * op.n_in + start + i] = w[i];
    }
}
