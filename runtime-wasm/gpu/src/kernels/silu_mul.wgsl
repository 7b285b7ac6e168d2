// gate[c] = silu(gate[c]) * up[c]: (C, n), silu(x) = x / (1 + exp(-x)).
struct Op {
    n: u32,
}

@group(0) @binding(1) var<uniform> op: Op;
@group(0) @binding(2) var<storage, read_write> gate: array<f32>;
@group(0) @binding(3) var<storage, read> up: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= op.n || id.y >= step.columns {
        return;
    }
    let at = id.y * op.n + id.x;
    let x = gate[at];
    gate[at] = x / (1.0 + exp(-x)) * up[at];
}
