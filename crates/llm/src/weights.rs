//! The tensors of a Llama-style decoder, by their Hugging Face names.
//!
//! Shared by pretraining, which makes them, and inference, which reads them.

use candle_core::Tensor;

use crate::config::LlamaConfig;

/// Weights of one decoder layer; every matrix has shape `[out, in]`.
#[derive(Debug, Clone)]
pub struct LayerWeights {
    /// Gain before attention, `[hidden]`.
    pub input_norm: Tensor,
    /// `[heads * head, hidden]`.
    pub query: Tensor,
    /// `[kv_heads * head, hidden]`.
    pub key: Tensor,
    /// `[kv_heads * head, hidden]`.
    pub value: Tensor,
    /// `[hidden, heads * head]`.
    pub output: Tensor,
    /// Gain before the feed-forward layer, `[hidden]`.
    pub post_norm: Tensor,
    /// `[intermediate, hidden]`.
    pub gate: Tensor,
    /// `[intermediate, hidden]`.
    pub up: Tensor,
    /// `[hidden, intermediate]`.
    pub down: Tensor,
}

/// All weights of a decoder, or their gradients in the same places.
#[derive(Debug, Clone)]
pub struct LlamaWeights {
    /// `[vocab, hidden]`.
    pub embedding: Tensor,
    /// One entry per layer.
    pub layers: Vec<LayerWeights>,
    /// Gain before the output layer, `[hidden]`.
    pub norm: Tensor,
    /// `[vocab, hidden]`; `None` where the embedding is used again.
    pub head: Option<Tensor>,
}

impl LlamaWeights {
    /// The matrix that turns the last hidden state into logits, `[vocab, hidden]`.
    pub fn output_matrix(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Builds the struct by asking `get` for every tensor, in the order of
    /// [`LlamaConfig::tensor_shapes`].
    ///
    /// # Errors
    /// Whatever `get` returns.
    pub fn build<E>(
        config: &LlamaConfig,
        mut get: impl FnMut(&str, &[usize]) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let mut tensors = Vec::new();
        for (name, shape) in config.tensor_shapes() {
            tensors.push(get(&name, &shape)?);
        }
        Ok(Self::from_list(config.num_hidden_layers, tensors))
    }

    /// The tensors in the order of [`LlamaConfig::tensor_shapes`].
    pub fn list(&self) -> Vec<&Tensor> {
        let mut list = vec![&self.embedding];
        for layer in &self.layers {
            list.extend([
                &layer.input_norm,
                &layer.query,
                &layer.key,
                &layer.value,
                &layer.output,
                &layer.post_norm,
                &layer.gate,
                &layer.up,
                &layer.down,
            ]);
        }
        list.push(&self.norm);
        list.extend(&self.head);
        list
    }

    /// Inverse of [`LlamaWeights::list`].
    ///
    /// # Panics
    /// If the list is too short for `layers`; it always comes from `tensor_shapes`.
    pub fn from_list(layers: usize, tensors: Vec<Tensor>) -> Self {
        let mut tensors = tensors.into_iter();
        let mut next = || {
            tensors
                .next()
                .expect("one tensor for every name of tensor_shapes")
        };
        let embedding = next();
        let layers = (0..layers)
            .map(|_| LayerWeights {
                input_norm: next(),
                query: next(),
                key: next(),
                value: next(),
                output: next(),
                post_norm: next(),
                gate: next(),
                up: next(),
                down: next(),
            })
            .collect();
        let norm = next();
        let head = tensors.next();
        Self {
            embedding,
            layers,
            norm,
            head,
        }
    }
}
