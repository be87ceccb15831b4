//! A language model that can be used: network, tokenizer, and who it is.

use candle_core::{DType, Device};
use sha2::{Digest, Sha256};

use crate::config::LlamaConfig;
use crate::error::{Error, Result};
use crate::network::Network;
use crate::tokenizer::TextTokenizer;
use crate::weights::LlamaWeights;

/// A decoder with its tokenizer.
#[derive(Debug, Clone)]
pub struct LanguageModel {
    pub(crate) network: Network,
    /// Text to tokens and back.
    pub tokenizer: TextTokenizer,
    digest: String,
}

impl LanguageModel {
    /// Puts a model together from parts, on the device of the weights.
    ///
    /// `digest` identifies the weights in provenance; see [`weights_digest`].
    ///
    /// # Errors
    /// [`Error::VocabularyMismatch`], [`Error::Option`] for sizes that cannot be,
    /// [`Error::ShapeMismatch`].
    pub fn new(
        config: LlamaConfig,
        weights: LlamaWeights,
        tokenizer: TextTokenizer,
        digest: String,
    ) -> Result<Self> {
        config.validate()?;
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(Error::VocabularyMismatch {
                tokenizer: tokenizer.vocab_size(),
                model: config.vocab_size,
            });
        }
        for ((name, expected), tensor) in config.tensor_shapes().into_iter().zip(weights.list()) {
            if tensor.dims() != expected {
                return Err(Error::ShapeMismatch {
                    name,
                    expected,
                    found: tensor.dims().to_vec(),
                });
            }
        }
        Ok(Self {
            network: Network::new(config, weights)?,
            tokenizer,
            digest,
        })
    }

    /// Sizes of the model.
    pub fn config(&self) -> &LlamaConfig {
        &self.network.config
    }

    /// The tensors, f32.
    pub fn weights(&self) -> &LlamaWeights {
        &self.network.weights
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        self.network.device()
    }

    /// SHA-256 of what the model was loaded from, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Longest text, in tokens.
    pub fn context(&self) -> usize {
        self.config().max_position_embeddings
    }

    /// Tokens that end a text.
    pub fn end_tokens(&self) -> &[u32] {
        self.config()
            .eos_token_id
            .as_ref()
            .map_or(&[], |ids| ids.as_slice())
    }

    /// Tokens of a prompt, after the token that begins a document where the model has one.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] from the library.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.encode(prompt)?;
        if let Some(begin) = self.config().bos_token_id
            && ids.first() != Some(&begin)
        {
            ids.insert(0, begin);
        }
        Ok(ids)
    }
}

/// SHA-256 over names, shapes and f32 values of all tensors, in hex.
///
/// # Errors
/// [`Error::Tensor`] if a tensor cannot be copied from its device.
pub fn weights_digest(config: &LlamaConfig, weights: &LlamaWeights) -> Result<String> {
    let mut hash = Sha256::new();
    for ((name, shape), tensor) in config.tensor_shapes().into_iter().zip(weights.list()) {
        hash.update(format!("{name} {shape:?}\n"));
        let values = tensor
            .flatten_all()?
            .to_dtype(DType::F32)?
            .to_vec1::<f32>()?;
        for chunk in values.chunks(4096) {
            hash.update(
                chunk
                    .iter()
                    .flat_map(|v| v.to_le_bytes())
                    .collect::<Vec<u8>>(),
            );
        }
    }
    Ok(hex(&hash.finalize()))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
