//! A language model that can be used: network, tokenizer, and who it is.

use candle_core::{DType, Device};
use sha2::{Digest, Sha256};

use crate::architecture::Architecture;
use crate::chat::ChatTemplate;
use crate::config::LlamaConfig;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::network::Network;
use crate::tokenizer::TextTokenizer;
use crate::weights::LlamaWeights;

/// A decoder with its tokenizer; cloning is cheap.
#[derive(Debug, Clone)]
pub struct LanguageModel {
    pub(crate) network: Network,
    /// Text to tokens and back.
    pub tokenizer: TextTokenizer,
    /// How it wants messages framed; `None` puts them as they are.
    pub chat: Option<ChatTemplate>,
    device: Device,
    /// Present where the model can be trained further here.
    llama: Option<LlamaConfig>,
    digest: String,
}

impl LanguageModel {
    /// Puts a Llama together from parts, on the device of the weights.
    ///
    /// `digest` identifies the weights in provenance; see [`weights_digest`].
    ///
    /// # Errors
    /// [`Error::VocabularyMismatch`], [`Error::Option`] for sizes that cannot be,
    /// [`Error::ShapeMismatch`].
    pub fn new(
        config: LlamaConfig,
        weights: &LlamaWeights,
        tokenizer: TextTokenizer,
        digest: String,
    ) -> Result<Self> {
        config.validate()?;
        for ((name, expected), tensor) in config.tensor_shapes().into_iter().zip(weights.list()) {
            if tensor.dims() != expected {
                return Err(Error::ShapeMismatch {
                    name,
                    expected,
                    found: tensor.dims().to_vec(),
                });
            }
        }
        let device = weights.embedding.device().clone();
        let decoder = Decoder::from_llama(weights)?;
        let architecture = config.architecture();
        Self::of_family(
            architecture,
            decoder,
            &device,
            tokenizer,
            Some(config),
            digest,
        )
    }

    /// Puts a model of any family together.
    pub(crate) fn of_family(
        mut architecture: Architecture,
        decoder: Decoder,
        device: &Device,
        tokenizer: TextTokenizer,
        llama: Option<LlamaConfig>,
        digest: String,
    ) -> Result<Self> {
        if tokenizer.vocab_size() > architecture.vocab {
            return Err(Error::VocabularyMismatch {
                tokenizer: tokenizer.vocab_size(),
                model: architecture.vocab,
            });
        }
        let vocab = architecture.vocab;
        if let Some(begin) = architecture.begin.filter(|begin| *begin as usize >= vocab) {
            return Err(Error::VocabularyMismatch {
                tokenizer: begin as usize + 1,
                model: vocab,
            });
        }
        // A token that it cannot emit ends nothing.
        architecture.end.retain(|end| (*end as usize) < vocab);
        Ok(Self {
            network: Network::new(architecture, decoder, device)?,
            tokenizer,
            chat: None,
            device: device.clone(),
            llama,
            digest,
        })
    }

    /// What the forward pass knows of the model.
    pub fn architecture(&self) -> &Architecture {
        self.network.architecture()
    }

    /// Configuration and weights for training, f32 on the CPU.
    ///
    /// # Errors
    /// [`Error::NotTrainable`] for anything but a plain Llama.
    pub fn llama(&self) -> Result<(LlamaConfig, LlamaWeights)> {
        let Some(config) = &self.llama else {
            return Err(Error::NotTrainable {
                family: self.architecture().family.clone(),
            });
        };
        Ok((config.clone(), self.network.decoder().to_llama(config)?))
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// SHA-256 of what the model was loaded from, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Longest text, in tokens.
    pub fn context(&self) -> usize {
        self.architecture().context
    }

    /// Tokens that end a text.
    pub fn end_tokens(&self) -> &[u32] {
        &self.architecture().end
    }

    /// The token that begins a document, if the model has one.
    pub fn begin_token(&self) -> Option<u32> {
        self.architecture().begin
    }

    /// Tokens of a prompt, after the token that begins a document where the model has one.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] from the library.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.encode(prompt)?;
        if let Some(begin) = self.begin_token()
            && ids.first() != Some(&begin)
        {
            ids.insert(0, begin);
        }
        Ok(ids)
    }

    /// Tokens of a message to answer, framed by the chat template where the model has one.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`], [`Error::Tokenizer`] from the library.
    pub fn encode_message(&self, message: &str) -> Result<Vec<u32>> {
        match &self.chat {
            Some(chat) => self.tokenizer.encode_framed(&chat.render(message)?),
            None => self.encode_prompt(message),
        }
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
