//! SwiGLU (Shazeer 2020): `h = silu(gate) * up`, with gate and up side by side in one row `[2F]`.

use super::math::sigmoid;

/// `gate_up` `[T, 2F]` -> `h` `[T, F]`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub fn forward(gate_up: &[f32], ff: usize, h: &mut [f32]) {
    for (row, h) in gate_up.chunks_exact(2 * ff).zip(h.chunks_exact_mut(ff)) {
        let (gate, up) = row.split_at(ff);
        for ((h, g), u) in h.iter_mut().zip(gate).zip(up) {
            *h = g * sigmoid(*g) * u;
        }
    }
}

/// Gradient of [`forward`]: `dh` `[T, F]` -> `d_gate_up` `[T, 2F]`; `h` is recomputed on the way.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub fn backward(gate_up: &[f32], ff: usize, dh: &[f32], d_gate_up: &mut [f32]) {
    let rows = gate_up.chunks_exact(2 * ff).zip(dh.chunks_exact(ff));
    for ((row, dh), d_row) in rows.zip(d_gate_up.chunks_exact_mut(2 * ff)) {
        let (gate, up) = row.split_at(ff);
        let (d_gate, d_up) = d_row.split_at_mut(ff);
        let out = d_gate.iter_mut().zip(d_up);
        for (((g, u), dh), (dg, du)) in gate.iter().zip(up).zip(dh).zip(out) {
            let s = sigmoid(*g);
            let silu = g * s;
            *du = dh * silu;
            *dg = dh * u * (s + silu * (1.0 - s));
        }
    }
}
