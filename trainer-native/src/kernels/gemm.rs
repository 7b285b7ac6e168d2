//! Safe, strided matrix products over the `gemm` crate, on the calling thread.

/// A read-only matrix: element `(r, c)` stands at `data[r * row_stride + c * col_stride]`.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// A row-major `[rows, cols]` matrix without gaps.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major `[rows, cols]` matrix whose rows begin `row_stride` elements apart.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(last_index(rows, cols, row_stride, 1) < data.len() || rows * cols == 0);
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        }
    }

    /// The transposed view.
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

/// A writable row-major matrix whose rows begin `row_stride` elements apart.
pub struct MatMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> MatMut<'a> {
    /// A row-major `[rows, cols]` matrix without gaps.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major `[rows, cols]` matrix whose rows begin `row_stride` elements apart.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(last_index(rows, cols, row_stride, 1) < data.len() || rows * cols == 0);
        Self {
            data,
            rows,
            cols,
            row_stride,
        }
    }
}

fn last_index(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> usize {
    rows.saturating_sub(1) * row_stride + cols.saturating_sub(1) * col_stride
}

/// What happens to the values already in the destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// `c = scale * a b`
    Set,
    /// `c = c + scale * a b`
    Add,
}

/// `c = [c +] scale * a b`, with `a` `[m, k]`, `b` `[k, n]`, `c` `[m, n]`.
pub fn gemm(store: Store, scale: f32, a: Mat, b: Mat, c: MatMut) {
    assert_eq!(a.cols, b.rows, "inner dimensions differ");
    assert_eq!(
        (c.rows, c.cols),
        (a.rows, b.cols),
        "destination shape differs"
    );
    if c.rows == 0 || c.cols == 0 {
        return;
    }
    // SAFETY: every view's furthest index was checked against its slice when it was made, the shapes
    // agree (asserted above), and `c` is a unique borrow that cannot overlap `a` or `b`.
    unsafe {
        gemm::gemm(
            c.rows,
            c.cols,
            a.cols,
            c.data.as_mut_ptr(),
            1,
            c.row_stride as isize,
            store == Store::Add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_products_match_the_definition() {
        let a: Vec<f32> = (0..6 * 10).map(|i| (i as f32 * 0.37).sin()).collect();
        let b: Vec<f32> = (0..5 * 7).map(|i| (i as f32 * 0.91).cos()).collect();
        let mut c = vec![1.0f32; 6 * 9];
        // a is 6 x 5 inside rows of 10; b is stored transposed, 7 x 5.
        gemm(
            Store::Add,
            0.5,
            Mat::strided(&a, 6, 5, 10),
            Mat::new(&b, 7, 5).t(),
            MatMut::strided(&mut c, 6, 7, 9),
        );
        for i in 0..6 {
            for j in 0..9 {
                let want = if j < 7 {
                    1.0 + 0.5 * (0..5).map(|k| a[i * 10 + k] * b[j * 5 + k]).sum::<f32>()
                } else {
                    1.0
                };
                assert!((c[i * 9 + j] - want).abs() < 1e-5);
            }
        }
    }
}
