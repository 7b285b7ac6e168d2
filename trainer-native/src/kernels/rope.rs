//! Rotary position embedding on adjacent pairs `(2i, 2i + 1)`, as GGUF's llama stores it.

/// Cosines and sines for `positions` positions, each `[positions, D / 2]`.
#[derive(Debug)]
pub struct Table {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Table {
    /// Angles are `position * base^(-2i / D)`.
    pub fn new(positions: usize, head_width: usize, base: f64) -> Self {
        let half = head_width / 2;
        let angle = |p: usize, i: usize| p as f64 * base.powf(-2.0 * i as f64 / head_width as f64);
        let fill = |f: fn(f64) -> f64| {
            (0..positions)
                .flat_map(|p| (0..half).map(move |i| (p, i)))
                .map(|(p, i)| f(angle(p, i)) as f32)
                .collect()
        };
        Self {
            half,
            cos: fill(f64::cos),
            sin: fill(f64::sin),
        }
    }

    /// How many positions the table holds.
    pub fn positions(&self) -> usize {
        self.cos.len() / self.half.max(1)
    }

    /// The cosines and sines, each `[positions, D / 2]`.
    pub fn parts(&self) -> (&[f32], &[f32]) {
        (&self.cos, &self.sin)
    }

    /// Rotates the first `heads` heads of every row of `x` `[T, row_len]`; `direction` is 1 forward and
    /// -1 for the gradient (a rotation's transpose).
    pub fn rotate(&self, x: &mut [f32], row_len: usize, heads: usize, direction: f32) {
        rotate(
            x, row_len, heads, self.half, &self.cos, &self.sin, direction,
        );
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn rotate(
    x: &mut [f32],
    row_len: usize,
    heads: usize,
    half: usize,
    cos: &[f32],
    sin: &[f32],
    direction: f32,
) {
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for (row, (cos, sin)) in x.chunks_exact_mut(row_len).zip(angles) {
        for head in row[..heads * half * 2].chunks_exact_mut(half * 2) {
            for ((pair, c), s) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
                let s = s * direction;
                let (a, b) = (pair[0], pair[1]);
                pair[0] = a * c - b * s;
                pair[1] = a * s + b * c;
            }
        }
    }
}
