//! A step's session, and what is bound to it.

use ort::memory::Allocator;
use ort::session::{IoBinding, Session};
use ort::value::Tensor;

use super::optimizer::{PARTS, SCALARS, packed_graph};
use super::{DeviceWeights, Kind, Packed};
use crate::error::SlmError;
use crate::graph::{self, Pack};
use crate::model::config::EncoderConfig;
use crate::model::encoder::{ATTENTION_MASK, INPUT_IDS};
use crate::model::heads;
use crate::random::Stream;
use crate::train::loss;
use crate::train::step::{Inputs, StepGraph, StepShape};

/// What came out of one batch.
pub(in crate::train) struct Outcome {
    pub loss: f32,
    /// Norm of all gradients before clipping; zero in validation.
    pub norm: f32,
}

/// A session for one length.
pub(super) struct DeviceStep {
    session: Session,
    binding: IoBinding,
    ids: Tensor<i64>,
    mask: Tensor<i64>,
    /// What the loss is fed: see [`loss::inputs`].
    targets: Vec<(&'static str, Tensor<f32>)>,
    scalars: Vec<Tensor<f32>>,
    dropout: Vec<(String, Tensor<f32>)>,
    loss: Tensor<f32>,
    norm: Option<Tensor<f32>>,
    /// Of validation.
    pub logits: Option<Tensor<f32>>,
    /// Names of the pack inputs this graph reads.
    reads: Vec<String>,
    /// What is not trained was bound, which copies it to the device.
    frozen_bound: bool,
}

impl DeviceStep {
    pub(super) fn open(
        weights: &DeviceWeights,
        config: &EncoderConfig,
        shape: &StepShape<'_>,
    ) -> Result<Self, SlmError> {
        let packed = weights.packs.iter();
        let packs: Vec<(Pack, Kind)> = packed.map(|p| (p.pack.clone(), p.kind)).collect();
        let built = packed_graph(config, shape, &packs, weights.clip_norm)?;
        let packs: Vec<Pack> = packs.into_iter().map(|(pack, _)| pack).collect();
        let onnx = graph::lower(&built.graph, graph::Weights::Packed(&packs))?;
        let inputs = onnx.inputs.iter().map(|(name, ..)| name.clone());
        let reads = inputs.filter(|name| name.starts_with("pack:")).collect();
        let session = graph::open(&weights.runtime, &onnx, weights.options)?;
        Self::bind(session, &built, shape, reads).map_err(SlmError::runtime(
            "bind the tensors of a step on the device",
        ))
    }

    fn bind(
        session: Session,
        built: &StepGraph,
        shape: &StepShape<'_>,
        reads: Vec<String>,
    ) -> ort::Result<Self> {
        let mut binding = session.create_binding()?;
        let host = Allocator::default();
        let grid = [shape.batch, shape.length];
        let mut output = |name: &str, shape: &[usize]| -> ort::Result<Tensor<f32>> {
            let mut tensor = Tensor::<f32>::new(&host, shape)?;
            binding.bind_output(name, &mut tensor)?;
            Ok(tensor)
        };
        let total = output("loss", &[])?;
        let (mut norm, mut logits) = (None, None);
        match shape.backward {
            true => norm = Some(output("norm", &[])?),
            false => {
                logits = Some(output(
                    "logits",
                    &[shape.batch, heads::outputs(shape.heads)],
                )?)
            }
        }
        let dropout = built
            .masks
            .iter()
            .map(|name| {
                let input = session.inputs().iter().find(|input| input.name() == name);
                let shape = input.and_then(|input| input.dtype().tensor_shape());
                let shape: Vec<usize> = shape
                    .map(|shape| shape.iter().map(|n| *n as usize).collect())
                    .unwrap_or_default();
                Ok((name.clone(), Tensor::<f32>::new(&host, shape)?))
            })
            .collect::<ort::Result<Vec<_>>>()?;
        Ok(Self {
            ids: Tensor::new(&host, grid)?,
            mask: Tensor::new(&host, grid)?,
            targets: loss::inputs(shape.heads, shape.batch)
                .into_iter()
                .map(|(name, shape)| Ok((name, Tensor::<f32>::new(&host, shape)?)))
                .collect::<ort::Result<Vec<_>>>()?,
            scalars: SCALARS
                .iter()
                .map(|_| Tensor::new(&host, [1usize]))
                .collect::<ort::Result<Vec<_>>>()?,
            session,
            binding,
            dropout,
            loss: total,
            norm,
            logits,
            reads,
            frozen_bound: false,
        })
    }

    /// Runs a batch; with `scalars` the packs' back sets are written.
    pub(super) fn run(
        &mut self,
        inputs: &Inputs,
        scalars: Option<[f32; 3]>,
        (dropout, masks): (f32, &mut Stream),
        packs: &mut [Packed],
    ) -> ort::Result<Outcome> {
        self.ids.extract_tensor_mut().1.copy_from_slice(&inputs.ids);
        let mask = self.mask.extract_tensor_mut().1;
        mask.copy_from_slice(&inputs.mask);
        // A tensor of the processor is copied to the device when it is bound.
        self.binding.bind_input(INPUT_IDS, &self.ids)?;
        self.binding.bind_input(ATTENTION_MASK, &self.mask)?;
        for ((name, target), values) in self.targets.iter_mut().zip(&inputs.loss) {
            target.extract_tensor_mut().1.copy_from_slice(values);
            self.binding.bind_input(*name, target)?;
        }
        for (name, mask) in &mut self.dropout {
            masks.dropout(mask.extract_tensor_mut().1, dropout);
            self.binding.bind_input(name.as_str(), mask)?;
        }
        if let Some(scalars) = scalars {
            for ((name, tensor), value) in SCALARS.iter().zip(&mut self.scalars).zip(scalars) {
                tensor.extract_tensor_mut().1[0] = value;
                self.binding.bind_input(*name, tensor)?;
            }
        }
        for (index, packed) in packs.iter_mut().enumerate() {
            if packed.kind == Kind::Frozen && self.frozen_bound {
                continue;
            }
            for (part, tensor) in PARTS.iter().zip(&packed.front) {
                let name = format!("pack:{index}:{part}");
                if self.reads.contains(&name) {
                    self.binding.bind_input(name, tensor)?;
                }
            }
            if scalars.is_some() && packed.kind != Kind::Frozen {
                for (part, tensor) in PARTS.iter().zip(&mut packed.back) {
                    let name = format!("new:pack:{index}:{part}");
                    self.binding.bind_output(name, tensor)?;
                }
            }
        }
        self.frozen_bound = true;
        self.session.run_binding(&self.binding)?;
        Ok(Outcome {
            loss: self.loss.extract_tensor().1[0],
            norm: self.norm.as_ref().map_or(0.0, |n| n.extract_tensor().1[0]),
        })
    }
}
