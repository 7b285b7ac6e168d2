// Turns each pair (2 i, 2 i + 1) of every head of x[c], (C, n), by the angle of its position. A thread
// takes a pair.
struct Op {
    n: u32,
    head_dim: u32,
    // 1: x is a cache, column 0 lies at the position `step.first`.
    cache: u32,
}

@group(0) @binding(1) var<uniform> op: Op;
// (cos, sin): (C, head_dim / 2)
@group(0) @binding(2) var<storage, read> angles: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.y;
    if 2u * id.x >= op.n || column >= step.columns {
        return;
    }
    let pairs = op.head_dim / 2u;
    let angle = angles[column * pairs + id.x % pairs];
    let at = (select(0u, step.first, op.cache == 1u) + column) * op.n + 2u * id.x;
    let a = x[at];
    let b = x[at + 1u];
    x[at] = a * angle.x - b * angle.y;
    x[at + 1u] = a * angle.y + b * angle.x;
}
