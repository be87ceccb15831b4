//! Muon for the matrices inside the layers, AdamW for the embedding and the gains.
//!
//! Muon replaces a matrix's momentum by the nearest orthogonal matrix, so that every direction
//! learns at the same speed; a short run on little text gets markedly further than with AdamW.
//!
//! # Source
//! Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024 (momentum with
//! Nesterov, five quintic Newton-Schulz steps); Loshchilov and Hutter, "Decoupled Weight Decay
//! Regularization", 2019.

use candle_core::{Result, Tensor};

use super::cells::{product, read, tensor};
use super::kernels;
use crate::config::LlamaConfig;
use crate::weights::LlamaWeights;

/// Learning rates at their peak, and the constants of both optimisers.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OptimizerOptions {
    /// Whether Muon moves the matrices of the layers. Its orthogonalisation costs as much as
    /// the gradients of about a thousand tokens: too much for steps smaller than that, which
    /// AdamW then takes.
    pub muon: bool,
    /// The learning rate for the matrices of the layers.
    pub matrix_rate: f64,
    /// AdamW's learning rate for the embedding and the gains.
    pub adam_rate: f64,
    /// Decoupled weight decay of the matrices that Muon moves, times their learning rate.
    pub weight_decay: f64,
    /// Gradients longer than this, over all weights, are scaled down to it.
    pub clip_norm: f64,
}

impl Default for OptimizerOptions {
    fn default() -> Self {
        Self {
            muon: true,
            matrix_rate: 0.02,
            adam_rate: 4e-3,
            weight_decay: 0.1,
            clip_norm: 1.0,
        }
    }
}

const MOMENTUM: f32 = 0.95;
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.95;
const ADAM_EPS: f32 = 1e-9;

/// State of one weight.
enum Slot {
    Muon { momentum: Vec<f32> },
    Adam { first: Vec<f32>, second: Vec<f32> },
}

/// Both optimisers over all weights of one model.
pub(crate) struct Optimizer {
    options: OptimizerOptions,
    slots: Vec<(String, Slot)>,
    step: u64,
}

impl Optimizer {
    pub(crate) fn new(config: &LlamaConfig, options: OptimizerOptions) -> Self {
        let slots = config
            .tensor_shapes()
            .into_iter()
            .map(|(name, shape)| {
                let zeros = vec![0f32; shape.iter().product()];
                let slot = if options.muon && is_inside(&name, shape.len()) {
                    Slot::Muon { momentum: zeros }
                } else {
                    Slot::Adam {
                        first: zeros.clone(),
                        second: zeros,
                    }
                };
                (name, slot)
            })
            .collect();
        Self {
            options,
            slots,
            step: 0,
        }
    }

    /// One update; `rate` in [0, 1] scales both learning rates. Returns the new weights and the
    /// gradient norm before clipping.
    pub(crate) fn update(
        &mut self,
        weights: &LlamaWeights,
        gradients: &LlamaWeights,
        rate: f64,
    ) -> Result<(LlamaWeights, f64)> {
        let gradients = gradients.list();
        let mut squares = 0.0;
        for gradient in &gradients {
            squares += read(gradient, kernels::sum_of_squares)?;
        }
        let norm = squares.sqrt();
        let shrink = (self.options.clip_norm / norm.max(1e-12)).min(1.0) as f32;
        self.step += 1;
        let step = i32::try_from(self.step).unwrap_or(i32::MAX);
        let mut updated = Vec::with_capacity(gradients.len());
        let pairs = weights.list().into_iter().zip(gradients);
        for ((name, slot), (weight, gradient)) in self.slots.iter_mut().zip(pairs) {
            updated.push(match slot {
                Slot::Muon { momentum } => {
                    muon(&self.options, momentum, weight, gradient, shrink, rate)?
                }
                Slot::Adam { first, second } => {
                    let peak = if is_inside(name, weight.rank()) {
                        self.options.matrix_rate
                    } else {
                        self.options.adam_rate
                    };
                    let lr = (peak * rate) as f32;
                    adam(first, second, weight, gradient, shrink, lr, step)?
                }
            });
        }
        Ok((LlamaWeights::from_list(weights.layers.len(), updated), norm))
    }

    /// The state as named vectors, for a checkpoint.
    pub(super) fn state(&self) -> impl Iterator<Item = (String, &[f32])> {
        self.slots.iter().flat_map(|(name, slot)| match slot {
            Slot::Muon { momentum } => vec![(format!("momentum.{name}"), momentum.as_slice())],
            Slot::Adam { first, second } => vec![
                (format!("first.{name}"), first.as_slice()),
                (format!("second.{name}"), second.as_slice()),
            ],
        })
    }

    /// Restores what [`Optimizer::state`] gave; `get` returns a vector by name.
    pub(super) fn restore<E>(
        &mut self,
        step: u64,
        mut get: impl FnMut(&str, usize) -> std::result::Result<Vec<f32>, E>,
    ) -> std::result::Result<(), E> {
        self.step = step;
        for (name, slot) in &mut self.slots {
            match slot {
                Slot::Muon { momentum } => {
                    *momentum = get(&format!("momentum.{name}"), momentum.len())?;
                }
                Slot::Adam { first, second } => {
                    *first = get(&format!("first.{name}"), first.len())?;
                    *second = get(&format!("second.{name}"), second.len())?;
                }
            }
        }
        Ok(())
    }
}

/// Whether a weight is a matrix inside a layer.
fn is_inside(name: &str, rank: usize) -> bool {
    rank == 2 && name.contains(".layers.")
}

fn adam(
    first: &mut [f32],
    second: &mut [f32],
    weight: &Tensor,
    gradient: &Tensor,
    shrink: f32,
    rate: f32,
    step: i32,
) -> Result<Tensor> {
    let mut values = read(weight, <[f32]>::to_vec)?;
    let (c1, c2) = (
        1.0 / (1.0 - BETA1.powi(step)),
        1.0 / (1.0 - BETA2.powi(step)),
    );
    read(gradient, |gradient| {
        for (((w, g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
            let g = g * shrink;
            *m += (1.0 - BETA1) * (g - *m);
            *v += (1.0 - BETA2) * (g * g - *v);
            *w -= rate * (*m * c1) / ((*v * c2).sqrt() + ADAM_EPS);
        }
    })?;
    tensor(values, weight.shape())
}

fn muon(
    options: &OptimizerOptions,
    momentum: &mut [f32],
    weight: &Tensor,
    gradient: &Tensor,
    shrink: f32,
    rate: f64,
) -> Result<Tensor> {
    let (rows, columns) = weight.dims2()?;
    let ahead = read(gradient, |gradient| {
        momentum
            .iter_mut()
            .zip(gradient)
            .map(|(m, g)| {
                let g = g * shrink;
                *m = MOMENTUM * *m + g;
                MOMENTUM * *m + g
            })
            .collect::<Vec<f32>>()
    })?;
    let direction = orthogonalise(&tensor(ahead, (rows, columns))?)?;
    let rate = options.matrix_rate * rate;
    let length = rate * (rows as f64 / columns as f64).max(1.0).sqrt();
    let kept = 1.0 - rate * options.weight_decay;
    let mut values = read(weight, <[f32]>::to_vec)?;
    read(&direction.contiguous()?, |direction| {
        for (w, d) in values.iter_mut().zip(direction) {
            *w = *w * kept as f32 - d * length as f32;
        }
    })?;
    tensor(values, (rows, columns))
}

/// Pulls all singular values of a matrix towards one by five Newton-Schulz steps.
fn orthogonalise(matrix: &Tensor) -> Result<Tensor> {
    const A: f64 = 3.4445;
    const B: f64 = -4.7750;
    const C: f64 = 2.0315;
    let (rows, columns) = matrix.dims2()?;
    let tall = rows > columns;
    let norm = read(matrix, kernels::sum_of_squares)?.sqrt();
    let x = (matrix / (norm + 1e-7))?;
    let mut x = if tall { x.t()?.contiguous()? } else { x };
    for _ in 0..5 {
        let gram = product(&x, &x.t()?)?;
        let polynomial = ((&gram * B)? + (product(&gram, &gram)? * C)?)?;
        x = ((&x * A)? + product(&polynomial, &x)?)?;
    }
    if tall { x.t()?.contiguous() } else { Ok(x) }
}

#[cfg(test)]
mod tests {
    use super::super::init::Normal;
    use super::*;

    #[test]
    fn an_orthogonalised_matrix_keeps_every_direction_at_similar_length() {
        for shape in [[12, 30], [30, 12]] {
            let matrix = Normal::new(3).tensor(&shape, 1.0).unwrap();
            let x = orthogonalise(&matrix).unwrap();
            let x = if shape[0] > shape[1] {
                x.t().unwrap().contiguous().unwrap()
            } else {
                x
            };
            let gram = x.matmul(&x.t().unwrap()).unwrap().to_vec2::<f32>().unwrap();
            for (i, row) in gram.iter().enumerate() {
                for (j, value) in row.iter().enumerate() {
                    let near = if i == j {
                        (0.3..1.7).contains(value)
                    } else {
                        value.abs() < 0.4
                    };
                    assert!(near, "entry {i},{j} of x x^T is {value}");
                }
            }
        }
    }
}
