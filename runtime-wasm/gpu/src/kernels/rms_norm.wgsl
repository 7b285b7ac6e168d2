// y[c] = weight * x[c] / sqrt(mean(x[c]^2) + eps): (C, n). A workgroup takes a column.
struct Op {
    n: u32,
    eps: f32,
    // 1: the last column alone, to y[0].
    last: u32,
}

@group(0) @binding(1) var<uniform> op: Op;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let source = op.n * select(group.y, step.columns - 1u, op.last == 1u);
    let lane = local.x;
    var sum = 0.0;
    for (var i = lane; i < op.n; i += 64u) {
        let value = x[source + i];
        sum += value * value;
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var stride = 32u; stride > 0u; stride /= 2u) {
        if lane < stride {
            sums[lane] += sums[lane + stride];
        }
        workgroupBarrier();
    }
    let scale = 1.0 / sqrt(sums[0] / f32(op.n) + op.eps);
    for (var i = lane; i < op.n; i += 64u) {
        y[op.n * group.y + i] = weight[i] * (x[source + i] * scale);
    }
}
