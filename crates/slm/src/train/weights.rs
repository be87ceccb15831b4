//! The weights of a training run: tensors shared by all sessions, their gradients and moments.

use ort::memory::Allocator;
use ort::value::Tensor;

use super::adamw::{self, Arrays, RowMoments};
use super::options::{Freeze, TrainOptions};
use super::step::Step;
use crate::error::SlmError;
use crate::model::names::{self, HEAD_BIAS, HEAD_WEIGHT};
use crate::model::{Model, lora};
use crate::params::{Array, Parameters};

/// One weight.
struct Weight {
    name: String,
    value: Tensor<f32>,
    training: Training,
}

enum Training {
    /// Stays as it is.
    Frozen,
    /// Gradients come as a whole array.
    Array {
        gradient: Tensor<f32>,
        m: Vec<f32>,
        v: Vec<f32>,
        decays: bool,
    },
    /// Gradients come row by row.
    Table(RowMoments),
}

/// All weights, ordered by name.
#[derive(Default)]
pub(super) struct Weights {
    all: Vec<Weight>,
}

impl Weights {
    /// Copies a model's weights into tensors.
    ///
    /// # Errors
    /// [`SlmError::Runtime`] if memory cannot be had.
    pub(super) fn new(model: &Model, options: &TrainOptions) -> Result<Self, SlmError> {
        let weight = |(name, array): (&str, &Array)| -> ort::Result<Weight> {
            let shape: Vec<usize> = array.shape.clone();
            let mut value = Tensor::<f32>::new(&Allocator::default(), shape.as_slice())?;
            value.extract_tensor_mut().1.copy_from_slice(&array.data);
            let training = if is_frozen(name, model, options) {
                Training::Frozen
            } else if Self::is_table(name) {
                Training::Table(RowMoments::new(shape[0], shape[1]))
            } else {
                Training::Array {
                    gradient: Tensor::<f32>::new(&Allocator::default(), shape.as_slice())?,
                    m: vec![0.0; array.data.len()],
                    v: vec![0.0; array.data.len()],
                    decays: shape.len() > 1,
                }
            };
            Ok(Weight {
                name: name.to_owned(),
                value,
                training,
            })
        };
        let all = model.weights.iter().map(weight).collect::<ort::Result<_>>();
        Ok(Self {
            all: all.map_err(SlmError::runtime("allocate the weights"))?,
        })
    }

    /// Is `name` an embedding table, whose gradient comes row by row?
    pub(super) fn is_table(name: &str) -> bool {
        [names::words(), names::positions(), names::types()].contains(&name.to_owned())
    }

    /// Does training change `name`?
    pub(super) fn is_trained(&self, name: &str) -> bool {
        let mut all = self.all.iter();
        all.any(|w| w.name == name && !matches!(w.training, Training::Frozen))
    }

    /// Names and values.
    pub(super) fn values(&self) -> impl Iterator<Item = (&str, &Tensor<f32>)> {
        self.all.iter().map(|w| (w.name.as_str(), &w.value))
    }

    /// Names and gradient tensors of the arrays that are trained.
    pub(super) fn gradients_mut(&mut self) -> impl Iterator<Item = (&str, &mut Tensor<f32>)> {
        self.all.iter_mut().filter_map(|w| match &mut w.training {
            Training::Array { gradient, .. } => Some((w.name.as_str(), gradient)),
            _ => None,
        })
    }

    /// Forgets the row gradients of the step before.
    pub(super) fn clear_rows(&mut self) {
        for weight in &mut self.all {
            if let Training::Table(moments) = &mut weight.training {
                moments.clear();
            }
        }
    }

    /// Adds the array gradients of the micro-batch that just ran to `sums`.
    pub(super) fn add_gradients(&self, sums: &mut Vec<Vec<f32>>) {
        let gradients = self.all.iter().filter_map(|w| match &w.training {
            Training::Array { gradient, .. } => Some(gradient.extract_tensor().1),
            _ => None,
        });
        for (index, gradient) in gradients.enumerate() {
            match sums.get_mut(index) {
                None => sums.push(gradient.to_vec()),
                Some(sum) => sum.iter_mut().zip(gradient).for_each(|(s, g)| *s += g),
            }
        }
    }

    /// Puts summed gradients where the optimizer looks for them.
    pub(super) fn set_gradients(&mut self, sums: &[Vec<f32>]) {
        for ((_, gradient), sum) in self.gradients_mut().zip(sums) {
            gradient.extract_tensor_mut().1.copy_from_slice(sum);
        }
    }

    /// Adds the row gradients of the micro-batch that just ran.
    pub(super) fn add_rows(&mut self, step: &Step) {
        for (name, rows, values) in step.row_gradients() {
            let Some(weight) = self.all.iter_mut().find(|w| w.name == name) else {
                continue;
            };
            let Training::Table(moments) = &mut weight.training else {
                continue;
            };
            let table = weight.value.extract_tensor().1;
            let width = values.len() / rows.len().max(1);
            for (row, gradient) in rows.into_iter().zip(values.chunks_exact(width)) {
                if row != usize::MAX {
                    moments.add(table, row, gradient);
                }
            }
        }
    }

    /// The L2 norm of all gradients together.
    pub(super) fn gradient_norm(&self) -> f32 {
        let gradients: Vec<&[f32]> = self
            .all
            .iter()
            .filter_map(|w| match &w.training {
                Training::Frozen => None,
                Training::Array { gradient, .. } => Some(gradient.extract_tensor().1),
                Training::Table(moments) => Some(moments.gradients()),
            })
            .collect();
        adamw::sum_of_squares(&gradients).sqrt() as f32
    }

    /// One AdamW step on everything that is trained.
    pub(super) fn update(&mut self, step: adamw::Step, weight_decay: f32) {
        let decayed = 1.0 - step.rate * weight_decay;
        let mut arrays = Vec::with_capacity(self.all.len());
        for weight in &mut self.all {
            match &mut weight.training {
                Training::Frozen => {}
                Training::Array {
                    gradient,
                    m,
                    v,
                    decays,
                } => arrays.push(Arrays {
                    p: weight.value.extract_tensor_mut().1,
                    g: gradient.extract_tensor().1,
                    m,
                    v,
                    decay: if *decays { decayed } else { 1.0 },
                }),
                Training::Table(moments) => arrays.push(moments.arrays(decayed)),
            }
        }
        adamw::update_all(arrays, step);
        for weight in &mut self.all {
            if let Training::Table(moments) = &weight.training {
                moments.store(weight.value.extract_tensor_mut().1);
            }
        }
    }

    /// Values and moments, to be restored later.
    pub(super) fn state(&self) -> Parameters {
        let mut state = Parameters::default();
        for weight in &self.all {
            let name = &weight.name;
            let flat = |data: &[f32]| Array {
                shape: vec![data.len()],
                data: data.to_vec(),
            };
            match &weight.training {
                Training::Frozen => continue,
                Training::Array { m, v, .. } => {
                    state.insert(format!("{name}/m"), flat(m));
                    state.insert(format!("{name}/v"), flat(v));
                }
                Training::Table(moments) => {
                    for (part, data) in moments.state() {
                        state.insert(format!("{name}/{part}"), flat(&data));
                    }
                }
            }
            let values = weight.value.extract_tensor().1;
            state.insert(format!("{name}/p"), flat(values));
        }
        state
    }

    /// Goes back to what [`Self::state`] gave.
    ///
    /// # Errors
    /// [`SlmError::WeightMissing`] if a part is absent.
    pub(super) fn restore(&mut self, state: &Parameters) -> Result<(), SlmError> {
        for weight in &mut self.all {
            let name = &weight.name;
            let part = |part: &str| Ok(state.get(&format!("{name}/{part}"))?.data.as_slice());
            match &mut weight.training {
                Training::Frozen => continue,
                Training::Array { m, v, .. } => {
                    m.copy_from_slice(part("m")?);
                    v.copy_from_slice(part("v")?);
                }
                Training::Table(moments) => moments.restore(part)?,
            }
            weight
                .value
                .extract_tensor_mut()
                .1
                .copy_from_slice(part("p")?);
        }
        Ok(())
    }

    /// The weights as they stand.
    pub(super) fn snapshot(&self) -> Parameters {
        let mut parameters = Parameters::default();
        for weight in &self.all {
            let (shape, values) = weight.value.extract_tensor();
            let mut array = Array {
                shape: shape.iter().map(|n| *n as usize).collect(),
                data: values.to_vec(),
            };
            if let Training::Table(moments) = &weight.training {
                moments.finish(&mut array.data);
            }
            parameters.insert(weight.name.clone(), array);
        }
        parameters
    }
}

/// Does `name` stay as it is?
pub(super) fn is_frozen(name: &str, model: &Model, options: &TrainOptions) -> bool {
    if options.lora.is_some() {
        return !lora::is_adapter(name) && name != HEAD_WEIGHT && name != HEAD_BIAS;
    }
    let embedding = name.starts_with("embeddings.");
    let in_layer = |n: usize| {
        let layer = names::layer(model.config.family, n).attention_norm;
        let mark = format!(".{n}.");
        let end = layer.find(&mark).map_or(0, |at| at + mark.len());
        name.starts_with(&layer[..end])
    };
    match options.freeze {
        Freeze::Nothing => false,
        Freeze::Embeddings => embedding,
        Freeze::Layers(n) => embedding || (0..n).any(in_layer),
    }
}
