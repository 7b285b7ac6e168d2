//! A model: the bytes of one GGUF file, checked, with its tokenizer and template.

pub mod adapter;
pub mod adapter_pool;
mod config;
mod llama;
pub(crate) mod tensors;

use meetara_format::{Gguf, Value};

pub use adapter::Adapter;
pub use adapter_pool::AdapterPool;
pub use config::Config;
pub(crate) use llama::{Llama, Scratch};

use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::nn::memory;
use crate::nn::rope::Rope;
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;

/// What the tokenizer's tables take while they are made, as a multiple of the file's header, and what all
/// else takes beside the weights.
const TABLES_PER_HEADER: usize = 4;
const LOAD_BYTES: usize = 64 << 10;

/// Metadata arrays longer than this are dropped once the tokenizer has read them.
const ARRAY_KEPT_MAX: usize = 64;

/// A loaded model. Sessions share it; it never changes.
#[derive(Debug)]
pub struct Model {
    /// The file from its data on. Weights are used where they lie in it, brought there into the
    /// kernels' order.
    file: Vec<u8>,
    /// Of the whole file.
    file_bytes: usize,
    gguf: Gguf,
    config: Config,
    llama: Llama,
    tokenizer: Tokenizer,
    chat_template: Option<ChatTemplate>,
    kernels: Kernels,
    /// Made when it is first asked for.
    #[cfg(feature = "constrained")]
    vocabulary: std::sync::OnceLock<Result<meetara_constraint::Vocabulary>>,
}

impl Model {
    /// Takes the bytes of a GGUF file and checks everything that running it
    /// relies on. The weights are not copied.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidModel`](crate::ErrorKind::InvalidModel) when the file is damaged or
    /// contradicts itself, [`ErrorKind::UnsupportedModel`](crate::ErrorKind::UnsupportedModel) when it
    /// needs what the engine lacks, such as another architecture,
    /// [`ErrorKind::Template`](crate::ErrorKind::Template) when its chat template cannot be read. Each
    /// names the key or the tensor.
    pub fn load(bytes: Vec<u8>) -> Result<Self> {
        Self::load_with(bytes, Kernels::best())
    }

    /// [`Self::load`] with a set of kernels of one's own choice.
    ///
    /// # Errors
    /// Those of [`Self::load`].
    pub fn load_with(mut bytes: Vec<u8>, kernels: Kernels) -> Result<Self> {
        let mut gguf = Gguf::parse(&bytes, bytes.len() as u64)?;
        let file_bytes = bytes.len();
        let header_bytes = usize::try_from(gguf.data_start).unwrap_or(usize::MAX);
        drop_header(&mut gguf, &mut bytes);
        let tables = header_bytes.saturating_mul(TABLES_PER_HEADER);
        memory::assure(tables.saturating_add(LOAD_BYTES), "the model's tables")?;
        let (config, mut llama) = {
            let mut tensors = tensors::Tensors::new(&gguf, &bytes, &kernels);
            // Another architecture has other tensors: say that, not that ours are missing.
            config::architecture(&gguf)?;
            let n_vocab = tensors.rows("token_embd.weight")?;
            let config = Config::from_gguf(&gguf, n_vocab)?;
            let llama = Llama::load(&mut tensors, &config)?;
            (config, llama)
        };
        let tokenizer = Tokenizer::from_gguf(&gguf)?;
        if tokenizer.len() > config.n_vocab {
            return Err(Error::invalid_model(format!(
                "the tokenizer has {} tokens, but token_embd.weight has {} rows",
                tokenizer.len(),
                config.n_vocab
            )));
        }
        let chat_template = ChatTemplate::from_gguf(&gguf, &tokenizer)?;
        llama.weave(&mut bytes)?;
        gguf.metadata.retain(|(_, value)| !is_long(value));
        Ok(Self {
            file: bytes,
            file_bytes,
            gguf,
            config,
            llama,
            tokenizer,
            chat_template,
            kernels,
            #[cfg(feature = "constrained")]
            vocabulary: std::sync::OnceLock::new(),
        })
    }

    /// The model's sizes.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The file's header, without the long arrays of its metadata (the
    /// vocabulary and its merges, which the tokenizer has read). Its data starts at 0.
    #[must_use]
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The chat template, when the file has one.
    #[must_use]
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// The tokens as constraints need them. The first call takes a while: a host that copies what is
    /// loaded should make it before.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedModel`](crate::ErrorKind::UnsupportedModel) when no token ends a reply.
    #[cfg(feature = "constrained")]
    pub fn vocabulary(&self) -> Result<&meetara_constraint::Vocabulary> {
        let made = self.vocabulary.get_or_init(|| {
            let vocabulary = meetara_constraint::Vocabulary::read(&self.tokenizer.vocabulary());
            vocabulary.map_err(|e| Error::unsupported_model(e.to_string()))
        });
        made.as_ref().map_err(Error::clone)
    }

    /// The kernels that the model runs on.
    #[must_use]
    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// Bytes of the file that the model was loaded from.
    #[must_use]
    pub fn file_bytes(&self) -> usize {
        self.file_bytes
    }

    /// The rotation of queries and keys.
    #[must_use]
    pub fn rope(&self) -> &Rope {
        self.llama.rope()
    }

    /// The data that [`Self::gguf`] heads.
    pub(crate) fn file(&self) -> &[u8] {
        &self.file
    }

    pub(crate) fn llama(&self) -> &Llama {
        &self.llama
    }
}

/// Gives the header's part of `file` back, which `gguf` holds now: 0.3 MB of the shipped model, and
/// room for the tokenizer's tables, which come next.
pub(crate) fn drop_header(gguf: &mut Gguf, file: &mut Vec<u8>) {
    let header = usize::try_from(gguf.data_start).map_or(file.len(), |start| start.min(file.len()));
    file.drain(..header);
    file.shrink_to_fit();
    gguf.data_start = 0;
}

pub(crate) fn is_long(value: &Value) -> bool {
    matches!(value, Value::Array(array) if array.len() > ARRAY_KEPT_MAX)
}
