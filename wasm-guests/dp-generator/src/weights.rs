//! From trained parameters to the weights that the model is run with.
//!
//! Parameters are what the optimiser moves, in the contribution's layout; weights are
//! what the forward pass reads. For LoRA the two differ: weights = base + B * A.

use noisegate_guest_sdk::kernels::{Product, gemm};
use noisegate_guest_sdk::rng::Rng;

use crate::config::Train;
use crate::plan::Plan;
use crate::shape::{Matrix, Shape};

/// Weights that no step moves.
#[derive(Debug, Clone, Default)]
pub struct Frozen {
    /// The base model, flat.
    pub base: Vec<f32>,
    /// All A of LoRA, `[rank, in]` each.
    pub lora_inputs: Vec<f32>,
}

impl Frozen {
    /// Draws A, normal with variance 1 / in: a normed input of width `in` then gives numbers of size one.
    pub fn new(shape: &Shape, plan: &Plan, base: Vec<f32>, seed: u64) -> Self {
        let mut rng = Rng::new(seed, u64::MAX);
        let mut lora_inputs = Vec::with_capacity(plan.lora_inputs_len(shape));
        for matrix in (0..shape.layers).flat_map(|_| Matrix::ALL) {
            let input = shape.size(matrix).1;
            let deviation = 1.0 / (input as f32).sqrt();
            lora_inputs.extend((0..plan.rank * input).map(|_| rng.normal() * deviation));
        }
        Frozen { base, lora_inputs }
    }
}

/// The parameters before the first step: base weights where they are trained, else zero.
pub fn start(shape: &Shape, plan: &Plan, frozen: &Frozen) -> Vec<f32> {
    let mut parameters = match plan.train {
        Train::Lora => vec![0.0; plan.base_len(shape)],
        Train::LastLayers | Train::Full => frozen.base[plan.moved(shape)].to_vec(),
    };
    parameters.resize(plan.dim(shape), 0.0);
    parameters
}

/// The moved slice of the weights, and the label parameters as they are added.
pub fn effective(
    shape: &Shape,
    plan: &Plan,
    frozen: &Frozen,
    parameters: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (base, labels) = parameters.split_at(plan.base_len(shape));
    let moved = match plan.train {
        Train::LastLayers | Train::Full => base.to_vec(),
        Train::Lora => with_lora(shape, plan, frozen, base),
    };
    let (vectors, biases) = labels.split_at(plan.vectors_len(shape));
    let vectors = vectors.iter().map(|value| value * plan.scales.vector);
    (
        moved,
        vectors
            .chain(biases.iter().map(|value| value * plan.scales.bias))
            .collect(),
    )
}

fn with_lora(shape: &Shape, plan: &Plan, frozen: &Frozen, parameters: &[f32]) -> Vec<f32> {
    let range = plan.moved(shape);
    let mut moved = frozen.base[range.clone()].to_vec();
    for layer in 0..shape.layers {
        for matrix in Matrix::ALL {
            let Some(start) = plan.lora_gradient(shape, layer, matrix) else {
                continue;
            };
            let (output, input) = shape.size(matrix);
            let b = &parameters[start..start + output * plan.rank];
            let a =
                &frozen.lora_inputs[plan.lora_input(shape, layer, matrix)..][..plan.rank * input];
            let product = gemm(b, a, Product::plain(output, plan.rank, input));
            let target = &mut moved[shape.matrix(layer, matrix) - range.start..][..output * input];
            for (weight, change) in target.iter_mut().zip(&product) {
                *weight += plan.scales.lora * change;
            }
        }
    }
    moved
}
