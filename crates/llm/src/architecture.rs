//! What a forward pass must know of a model: its sizes, and where its family differs from Llama.
//!
//! One description serves every family; a network reads it and has no other notion of families.
//!
//! ```text
//! config.json or GGUF metadata ─ families ─> Architecture ─> host network (CPU), device network
//! ```

/// How a norm treats its input and gain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `x / rms(x) * gain`.
    Rms,
    /// `(x - mean) / deviation * gain + bias`.
    Layer,
}

/// Activation of the feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
}

/// A table of rotary angles.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// Angle per position of each pair, `[dims / 2]`; the first `dims` of a head are rotated.
    pub frequencies: Vec<f64>,
    /// Factor on cosine and sine; 1 but for some long-context models.
    pub amplitude: f64,
}

impl Rotary {
    /// Plain rotary positions over the first `dims` numbers of a head.
    pub fn plain(dims: usize, theta: f64) -> Self {
        let frequency = |i: usize| theta.powf(-2.0 * i as f64 / dims as f64);
        Self {
            frequencies: (0..dims / 2).map(frequency).collect(),
            amplitude: 1.0,
        }
    }
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerKind {
    /// Index into [`Architecture::rotary`].
    pub rotary: usize,
    /// A token sees this many tokens, itself included; `None` sees all before it.
    pub window: Option<usize>,
}

/// A decoder, described.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// Family, for messages: `llama`, `qwen3`, ...
    pub family: String,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head: usize,
    /// Longest text, in tokens.
    pub context: usize,
    /// All norms of the residual stream.
    pub norm: NormKind,
    /// Their epsilon.
    pub norm_eps: f32,
    /// Activation of the feed-forward layer.
    pub activation: Activation,
    /// Whether the feed-forward layer is gated (`act(gate) * up`) or plain (`act(up)`).
    pub gated: bool,
    /// Whether attention and feed-forward layer read the same norm and are added together.
    pub parallel: bool,
    /// Factor on the scores of attention, usually `1 / sqrt(head)`.
    pub query_scale: f32,
    /// Factor on the embedding.
    pub embedding_scale: f32,
    /// `cap * tanh(score / cap)` on the scores of attention.
    pub score_cap: Option<f32>,
    /// The same on the logits.
    pub logit_cap: Option<f32>,
    /// Rotary tables.
    pub rotary: Vec<Rotary>,
    /// One entry per layer.
    pub layers: Vec<LayerKind>,
    /// Token that starts a document, if any.
    pub begin: Option<u32>,
    /// Tokens that end a text.
    pub end: Vec<u32>,
    /// Token that fills up batches elsewhere; never drawn.
    pub pad: Option<u32>,
}

impl Architecture {
    /// Adds tokens that end a text.
    pub fn ends_with(&mut self, ids: impl IntoIterator<Item = u32>) {
        for id in ids {
            if !self.end.contains(&id) {
                self.end.push(id);
            }
        }
    }

    /// Width of all query heads.
    pub fn query_width(&self) -> usize {
        self.heads * self.head
    }

    /// Width of all key heads, or of all value heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head
    }
}
