//! Finding tensors by name, and checking that each is what the model needs.

use meetara_format::{GgmlType, Gguf, TensorInfo};

use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::nn::linear::{Linear, Matrix};
#[cfg(feature = "encoder")]
use crate::nn::norm::LayerNorm;
use crate::nn::norm::RmsNorm;

/// The tensor table of a file, with a note of which tensors were taken.
pub(crate) struct Tensors<'a> {
    gguf: &'a Gguf,
    file: &'a [u8],
    kernels: &'a Kernels,
    /// One for each tensor of the table.
    taken: Vec<bool>,
}

impl<'a> Tensors<'a> {
    pub(crate) fn new(gguf: &'a Gguf, file: &'a [u8], kernels: &'a Kernels) -> Self {
        Self {
            gguf,
            file,
            kernels,
            taken: vec![false; gguf.tensors.len()],
        }
    }

    fn find(&mut self, name: &str) -> Option<&'a TensorInfo> {
        let index = self
            .gguf
            .tensors
            .iter()
            .position(|tensor| tensor.name == name)?;
        self.taken[index] = true;
        Some(&self.gguf.tensors[index])
    }

    fn missing(name: &str) -> Error {
        Error::invalid_model(format!("the tensor {name} is missing from the file"))
    }

    /// How many rows the table gives for the matrix `name`.
    pub(crate) fn rows(&self, name: &str) -> Result<usize> {
        let tensor = self.gguf.tensor(name).ok_or_else(|| Self::missing(name))?;
        match *tensor.shape() {
            [_, rows] => Ok(usize::try_from(rows).unwrap_or(usize::MAX)),
            ref shape => Err(Error::invalid_model(format!(
                "the tensor {name} has shape {shape:?}, it must have two dimensions"
            ))),
        }
    }

    /// How many rows the table gives for `name`; of a vector, one.
    #[cfg(feature = "encoder")]
    pub(crate) fn optional_rows(&self, name: &str) -> Option<usize> {
        let rows = self.gguf.tensor(name)?.shape().get(1).copied();
        usize::try_from(rows.unwrap_or(1)).ok()
    }

    /// Asserts a shape, ones at its end left out.
    fn check_shape(tensor: &TensorInfo, wanted: &[usize]) -> Result<()> {
        let fits = tensor
            .dims
            .iter()
            .enumerate()
            .all(|(i, &dim)| dim == wanted.get(i).map_or(1, |&n| n as u64));
        if fits {
            return Ok(());
        }
        Err(Error::invalid_model(format!(
            "the tensor {} has shape {:?}, the file's metadata asks for {wanted:?}",
            tensor.name,
            tensor.shape()
        )))
    }

    /// The matrix `name` of `n_out` rows of `n_in`.
    pub(crate) fn matrix(&mut self, name: &str, n_in: usize, n_out: usize) -> Result<Matrix> {
        self.optional_matrix(name, n_in, n_out)?
            .ok_or_else(|| Self::missing(name))
    }

    /// Like [`Self::matrix`]; `None` when the file has no such tensor.
    pub(crate) fn optional_matrix(
        &mut self,
        name: &str,
        n_in: usize,
        n_out: usize,
    ) -> Result<Option<Matrix>> {
        let Some(tensor) = self.find(name) else {
            return Ok(None);
        };
        Self::check_shape(tensor, &[n_in, n_out])?;
        let range = self.gguf.tensor_range(tensor);
        Matrix::new(
            self.kernels,
            name,
            tensor.ty,
            [n_in, n_out],
            range,
            self.file.len(),
        )
        .map(Some)
    }

    /// `{name}.weight`, and `{name}.bias` where the file has one.
    pub(crate) fn linear(&mut self, name: &str, n_in: usize, n_out: usize) -> Result<Linear> {
        self.optional_linear(name, n_in, n_out)?
            .ok_or_else(|| Self::missing(&format!("{name}.weight")))
    }

    /// Like [`Self::linear`]; `None` when the file has no such weight.
    pub(crate) fn optional_linear(
        &mut self,
        name: &str,
        n_in: usize,
        n_out: usize,
    ) -> Result<Option<Linear>> {
        let weight_name = format!("{name}.weight");
        let Some(weight) = self.optional_matrix(&weight_name, n_in, n_out)? else {
            return Ok(None);
        };
        let tensors = &self.gguf.tensors;
        let index = tensors.iter().position(|t| t.name == weight_name);
        Ok(Some(Linear {
            weight,
            bias: self.optional_vector(&format!("{name}.bias"), n_out)?,
            index: index.unwrap_or(usize::MAX),
        }))
    }

    /// The weights of a norm: F32, as every writer keeps them.
    pub(crate) fn norm(&mut self, name: &str, len: usize, eps: f32) -> Result<RmsNorm> {
        let weight = self
            .optional_vector(name, len)?
            .ok_or_else(|| Self::missing(name))?;
        Ok(RmsNorm { weight, eps })
    }

    /// The weights and the bias of a layer norm.
    #[cfg(feature = "encoder")]
    pub(crate) fn layer_norm(&mut self, name: &str, len: usize, eps: f32) -> Result<LayerNorm> {
        let mut vector = |part: &str| {
            let name = format!("{name}.{part}");
            self.optional_vector(&name, len)?
                .ok_or_else(|| Self::missing(&name))
        };
        Ok(LayerNorm {
            weight: vector("weight")?,
            bias: vector("bias")?,
            eps,
        })
    }

    /// A vector of `len` numbers of type F32; `None` when the file has no such tensor.
    pub(crate) fn optional_vector(&mut self, name: &str, len: usize) -> Result<Option<Vec<f32>>> {
        let Some(tensor) = self.find(name) else {
            return Ok(None);
        };
        Self::check_shape(tensor, &[len])?;
        if tensor.ty != GgmlType::F32 {
            return Err(Error::unsupported_model(format!(
                "the tensor {name} has type {}, norms and biases must be F32",
                tensor.ty
            )));
        }
        let bytes = self.gguf.tensor_data(tensor, self.file)?.as_chunks().0;
        Ok(Some(bytes.iter().map(|&b| f32::from_le_bytes(b)).collect()))
    }

    /// An error when the file has a tensor that nothing took: the model would
    /// run without a part of itself, and be silently wrong.
    pub(crate) fn all_taken(&self, architecture: &str) -> Result<()> {
        let left = self
            .taken
            .iter()
            .zip(&self.gguf.tensors)
            .find(|(taken, _)| !**taken);
        match left {
            None => Ok(()),
            Some((_, tensor)) => Err(Error::unsupported_model(format!(
                "the tensor {} is no part of a {architecture} model as this engine knows it",
                tensor.name
            ))),
        }
    }
}
