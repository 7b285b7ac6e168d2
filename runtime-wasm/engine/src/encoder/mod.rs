//! Encoders: one text in; its embedding and what its classifiers say out.
//!
//! An [`Encoder`] is BERT, RoBERTa or one of their smaller kin (DistilRoBERTa, MiniLM) in a GGUF
//! file laid out as llama.cpp's architecture `bert`, with any number of heads ([`Head`]). It runs on
//! the same kernels as chat models, so its numbers are bitwise the same on every CPU.

mod bert;
mod config;
mod heads;

use meetara_format::Gguf;

pub use config::{EncoderConfig, Pooling};
pub use heads::{Activation, Head};

use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::model::tensors::Tensors;
use crate::model::{drop_header, is_long};
use crate::nn::add;
use crate::tokenizer::{Special, Tokenizer, markers};
use bert::Bert;

/// The most tokens of a text that are read, markers included. Attention takes time in their square,
/// and models of this kind were trained on texts of a sentence or a few.
pub const TOKENS_MAX: usize = 256;

/// A loaded encoder. It never changes, so it can be shared.
#[derive(Debug)]
pub struct Encoder {
    /// The file's data; weights are used where they lie in it.
    file: Vec<u8>,
    file_bytes: usize,
    gguf: Gguf,
    config: EncoderConfig,
    bert: Bert,
    heads: Vec<Head>,
    tokenizer: Tokenizer,
    /// What stands before and behind every text.
    markers: [u32; 2],
    kernels: Kernels,
}

/// What an [`Encoder`] makes of a text.
#[derive(Clone, Debug)]
pub struct Reading<'e> {
    /// Of length 1 (L2): (n_embd)
    pub embedding: Vec<f32>,
    /// One for each head, in the order of [`Encoder::heads`].
    pub heads: Vec<HeadReading<'e>>,
    /// Tokens that were read, markers included.
    pub tokens: usize,
    /// Tokens at the end of the text that were not read, because it is too long.
    pub tokens_cut: usize,
}

/// What one head says.
#[derive(Clone, Debug)]
pub struct HeadReading<'e> {
    /// Its name, its labels, its thresholds.
    pub head: &'e Head,
    /// Before the temperature: (labels)
    pub logits: Vec<f32>,
    /// Calibrated by the temperature: (labels)
    pub probabilities: Vec<f32>,
}

impl Encoder {
    /// Takes the bytes of a GGUF file and checks everything that running it relies on. The weights
    /// are not copied.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidModel`](crate::ErrorKind::InvalidModel) when the file is damaged or
    /// contradicts itself, [`ErrorKind::UnsupportedModel`](crate::ErrorKind::UnsupportedModel) when
    /// it needs what the engine lacks, such as another architecture. Each names the key or the
    /// tensor.
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
        drop_header(&mut gguf, &mut bytes);
        match gguf.get_str("general.architecture")? {
            Some("bert") => {}
            other => {
                return Err(Error::unsupported_model(format!(
                    "the file's architecture is {other:?}; encoders are \"bert\" files, and chat models are loaded as such"
                )));
            }
        }
        let (config, mut bert, mut heads) = {
            let mut tensors = Tensors::new(&gguf, &bytes, &kernels);
            let n_vocab = tensors.rows("token_embd.weight")?;
            let config = EncoderConfig::from_gguf(&gguf, n_vocab)?;
            let bert = Bert::load(&mut tensors, &config)?;
            let heads = Head::load_all(&gguf, &mut tensors, config.n_embd)?;
            tensors.all_taken("bert")?;
            (config, bert, heads)
        };
        let tokenizer = Tokenizer::from_gguf(&gguf)?;
        if tokenizer.len() > config.n_vocab {
            return Err(Error::invalid_model(format!(
                "the tokenizer has {} tokens, but token_embd.weight has {} rows",
                tokenizer.len(),
                config.n_vocab
            )));
        }
        let markers = markers(&gguf, &tokenizer)?;
        if config.context_len < 3 {
            return Err(Error::invalid_model(format!(
                "bert.context_length is {}: no token fits between the two markers",
                config.context_len
            )));
        }
        bert.weave(&mut bytes)?;
        for head in &mut heads {
            head.weave(&mut bytes)?;
        }
        gguf.metadata.retain(|(_, value)| !is_long(value));
        Ok(Self {
            file: bytes,
            file_bytes,
            gguf,
            config,
            bert,
            heads,
            tokenizer,
            markers,
            kernels,
        })
    }

    /// The encoder's sizes.
    #[must_use]
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Its classifiers.
    #[must_use]
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The file's header, without the long arrays of its metadata.
    #[must_use]
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Bytes of the file that the encoder was loaded from.
    #[must_use]
    pub fn file_bytes(&self) -> usize {
        self.file_bytes
    }

    /// The most tokens of a text that are read, markers included.
    #[must_use]
    pub fn tokens_max(&self) -> usize {
        TOKENS_MAX.min(self.config.context_len)
    }

    /// The ids of `text` between its two markers, all of them. The texts of special tokens are text.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode`].
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.encode(text, Special::Text)?;
        ids.insert(0, self.markers[0]);
        ids.push(self.markers[1]);
        Ok(ids)
    }

    /// Reads `text`: as much of its beginning as [`Self::tokens_max`] allows.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) for a text without a token,
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn encode(&self, text: &str) -> Result<Reading<'_>> {
        let mut ids = self.tokenize(text)?;
        if ids.len() <= 2 {
            return Err(Error::invalid_request(
                "the text is empty; an encoder needs at least one word",
            ));
        }
        let tokens_cut = ids.len().saturating_sub(self.tokens_max());
        if tokens_cut > 0 {
            ids.truncate(self.tokens_max() - 1);
            ids.push(self.markers[1]);
        }
        let rows = self
            .bert
            .forward(&self.kernels, &self.file, &self.config, &ids)?;
        let first = &rows[..self.config.n_embd];
        let mean = mean(&rows, self.config.n_embd);
        let heads = self.heads.iter().map(|head| {
            let [logits, probabilities] = head.read(&self.kernels, &self.file, &mean, first)?;
            Ok(HeadReading {
                head,
                logits,
                probabilities,
            })
        });
        let heads = heads.collect::<Result<_>>()?;
        let mut embedding = match self.config.pooling {
            Pooling::Mean => mean,
            Pooling::First => first.to_vec(),
        };
        let length = (self.kernels.dot)(&embedding, &embedding).sqrt();
        if length > 0.0 {
            for x in &mut embedding {
                *x /= length;
            }
        }
        Ok(Reading {
            embedding,
            heads,
            tokens: ids.len(),
            tokens_cut,
        })
    }
}

/// The mean of the rows of `len` elements.
fn mean(rows: &[f32], len: usize) -> Vec<f32> {
    let mut mean = vec![0.0; len];
    for row in rows.chunks_exact(len) {
        add(&mut mean, row);
    }
    let count = (rows.len() / len) as f32;
    for x in &mut mean {
        *x /= count;
    }
    mean
}
