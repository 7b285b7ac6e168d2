// y[c] = W x[c] (+ b) (+ y[c]): (C, n_out). A workgroup takes 4 rows and 4 columns: the 16 lanes of a
// row unpack sixteen weights each, use them for all columns, and their sums meet in workgroup memory.
struct Op {
    n_in: u32,
    n_out: u32,
    row_bytes: u32,
    flags: u32,
}

// Add to what y holds.
const ADD: u32 = 1u;
// Add a bias.
const BIAS: u32 = 2u;
// y is a cache: column 0 lies at the position `step.first`.
const CACHE: u32 = 4u;
// One column only, whatever the pass has.
const ONE: u32 = 8u;

@group(0) @binding(1) var<uniform> op: Op;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> x: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

// (rows, lanes), a column in each component.
var<workgroup> sums: array<vec4<f32>, 64>;

@compute @workgroup_size(16, 4)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let lane = local.x;
    let row = 4u * group.x + local.y;
    let column = 4u * group.y;
    let columns = select(step.columns, 1u, (op.flags & ONE) != 0u);
    let count = min(4u, max(columns, column) - column);
    var sum = vec4<f32>();
    if row < op.n_out {
        let parts = (op.n_in + 15u) / 16u;
        for (var part = lane; part < parts; part += 16u) {
            unpack(row * op.row_bytes + part / PARTS * BLOCK_BYTES, part % PARTS);
            let start = 16u * part;
            let len = min(16u, op.n_in - start);
            for (var c = 0u; c < count; c++) {
                let at = (column + c) * op.n_in + start;
                var s = 0.0;
                for (var i = 0u; i < len; i++) {
                    s += w[i] * x[at + i];
                }
                sum[c] += s;
            }
        }
    }
    let index = 16u * local.y + lane;
    sums[index] = sum;
    workgroupBarrier();
    for (var stride = 8u; stride > 0u; stride /= 2u) {
        if lane < stride {
            sums[index] += sums[index + stride];
        }
        workgroupBarrier();
    }
    if lane < count && row < op.n_out {
        let first = select(0u, step.first, (op.flags & CACHE) != 0u);
        let at = (first + column + lane) * op.n_out + row;
        var value = sums[16u * local.y][lane];
        if (op.flags & BIAS) != 0u {
            value += bias[row];
        }
        if (op.flags & ADD) != 0u {
            value += y[at];
        }
        y[at] = value;
    }
}
