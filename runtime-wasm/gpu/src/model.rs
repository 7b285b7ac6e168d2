//! A model on the GPU: its weights, and a pipeline for each kernel that they need.

use std::collections::HashMap;
use std::sync::Arc;

use meetara_engine::model::{Config, Model};
use meetara_engine::nn::rope::Rope;
use meetara_format::GgmlType;

use crate::blocks;
use crate::device::Gpu;
use crate::kernels::{Shaders, attention};
use crate::reason::Reason;
use crate::weights::Weights;

/// A model whose sessions run on the GPU.
#[derive(Debug)]
pub struct GpuModel {
    pub(crate) gpu: Gpu,
    pub(crate) weights: Weights,
    pub(crate) config: Config,
    pub(crate) rope: Rope,
    pub(crate) embed: wgpu::ComputePipeline,
    pub(crate) matvec: HashMap<GgmlType, wgpu::ComputePipeline>,
    pub(crate) rms_norm: wgpu::ComputePipeline,
    pub(crate) rotate: wgpu::ComputePipeline,
    pub(crate) attention: wgpu::ComputePipeline,
    pub(crate) silu_mul: wgpu::ComputePipeline,
}

impl GpuModel {
    /// The model that `model` holds, over the weights of the same file. Compiles the kernels.
    ///
    /// # Errors
    /// [`Reason::Unsupported`] for another architecture or longer heads, [`Reason::Failed`] when a
    /// shader does not compile.
    pub async fn new(gpu: Gpu, weights: Weights, model: &Model) -> Result<Arc<Self>, Reason> {
        Self::with_shaders(gpu, weights, model, &Shaders::default()).await
    }

    /// [`Self::new`] with other shaders: a test swaps one to see that a wrong one is noticed.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub async fn with_shaders(
        gpu: Gpu,
        weights: Weights,
        model: &Model,
        shaders: &Shaders,
    ) -> Result<Arc<Self>, Reason> {
        let config = model.config().clone();
        if config.architecture != "llama" {
            return Err(Reason::unsupported(format!(
                "its architecture is {:?}, the GPU's kernels are for \"llama\"",
                config.architecture
            )));
        }
        if config.head_dim > attention::HEAD_DIM_MAX {
            return Err(Reason::unsupported(format!(
                "its heads have {} elements, the GPU's kernels take {}",
                config.head_dim,
                attention::HEAD_DIM_MAX
            )));
        }
        let embedding = weights.matrix("token_embd.weight", config.n_embd, config.n_vocab)?;
        let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let plain = |name, kernel: &str| pipeline(&gpu, name, &[&shaders.step, kernel]);
        let reading = |name, ty: GgmlType, kernel: &str| {
            let block = blocks::source(ty).unwrap_or_default();
            pipeline(&gpu, name, &[&shaders.step, blocks::BYTES, block, kernel])
        };
        let embed = reading("embed", embedding.ty, &shaders.embed);
        let mut matvec = HashMap::new();
        for ty in weights.types() {
            matvec
                .entry(ty)
                .or_insert_with(|| reading("matvec", ty, &shaders.matvec));
        }
        let rms_norm = plain("rms_norm", &shaders.rms_norm);
        let rotate = plain("rope", &shaders.rope);
        let attention = plain("attention", &shaders.attention);
        let silu_mul = plain("silu_mul", &shaders.silu_mul);
        if let Some(error) = scope.pop().await {
            return Err(Reason::Failed {
                what: error.to_string(),
            });
        }
        gpu.check()?;
        Ok(Arc::new(Self {
            rope: model.rope().clone(),
            weights,
            config,
            embed,
            matvec,
            rms_norm,
            rotate,
            attention,
            silu_mul,
            gpu,
        }))
    }

    /// The device.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }
}

fn pipeline(gpu: &Gpu, name: &str, parts: &[&str]) -> wgpu::ComputePipeline {
    let module = gpu
        .device
        .create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(name),
            source: wgpu::ShaderSource::Wgsl(parts.concat().into()),
        });
    gpu.device
        .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        })
}
