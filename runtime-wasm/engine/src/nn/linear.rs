//! Matrix times vectors: `y[c] = W x[c] + b`.
//!
//! The weights stay where they lie in the file, but quantised rows are woven
//! together there, eight by eight ([`layout`]). [`Matrix`] alone knows it: it
//! weaves when a model is loaded, and hands single rows out as the file had them.

use std::ops::Range;
use std::sync::Arc;

use meetara_format::{GgmlType, block};

use super::lora::Mix;
use super::memory;
use super::pool::{Pool, THREADS, WORK_MIN, for_each_run, run_len};
use crate::error::{Error, Result};
use crate::kernels::dispatch::Product;
use crate::kernels::layout::{self, GROUP, Weights};
use crate::kernels::{COLUMN_TILE, Kernels, Q8, Q8_LEN, Q8K, Q8K_LEN, SUMS};

/// A weight matrix (n_out, n_in) inside a file.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Element type.
    pub ty: GgmlType,
    /// Length of a row.
    pub n_in: usize,
    /// How many rows.
    pub n_out: usize,
    /// Where the rows lie in the file.
    range: Range<usize>,
    row_bytes: usize,
    product: Product,
    /// The rows beyond the last eight, woven; empty when there are none.
    tail: Vec<u8>,
}

impl Matrix {
    /// The matrix of `n_out` rows of `n_in` elements at `range` of a file of
    /// `file_len` bytes. `name` is for the error.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidModel`](crate::ErrorKind::InvalidModel) when the range is not
    /// exactly that matrix, [`ErrorKind::UnsupportedModel`](crate::ErrorKind::UnsupportedModel)
    /// when there are no kernels for the type.
    ///
    /// [`Self::weave`] has to follow before the matrix is used.
    pub fn new(
        kernels: &Kernels,
        name: &str,
        ty: GgmlType,
        [n_in, n_out]: [usize; 2],
        range: Range<usize>,
        file_len: usize,
    ) -> Result<Self> {
        let Some(product) = kernels.product(ty) else {
            return Err(Error::unsupported_model(format!(
                "tensor {name} has type {ty}, for which there are no kernels; convert the file to Q4_K_M or Q8_0"
            )));
        };
        let row_bytes = ty.row_bytes(n_in).filter(|&bytes| bytes > 0);
        let bytes = row_bytes.and_then(|bytes| bytes.checked_mul(n_out));
        match (row_bytes, bytes) {
            (Some(row_bytes), Some(bytes))
                if bytes > 0 && bytes == range.len() && range.end <= file_len =>
            {
                Ok(Self {
                    ty,
                    n_in,
                    n_out,
                    range,
                    row_bytes,
                    product,
                    tail: Vec::new(),
                })
            }
            _ => Err(Error::invalid_model(format!(
                "tensor {name} of type {ty} and shape [{n_in}, {n_out}] does not take the {} bytes at {} of {file_len} bytes of data",
                range.len(),
                range.start
            ))),
        }
    }

    /// Bytes of the weights.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.range.len()
    }

    /// Brings the rows into the order that products take. Once for each matrix; `file` is the
    /// file that it was made for.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidModel`](crate::ErrorKind::InvalidModel) when a scale is infinite or NaN.
    pub fn weave(&mut self, file: &mut [u8]) -> Result<()> {
        if layout::is_woven(self.ty) {
            let rows = &mut file[self.range.clone()];
            self.tail = layout::weave(self.ty, rows, self.row_bytes).map_err(|place| {
                Error::invalid_model(format!(
                    "in the {} weights at byte {} of the file's data {place}; the file is damaged",
                    self.ty, self.range.start
                ))
            })?;
        }
        Ok(())
    }

    fn rows<'f>(&self, file: &'f [u8]) -> &'f [u8] {
        &file[self.range.clone()]
    }

    fn weights<'f>(&'f self, file: &'f [u8]) -> Weights<'f> {
        let full = self.n_out / GROUP * GROUP * self.row_bytes;
        Weights {
            groups: &self.rows(file)[..full],
            tail: &self.tail,
        }
    }

    /// Calls `on_block` with every block of row `row` as the file had it.
    fn for_each_block(&self, file: &[u8], row: usize, mut on_block: impl FnMut(usize, &[u8])) {
        assert!(row < self.n_out);
        let bytes = self.ty.block_bytes();
        if layout::is_woven(self.ty) {
            let mut block = [0; layout::BLOCK_BYTES_MAX];
            let block = &mut block[..bytes];
            let group = self
                .weights(file)
                .group(row / GROUP, GROUP * self.row_bytes);
            for (index, woven) in group.chunks_exact(GROUP * bytes).enumerate() {
                layout::unweave_block(self.ty, woven, row % GROUP, block);
                on_block(index, block);
            }
        } else {
            let row = &self.rows(file)[row * self.row_bytes..][..self.row_bytes];
            on_block(0, row);
        }
    }

    /// Row `row` as the file had it, appended to `out`.
    pub fn append_row(&self, file: &[u8], row: usize, out: &mut Vec<u8>) {
        self.for_each_block(file, row, |_, block| out.extend_from_slice(block));
    }

    /// Row `row` as `f32`: `out` is (n_in).
    pub fn dequantize_row(&self, file: &[u8], row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.n_in);
        let len = if layout::is_woven(self.ty) {
            self.ty.block_len()
        } else {
            self.n_in
        };
        self.for_each_block(file, row, |index, block| {
            let out = &mut out[index * len..][..len];
            match self.ty {
                GgmlType::F32 => block::f32::dequantize_row(block, out),
                GgmlType::F16 => block::f16::dequantize_row(block, out),
                GgmlType::BF16 => block::bf16::dequantize_row(block, out),
                GgmlType::Q4_0 => block::q4_0::dequantize_row(block, out),
                GgmlType::Q4_1 => block::q4_1::dequantize_row(block, out),
                GgmlType::Q5_0 => block::q5_0::dequantize_row(block, out),
                GgmlType::Q5_1 => block::q5_1::dequantize_row(block, out),
                GgmlType::Q8_0 => block::q8_0::dequantize_row(block, out),
                GgmlType::Q4_K => block::q4_k::dequantize_row(block, out),
                GgmlType::Q5_K => block::q5_k::dequantize_row(block, out),
                GgmlType::Q6_K => block::q6_k::dequantize_row(block, out),
                // `new` takes no type without kernels, and these are all that have some.
                _ => out.fill(f32::NAN),
            }
        });
    }

    /// `out[c] = W x[c]`: `out` is (C, n_out).
    pub fn forward(&self, kernels: &Kernels, file: &[u8], x: &mut Input<'_>, out: &mut [f32]) {
        assert_eq!(x.len, self.n_in);
        let weights = self.weights(file);
        let columns = x.columns();
        let one = columns == 1;
        if THREADS
            && let Some(pool) = x.store.pool.clone()
            && self.n_in * self.n_out * columns >= WORK_MIN
            && pool.pieces() > 1
        {
            return self.forward_on(&*pool, kernels, file, x, out);
        }
        match self.product {
            Product::Q8(product) => {
                let x = x.q8(kernels);
                (if one { product.matvec } else { product.matmul })(weights, x, out);
            }
            Product::Q8K(product) => {
                let x = x.q8k(kernels);
                (if one { product.matvec } else { product.matmul })(weights, x, out);
            }
            Product::F32(product) if one => (product.matvec)(self.rows(file), x.values, out),
            Product::F32(product) => {
                (product.matmul)(self.rows(file), x.len, x.values, out);
            }
        }
    }
}

impl Matrix {
    /// [`Self::forward`] in pieces: rows of a single column, else columns.
    fn forward_on(
        &self,
        pool: &dyn Pool,
        kernels: &Kernels,
        file: &[u8],
        x: &mut Input<'_>,
        out: &mut [f32],
    ) {
        let weights = self.weights(file);
        let (n_in, n_out, columns) = (self.n_in, self.n_out, x.columns());
        let by_row = columns == 1;
        let (width, run) = if by_row {
            (1, run_len(n_out, GROUP, pool.pieces()))
        } else {
            (n_out, run_len(columns, COLUMN_TILE, pool.pieces()))
        };
        match self.product {
            Product::Q8(product) => {
                let x = x.q8(kernels);
                for_each_run(pool, out, width, run, |range, out| {
                    if by_row {
                        (product.matvec)(weights.part(range, self.row_bytes), x, out);
                    } else {
                        (product.matmul)(weights, x.part(range), out);
                    }
                });
            }
            Product::Q8K(product) => {
                let x = x.q8k(kernels);
                for_each_run(pool, out, width, run, |range, out| {
                    if by_row {
                        (product.matvec)(weights.part(range, self.row_bytes), x, out);
                    } else {
                        (product.matmul)(weights, x.part(range), out);
                    }
                });
            }
            Product::F32(product) => {
                let (rows, x) = (self.rows(file), x.values);
                for_each_run(pool, out, width, run, |range, out| {
                    if by_row {
                        let bytes = range.start * self.row_bytes..range.end * self.row_bytes;
                        (product.matvec)(&rows[bytes], x, out);
                    } else {
                        let x = &x[range.start * n_in..range.end * n_in];
                        (product.matmul)(rows, n_in, x, out);
                    }
                });
            }
        }
    }
}

/// A matrix, maybe a bias, and what adapters add.
#[derive(Clone, Debug)]
pub struct Linear {
    /// (n_out, n_in)
    pub weight: Matrix,
    /// (n_out)
    pub bias: Option<Vec<f32>>,
    /// Of the weight in the file's tensor table: where adapters have their pair.
    pub index: usize,
}

impl Linear {
    /// `out[c] = W x[c] + b`, and what the adapters in `x` add: `out` is (C, n_out).
    pub fn forward(&self, kernels: &Kernels, file: &[u8], x: &mut Input<'_>, out: &mut [f32]) {
        self.weight.forward(kernels, file, x, out);
        if let Some(bias) = &self.bias {
            for out in out.chunks_exact_mut(bias.len()) {
                super::add(out, bias);
            }
        }
        x.store.adapters.add(kernels, self.index, x.values, out);
    }
}

/// Room for activations quantised to 8 bits, in blocks of 32 or of 256, and the
/// adapters in use.
#[derive(Debug)]
pub struct QuantStore {
    /// (C, len)
    quants: Vec<i8>,
    /// (blocks, stride)
    scales: Vec<f32>,
    /// Of blocks of 32: (blocks, stride)
    sums: Vec<i32>,
    /// Of blocks of 256: (C, len / 256, 24)
    sums_k: Vec<i16>,
    /// Added by every [`Linear`].
    pub adapters: Mix,
    /// Threads that the host lends; without them all work is done on the calling one.
    pub pool: Option<Arc<dyn Pool>>,
}

impl QuantStore {
    /// Room for `columns` vectors of `len`.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn new(columns: usize, len: usize) -> Result<Self> {
        let what = "quantised activations";
        let blocks = memory::product(&[stride(columns), len / Q8_LEN], what)?;
        let values = memory::product(&[columns, len], what)?;
        Ok(Self {
            quants: memory::zeroed(values, what)?,
            scales: memory::zeroed(blocks, what)?,
            sums: memory::zeroed(blocks, what)?,
            sums_k: memory::zeroed(values / Q8K_LEN * SUMS, what)?,
            adapters: Mix::default(),
            pool: None,
        })
    }

    /// Bytes of the buffers.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.quants.len() + 4 * (self.scales.len() + self.sums.len()) + 2 * self.sums_k.len()
    }
}

/// The stride of scales and sums for this many columns.
fn stride(columns: usize) -> usize {
    columns.next_multiple_of(COLUMN_TILE)
}

/// Vectors on their way into matrices. Quantised at the first matrix that
/// wants it so, and no more than once for all that follow; the borrow keeps
/// the values from changing in between.
#[derive(Debug)]
pub struct Input<'a> {
    /// (C, len)
    values: &'a [f32],
    len: usize,
    store: &'a mut QuantStore,
    /// The block length that `store` holds `values` in.
    held: Option<usize>,
}

impl<'a> Input<'a> {
    /// `values` is (C, len).
    #[must_use]
    pub fn new(values: &'a [f32], len: usize, store: &'a mut QuantStore) -> Self {
        assert!(len > 0 && values.len().is_multiple_of(len));
        Self {
            values,
            len,
            store,
            held: None,
        }
    }

    fn columns(&self) -> usize {
        self.values.len() / self.len
    }

    fn q8(&mut self, kernels: &Kernels) -> Q8<'_> {
        let (n, stride) = (self.values.len(), stride(self.columns()));
        let blocks = self.len / Q8_LEN * stride;
        let QuantStore {
            quants,
            scales,
            sums,
            ..
        } = &mut *self.store;
        if self.held != Some(Q8_LEN) {
            let vectors = self
                .values
                .chunks_exact(self.len)
                .zip(quants.chunks_exact_mut(self.len));
            for (column, (x, quants)) in vectors.enumerate() {
                let (scales, sums) = (&mut scales[column..blocks], &mut sums[column..blocks]);
                (kernels.quantize_q8)(x, quants, scales, sums, stride);
            }
            self.held = Some(Q8_LEN);
        }
        Q8 {
            len: self.len,
            stride,
            quants: &quants[..n],
            scales: &scales[..blocks],
            sums: &sums[..blocks],
        }
    }

    fn q8k(&mut self, kernels: &Kernels) -> Q8K<'_> {
        let (n, stride) = (self.values.len(), stride(self.columns()));
        let blocks = self.len / Q8K_LEN * stride;
        let QuantStore {
            quants,
            scales,
            sums_k,
            ..
        } = &mut *self.store;
        if self.held != Some(Q8K_LEN) {
            let sums = sums_k.chunks_exact_mut(self.len / Q8K_LEN * SUMS);
            let outputs = quants.chunks_exact_mut(self.len).zip(sums);
            let vectors = self.values.chunks_exact(self.len).zip(outputs);
            for (column, (x, (quants, sums))) in vectors.enumerate() {
                (kernels.quantize_q8k)(x, quants, &mut scales[column..blocks], sums, stride);
            }
            self.held = Some(Q8K_LEN);
        }
        Q8K {
            len: self.len,
            stride,
            quants: &quants[..n],
            scales: &scales[..blocks],
            sums: &sums_k[..n / Q8K_LEN * SUMS],
        }
    }
}
