// Causal grouped-query attention: out[c] (n_head, head_dim) over the positions 0..=first + c of one
// layer's cache. A workgroup takes a head and a column and goes through the positions 64 at a time,
// keeping the largest score and rescaling what it has summed when that grows (online softmax: Milakov
// and Gimelshein, 2018), so no row of scores is stored.
struct Op {
    n_head: u32,
    n_head_kv: u32,
    // At most 256.
    head_dim: u32,
    // 1 / sqrt(head_dim)
    scale: f32,
}

@group(0) @binding(1) var<uniform> op: Op;
@group(0) @binding(2) var<storage, read> q: array<f32>;
// (T, n_head_kv, head_dim)
@group(0) @binding(3) var<storage, read> keys: array<f32>;
@group(0) @binding(4) var<storage, read> values: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

const LOWEST: f32 = -1e30;

var<workgroup> query: array<f32, 256>;
var<workgroup> parts: array<f32, 64>;
var<workgroup> weights: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let lane = local.x;
    let head = group.x;
    let at = (group.y * op.n_head + head) * op.head_dim;
    let width = op.n_head_kv * op.head_dim;
    let head_kv = head / (op.n_head / op.n_head_kv) * op.head_dim;
    for (var i = lane; i < op.head_dim; i += 64u) {
        query[i] = q[at + i] * op.scale;
    }
    workgroupBarrier();

    let total = step.first + group.y + 1u;
    var largest = LOWEST;
    var sum = 0.0;
    var acc = array<f32, 4>();
    for (var start = 0u; start < total; start += 64u) {
        let position = start + lane;
        var score = LOWEST;
        if position < total {
            score = 0.0;
            for (var i = 0u; i < op.head_dim; i++) {
                score += query[i] * keys[position * width + head_kv + i];
            }
        }
        parts[lane] = score;
        workgroupBarrier();
        for (var stride = 32u; stride > 0u; stride /= 2u) {
            if lane < stride {
                parts[lane] = max(parts[lane], parts[lane + stride]);
            }
            workgroupBarrier();
        }
        let largest_now = max(largest, parts[0]);
        workgroupBarrier();
        let weight = select(0.0, exp(score - largest_now), position < total);
        weights[lane] = weight;
        parts[lane] = weight;
        workgroupBarrier();
        for (var stride = 32u; stride > 0u; stride /= 2u) {
            if lane < stride {
                parts[lane] += parts[lane + stride];
            }
            workgroupBarrier();
        }
        let shrink = exp(largest - largest_now);
        sum = sum * shrink + parts[0];
        largest = largest_now;
        let count = min(64u, total - start);
        for (var n = 0u; n < 4u; n++) {
            let i = lane + 64u * n;
            if i < op.head_dim {
                var a = acc[n] * shrink;
                for (var t = 0u; t < count; t++) {
                    a += weights[t] * values[(start + t) * width + head_kv + i];
                }
                acc[n] = a;
            }
        }
        workgroupBarrier();
    }
    for (var n = 0u; n < 4u; n++) {
        let i = lane + 64u * n;
        if i < op.head_dim {
            out[at + i] = acc[n] / sum;
        }
    }
}
