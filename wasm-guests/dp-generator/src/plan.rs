//! What is trained, and where its gradient lies in the contribution.
//!
//! ```text
//!   lora:         B of every matrix         | label vectors | label bias
//!   last-layers:  flat[layer n ..]          | label vectors | label bias
//!   full:         flat                      | label vectors | label bias
//! ```
//!
//! LoRA trains only B and keeps the random A public and frozen: half the
//! coordinates to put noise on, and the weights are linear in what is trained
//! (Sun et al., "Improving LoRA in Privacy-preserving Federated Learning", 2024).
//!
//! The label parameters are the control code's trained half. A *label vector* is
//! added to the residual stream before each trained layer and before the final
//! norm; the *label bias* is added to the logits. Both see only their own label's
//! records, cost few coordinates, and so stand out of the noise early.

use noisegate_guest_sdk::wire::{Reader, Writer};

use crate::config::{Config, Train};
use crate::shape::{Matrix, Shape};

/// The trained set of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Which base weights move.
    pub train: Train,
    /// Rank of the LoRA matrices; 0 without LoRA.
    pub rank: usize,
    /// First layer that a gradient must reach; `layers` when none.
    pub first_layer: usize,
    /// Number of labels.
    pub labels: usize,
    /// Whether label vectors are trained.
    pub vectors: bool,
    /// Whether the label bias is trained.
    pub bias: bool,
    /// How far one unit of each kind of parameter moves what it is added to.
    pub scales: Scales,
}

/// How far one unit of a trained parameter moves weights, residual stream and logits.
///
/// All parameters share one clip bound and one noise, so a scale is how much of the
/// signal a kind of parameter gets: its gradient grows with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scales {
    /// B of LoRA.
    pub lora: f32,
    /// Label vectors.
    pub vector: f32,
    /// Label biases.
    pub bias: f32,
}

impl Plan {
    /// The set that the configuration asks for.
    ///
    /// # Errors
    /// A sentence, if it asks for more layers than there are.
    pub fn new(shape: &Shape, config: &Config) -> Result<Self, String> {
        let with = &config.with;
        if with.train == Train::LastLayers && !(1..=shape.layers).contains(&with.layers) {
            return Err(format!(
                "`layers = {}` does not fit a base model of {} layers",
                with.layers, shape.layers
            ));
        }
        if with.train == Train::Lora && with.rank > shape.hidden {
            return Err(format!(
                "`rank = {}` is above the model's width {}",
                with.rank, shape.hidden
            ));
        }
        let rank = if with.train == Train::Lora {
            with.rank
        } else {
            0
        };
        let first_layer = match with.train {
            Train::LastLayers => shape.layers - with.layers,
            Train::Lora if rank == 0 && !with.label_vectors => shape.layers,
            Train::Lora | Train::Full => 0,
        };
        Ok(Plan {
            train: with.train,
            rank,
            first_layer,
            labels: config.labels.len(),
            vectors: with.label_vectors,
            bias: with.label_bias,
            scales: Scales {
                lora: with.lora_scale,
                vector: with.vector_scale,
                bias: with.bias_scale,
            },
        })
    }

    /// The slice of the flat weights that each query carries: all that can differ from the base.
    pub fn moved(&self, shape: &Shape) -> std::ops::Range<usize> {
        match self.train {
            Train::Lora if self.rank == 0 => 0..0,
            Train::Lora => shape.layer_start(0)..shape.final_norm(),
            Train::LastLayers => shape.layer_start(self.first_layer)..shape.weights_len(),
            Train::Full => 0..shape.weights_len(),
        }
    }

    /// Where the gradient of a base weight goes, if it is trained itself.
    pub fn base_gradient(&self, shape: &Shape, offset: usize) -> Option<usize> {
        let moved = self.moved(shape);
        (self.train != Train::Lora && moved.contains(&offset)).then(|| offset - moved.start)
    }

    /// Where the gradient of a matrix' B (`[out, rank]`) goes.
    pub fn lora_gradient(&self, shape: &Shape, layer: usize, matrix: Matrix) -> Option<usize> {
        (self.rank > 0).then(|| self.rank * self.lora_place(shape, layer, matrix, |size| size.0))
    }

    /// Where a matrix' A (`[rank, in]`) lies in the public tensor of all of them.
    pub fn lora_input(&self, shape: &Shape, layer: usize, matrix: Matrix) -> usize {
        self.rank * self.lora_place(shape, layer, matrix, |size| size.1)
    }

    /// Length of the public tensor of all A.
    pub fn lora_inputs_len(&self, shape: &Shape) -> usize {
        self.lora_input(shape, shape.layers, Matrix::Qkv)
    }

    /// Sum of one side of all matrices before the given one.
    fn lora_place(
        &self,
        shape: &Shape,
        layer: usize,
        matrix: Matrix,
        side: fn((usize, usize)) -> usize,
    ) -> usize {
        let sides = Matrix::ALL.map(|matrix| side(shape.size(matrix)));
        layer * sides.iter().sum::<usize>() + sides[..matrix as usize].iter().sum::<usize>()
    }

    /// Length of the trained base part: LoRA matrices, or base weights.
    pub fn base_len(&self, shape: &Shape) -> usize {
        match self.train {
            Train::Lora => {
                self.rank * self.lora_place(shape, shape.layers, Matrix::Qkv, |size| size.0)
            }
            Train::LastLayers | Train::Full => self.moved(shape).len(),
        }
    }

    /// Where the vector of a label before a layer (or the final norm) lies among the label parameters.
    pub fn vector(&self, shape: &Shape, layer: usize, label: usize) -> Option<usize> {
        (self.vectors && layer >= self.first_layer)
            .then(|| ((layer - self.first_layer) * self.labels + label) * shape.hidden)
    }

    /// Where the bias of a label lies among the label parameters.
    pub fn bias(&self, shape: &Shape, label: usize) -> Option<usize> {
        self.bias
            .then(|| self.vectors_len(shape) + label * shape.vocab)
    }

    /// Length of all label vectors; the rest of the label parameters are biases.
    pub fn vectors_len(&self, shape: &Shape) -> usize {
        if self.vectors {
            (shape.layers + 1 - self.first_layer) * self.labels * shape.hidden
        } else {
            0
        }
    }

    /// Length of all label parameters.
    pub fn labels_len(&self, shape: &Shape) -> usize {
        self.vectors_len(shape)
            + if self.bias {
                self.labels * shape.vocab
            } else {
                0
            }
    }

    /// Length of a contribution.
    pub fn dim(&self, shape: &Shape) -> usize {
        self.base_len(shape) + self.labels_len(shape)
    }

    /// Writes the plan into a context.
    pub fn write(&self, writer: &mut Writer) {
        let train = match self.train {
            Train::Lora => 0,
            Train::LastLayers => 1,
            Train::Full => 2,
        };
        let numbers = [
            train,
            self.rank,
            self.first_layer,
            self.labels,
            self.vectors.into(),
            self.bias.into(),
        ];
        writer.u32s(&numbers.map(|number| number as u32));
        writer
            .f32(self.scales.lora)
            .f32(self.scales.vector)
            .f32(self.scales.bias);
    }

    /// Reads what [`Plan::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let numbers = reader.u32s();
        Plan {
            train: [Train::Lora, Train::LastLayers, Train::Full][numbers[0] as usize],
            rank: numbers[1] as usize,
            first_layer: numbers[2] as usize,
            labels: numbers[3] as usize,
            vectors: numbers[4] == 1,
            bias: numbers[5] == 1,
            scales: Scales {
                lora: reader.f32(),
                vector: reader.f32(),
                bias: reader.f32(),
            },
        }
    }
}
