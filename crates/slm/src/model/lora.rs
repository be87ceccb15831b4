//! Low-rank adapters: train two thin matrices beside each product instead of the product itself.
//!
//! `y = x W^T + b + (alpha / rank) (x A^T) B^T`. `B` starts at zero, so training starts from the
//! base model; at the end `W` takes the product in, and nothing of the adapters is left. A third of
//! a training step's work (the gradients of the large matrices) falls away, and nearly all of the
//! optimizer's memory.
//!
//! Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.

use super::Model;
use super::names;
use super::random_matrix;
use crate::error::SlmError;
use crate::params::{Array, Parameters};
use crate::random::Stream;

/// Sizes of the adapters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lora {
    /// Rows of `A`, columns of `B`.
    pub rank: usize,
    /// The adapters' output is scaled by `alpha / rank`.
    pub alpha: f32,
}

impl Default for Lora {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
        }
    }
}

impl Lora {
    /// The factor of the adapters' output.
    #[must_use]
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }
}

/// Name of `A` `[rank, in]` beside the product `name`.
#[must_use]
pub(crate) fn down(name: &str) -> String {
    format!("{name}{DOWN}")
}

/// Name of `B` `[out, rank]` beside the product `name`.
#[must_use]
pub(crate) fn up(name: &str) -> String {
    format!("{name}{UP}")
}

const DOWN: &str = ".lora_a";
const UP: &str = ".lora_b";

/// First stream number of the adapters' random weights; see [`Stream`].
const ADAPTERS: u64 = 1 << 44;

/// Is `name` part of an adapter?
pub(crate) fn is_adapter(name: &str) -> bool {
    name.ends_with(DOWN) || name.ends_with(UP)
}

/// Adds adapters to all products of the layers from `first_layer` on.
pub(crate) fn add(model: &mut Model, lora: Lora, first_layer: usize, seed: u64) {
    let (d, wide) = (model.config.hidden, model.config.intermediate);
    let mut stream = ADAPTERS;
    for index in first_layer..model.config.layers {
        let names = names::layer(model.config.family, index);
        let square = names.qkv.iter().chain([&names.out]);
        let products = square.map(|name| (name, d, d));
        for (name, out, inner) in products.chain([(&names.up, wide, d), (&names.down, d, wide)]) {
            let deviation = 1.0 / (inner as f32).sqrt();
            let a = random_matrix(&[lora.rank, inner], deviation, Stream::new(seed, stream));
            stream += 1;
            model.weights.insert(down(name), a);
            let b = Array::filled(&[out, lora.rank], 0.0);
            model.weights.insert(up(name), b);
        }
    }
}

/// Takes the adapters into the products they stand beside.
///
/// # Errors
/// [`SlmError::WeightMissing`] if one half of an adapter, or its product, is absent.
pub(crate) fn merge(weights: &mut Parameters, lora: Lora) -> Result<(), SlmError> {
    let all: Vec<String> = weights.iter().map(|(name, _)| name.to_owned()).collect();
    let adapted = all.iter().filter_map(|name| name.strip_suffix(DOWN));
    for name in adapted {
        let matrix = format!("{name}.weight");
        let mut array = weights.get(&matrix)?.clone();
        let (a, b) = (weights.get(&down(name))?, weights.get(&up(name))?);
        let inner = array.shape[1];
        let rows = array.data.chunks_exact_mut(inner);
        for (row, b) in rows.zip(b.data.chunks_exact(lora.rank)) {
            for (factor, a) in b.iter().zip(a.data.chunks_exact(inner)) {
                let factor = factor * lora.scale();
                row.iter_mut().zip(a).for_each(|(w, a)| *w += factor * a);
            }
        }
        weights.insert(matrix, array);
        weights.remove(&down(name));
        weights.remove(&up(name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_adds_the_scaled_product() {
        let array = |shape: &[usize], data: &[f32]| Array {
            shape: shape.to_vec(),
            data: data.to_vec(),
        };
        let mut weights = Parameters::default();
        weights.insert("x.weight", array(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
        weights.insert(down("x"), array(&[1, 3], &[1.0, 10.0, 100.0]));
        weights.insert(up("x"), array(&[2, 1], &[1.0, -2.0]));
        let lora = Lora {
            rank: 1,
            alpha: 0.5,
        };
        merge(&mut weights, lora).unwrap();
        assert_eq!(weights.iter().count(), 1);
        let merged = &weights.get("x.weight").unwrap().data;
        assert_eq!(merged, &[0.5, 6.0, 52.0, 2.0, -6.0, -95.0]);
    }
}
