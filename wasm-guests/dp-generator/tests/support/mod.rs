//! A small random model with grouped queries, and configurations to go with it.
#![allow(dead_code)]

use dp_generator::config::{Config, Train};
use dp_generator::context::Sequence;
use dp_generator::gradient::add_gradient;
use dp_generator::model::Model;
use dp_generator::plan::Plan;
use dp_generator::shape::Shape;
use dp_generator::weights::{self, Frozen};
use noisegate_guest_sdk::rng::Rng;
use noisegate_guest_sdk::tokenizer::{PATTERN, printable};
use noisegate_guest_sdk::{Accum, File, Tensor};

/// Two layers, four query heads over two key-value heads.
pub fn shape(tied: bool) -> Shape {
    Shape {
        vocab: 40,
        hidden: 16,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        ff: 24,
        positions: 32,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tied,
    }
}

/// The configuration JSON with the parameters of `plugin.toml`, some replaced.
pub fn config_json(changes: serde_json::Value) -> String {
    let mut with = serde_json::json!({
        "train": "lora", "rank": 3, "layers": 1, "label_vectors": true, "label_bias": true,
        "optimiser": "adam", "learning_rate": 0.01, "warm_up": 2, "final_rate": 0.1, "average": 0.0,
        "template": "{label}: {text}", "max_tokens": 24, "samples_per_label": 4, "temperature": 1.0,
        "top_p": 1.0, "top_k": 0, "min_words": 1, "batch": 3,
        "lora_scale": 1.0, "vector_scale": 1.0, "bias_scale": 1.0,
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        with[key] = value.clone();
    }
    let config = serde_json::json!({
        "with": with, "labels": ["lost card", "late_fee"], "seed": 7,
        "mechanism": { "sampling_rate": 0.5, "noise_multiplier": 0.0, "clip": 1.0, "steps": 12, "expected_batch": 2.0 },
    });
    config.to_string()
}

/// The same, read.
pub fn config(changes: serde_json::Value) -> Config {
    Config::parse(&config_json(changes)).unwrap()
}

/// Everything that fixes a model: shape, plan, frozen weights, parameters.
pub struct World {
    pub shape: Shape,
    pub plan: Plan,
    pub frozen: Frozen,
    pub parameters: Vec<f32>,
}

impl World {
    /// Random base weights, and parameters a little away from their start.
    pub fn new(shape: Shape, config: &Config) -> Self {
        let mut rng = Rng::new(11, 0);
        let base = (0..shape.weights_len())
            .map(|_| 0.3 * rng.normal())
            .collect();
        let plan = Plan::new(&shape, config).unwrap();
        let frozen = Frozen::new(&shape, &plan, base, 5);
        let start = weights::start(&shape, &plan, &frozen);
        let parameters = start
            .iter()
            .map(|value| value + 0.1 * rng.normal())
            .collect();
        World {
            shape,
            plan,
            frozen,
            parameters,
        }
    }

    /// Runs `act` on the model that these parameters make.
    pub fn with_model<R>(&self, parameters: &[f32], act: impl FnOnce(Model<'_>) -> R) -> R {
        let (moved, labels) = weights::effective(&self.shape, &self.plan, &self.frozen, parameters);
        act(Model {
            shape: &self.shape,
            plan: &self.plan,
            base: &Tensor::new(&self.frozen.base),
            lora_inputs: &Tensor::new(&self.frozen.lora_inputs),
            moved: &Tensor::new(&moved),
            labels: &Tensor::new(&labels),
        })
    }

    /// Loss and gradient of one sequence.
    pub fn gradient(&self, parameters: &[f32], sequence: &Sequence) -> (f32, Vec<f32>) {
        let into = Accum::zero(self.plan.dim(&self.shape));
        let loss = self.with_model(parameters, |model| {
            add_gradient(model, sequence, 1.0, &into)
        });
        (loss, into.into_values())
    }
}

/// A sequence of random tokens.
pub fn sequence(label: usize, length: usize, prefix: usize) -> Sequence {
    let mut rng = Rng::new(label as u64, 3);
    Sequence {
        label,
        tokens: (0..length).map(|_| rng.below(40) as u32).collect(),
        prefix,
    }
}

/// All three trained sets.
pub fn trained_sets() -> [(Train, Config); 3] {
    [Train::Lora, Train::LastLayers, Train::Full].map(|train| {
        let name = ["lora", "last-layers", "full"][train as usize];
        (train, config(serde_json::json!({ "train": name })))
    })
}

/// A Llama folder of random weights with a tokenizer of single bytes, as the files of port `base`.
pub fn folder() -> Vec<File> {
    let shape = Shape {
        vocab: 257,
        ..shape(true)
    };
    let (d, q, kv, ff) = (16, 16, 8, 24);
    let mut names = vec![("model.embed_tokens".to_owned(), vec![257, d])];
    for layer in 0..shape.layers {
        for (name, size) in [
            ("input_layernorm", vec![d]),
            ("self_attn.q_proj", vec![q, d]),
            ("self_attn.k_proj", vec![kv, d]),
            ("self_attn.v_proj", vec![kv, d]),
            ("self_attn.o_proj", vec![d, q]),
            ("post_attention_layernorm", vec![d]),
            ("mlp.gate_proj", vec![ff, d]),
            ("mlp.up_proj", vec![ff, d]),
            ("mlp.down_proj", vec![d, ff]),
        ] {
            names.push((format!("model.layers.{layer}.{name}"), size));
        }
    }
    names.push(("model.norm".to_owned(), vec![d]));
    let mut rng = Rng::new(1, 0);
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, size) in names {
        let start = data.len();
        for _ in 0..size.iter().product::<usize>() {
            let value: f32 = if size.len() == 1 {
                1.0
            } else {
                0.2 * rng.normal()
            };
            data.extend_from_slice(&value.to_le_bytes());
        }
        let entry = serde_json::json!({ "dtype": "F32", "shape": size, "data_offsets": [start, data.len()] });
        header.insert(format!("{name}.weight"), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let weights = [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        &data,
    ]
    .concat();
    let config = serde_json::json!({
        "model_type": "llama", "vocab_size": 257, "hidden_size": d, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": ff, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": true,
    });
    let mut vocab = serde_json::Map::new();
    vocab.insert("<|endoftext|>".into(), 0.into());
    for byte in 0..=255u8 {
        vocab.insert(printable(byte).to_string(), (u32::from(byte) + 1).into());
    }
    let tokenizer = serde_json::json!({
        "added_tokens": [{ "id": 0, "content": "<|endoftext|>" }],
        "normalizer": null,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": PATTERN }, "behavior": "Isolated", "invert": false },
            { "type": "ByteLevel", "add_prefix_space": false, "use_regex": false },
        ]},
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    let file = |name: &str, data: Vec<u8>| File {
        name: format!("base/{name}"),
        data,
    };
    vec![
        file("config.json", config.to_string().into_bytes()),
        file("tokenizer.json", tokenizer.to_string().into_bytes()),
        file("model.safetensors", weights),
    ]
}
