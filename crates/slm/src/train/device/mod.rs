//! Training with the optimizer inside the graph: nothing but batches travels to the device.
//!
//! ```text
//! front: values, m, v ──┐                                  ┌─> back: values, m, v
//! ids, mask, targets ───┼─> forward + backward + AdamW ────┼─> loss, norm of the gradients
//! rate, corrections ────┘                                  └─   (then front and back change places)
//! ```
//!
//! All weights of a kind are one long vector (a [`Pack`]), so a step of AdamW is a dozen nodes, not
//! a dozen for each weight. Two sets of vectors take turns: a vector bound as input and output at
//! once would be overwritten before its last reader.
//!
//! What it simplifies: every row of an embedding table is updated, which is what AdamW says and
//! costs a card nothing; and a batch always runs whole.

pub(super) mod optimizer;
mod session;

use std::collections::BTreeMap;

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::value::Tensor;

use super::options::TrainOptions;
use super::step::{Inputs, StepShape};
use super::weights::is_frozen;
use crate::error::SlmError;
use crate::graph::{self, Dim, Dtype, Graph, Pack, SessionOptions};
use crate::model::Model;
use crate::model::config::EncoderConfig;
use crate::params::{Array, Parameters};
use crate::random::Stream;
use crate::runtime::{Device, Runtime};
use optimizer::PARTS;
use session::{DeviceStep, Outcome};

/// All weights of a run, on a device.
pub(super) struct DeviceWeights {
    options: SessionOptions,
    runtime: Runtime,
    /// Matrices, vectors (which do not decay) and what is not trained.
    packs: Vec<Packed>,
    clip_norm: f32,
    /// Copies packs to the processor: one session each.
    mover: Vec<Session>,
    sessions: BTreeMap<(usize, bool), DeviceStep>,
}

struct Packed {
    pack: Pack,
    kind: Kind,
    /// Values, and moments if they are trained; the set the next step reads.
    front: Vec<Tensor<f32>>,
    /// The set the next step writes; empty if nothing is trained.
    back: Vec<Tensor<f32>>,
}

/// What AdamW does with a pack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Decays,
    Stays,
    Frozen,
}

/// A model's weights in packs: matrices, vectors, and what is not trained.
pub(super) fn packs(model: &Model, options: &TrainOptions) -> Vec<(Pack, Kind)> {
    let kinds = [Kind::Decays, Kind::Stays, Kind::Frozen];
    let mut parts: [Vec<(String, Vec<usize>)>; 3] = Default::default();
    for (name, array) in model.weights.iter() {
        let kind = match is_frozen(name, model, options) {
            true => 2,
            false => usize::from(array.shape.len() < 2),
        };
        parts[kind].push((name.to_owned(), array.shape.clone()));
    }
    let held = parts.into_iter().zip(kinds).filter(|(p, _)| !p.is_empty());
    let numbered = held.enumerate().map(|(index, (parts, kind))| {
        let name = format!("pack:{index}:p");
        (Pack { name, parts }, kind)
    });
    numbered.collect()
}

impl DeviceWeights {
    /// Packs a model's weights; they move to the device with the first step.
    ///
    /// # Errors
    /// [`SlmError::NoCuda`], [`SlmError::Runtime`].
    pub(super) fn new(
        runtime: &Runtime,
        model: &Model,
        options: &TrainOptions,
    ) -> Result<Self, SlmError> {
        let mut weights = Self {
            options: SessionOptions {
                threads: options.threads,
                device: options.device,
            },
            runtime: runtime.clone(),
            packs: Vec::new(),
            clip_norm: options.clip_norm,
            mover: Vec::new(),
            sessions: BTreeMap::new(),
        };
        for (pack, kind) in packs(model, options) {
            weights.add_pack(model, pack, kind)?;
        }
        Ok(weights)
    }

    fn add_pack(&mut self, model: &Model, pack: Pack, kind: Kind) -> Result<(), SlmError> {
        let names = pack.parts.iter().map(|(name, _)| model.weights.get(name));
        let arrays: Vec<&Array> = names.collect::<Result<_, _>>()?;
        let size = pack.len();
        let mut graph = Graph::new();
        let all = graph.input("in", Dtype::F32, &[Dim::Size(size)]);
        graph.output("out", all);
        let onnx = graph::lower(&graph, graph::Weights::Fed)?;
        let mover = graph::open(&self.runtime, &onnx, self.options)?;
        let build = || -> ort::Result<Packed> {
            let mut values = Tensor::<f32>::new(&Allocator::default(), [size])?;
            let mut at = 0;
            for array in &arrays {
                let to = &mut values.extract_tensor_mut().1[at..at + array.data.len()];
                to.copy_from_slice(&array.data);
                at += array.data.len();
            }
            let mut front = vec![values];
            let mut back = Vec::new();
            if kind != Kind::Frozen {
                for _ in 0..2 {
                    let mut zeros = Tensor::<f32>::new(&Allocator::default(), [size])?;
                    zeros.extract_tensor_mut().1.fill(0.0);
                    front.push(zeros);
                }
                let allocator = allocator(&mover, self.options.device)?;
                for _ in 0..3 {
                    back.push(Tensor::<f32>::new(&allocator, [size])?);
                }
            }
            Ok(Packed {
                pack,
                kind,
                front,
                back,
            })
        };
        let packed = build().map_err(SlmError::runtime("allocate the weights on the device"))?;
        self.packs.push(packed);
        self.mover.push(mover);
        Ok(())
    }

    /// One optimizer step.
    ///
    /// # Errors
    /// [`SlmError::Shape`], [`SlmError::Runtime`].
    pub(super) fn step(
        &mut self,
        config: &EncoderConfig,
        shape: &StepShape<'_>,
        inputs: &Inputs,
        scalars: [f32; 3],
        masks: &mut Stream,
    ) -> Result<Outcome, SlmError> {
        self.open(config, shape)?;
        let step = self.sessions.get_mut(&(shape.length, true));
        let step = step.expect("opened above");
        let outcome = step
            .run(
                inputs,
                Some(scalars),
                (shape.dropout, masks),
                &mut self.packs,
            )
            .map_err(SlmError::runtime("run a training step on the device"))?;
        if self.packs.iter().any(|p| p.first_step(self.options.device)) {
            self.settle()
                .map_err(SlmError::runtime("allocate the weights on the device"))?;
        }
        for packed in &mut self.packs {
            if packed.kind != Kind::Frozen {
                std::mem::swap(&mut packed.front, &mut packed.back);
            }
        }
        Ok(outcome)
    }

    /// Loss and logits of the weights as they stand.
    ///
    /// # Errors
    /// [`SlmError::Shape`], [`SlmError::Runtime`].
    pub(super) fn score(
        &mut self,
        config: &EncoderConfig,
        shape: &StepShape<'_>,
        inputs: &Inputs,
    ) -> Result<(f32, &[f32]), SlmError> {
        self.open(config, shape)?;
        let step = self.sessions.get_mut(&(shape.length, false));
        let step = step.expect("opened above");
        let outcome = step
            .run(inputs, None, (0.0, &mut Stream::new(0, 0)), &mut self.packs)
            .map_err(SlmError::runtime("validate on the device"))?;
        let logits = step.logits.as_ref().expect("validation has logits");
        Ok((outcome.loss, logits.extract_tensor().1))
    }

    /// After the first step the front set still lies in the processor's memory.
    fn settle(&mut self) -> ort::Result<()> {
        for (packed, mover) in self.packs.iter_mut().zip(&self.mover) {
            if packed.kind != Kind::Frozen {
                let allocator = allocator(mover, self.options.device)?;
                for tensor in &mut packed.front {
                    *tensor = Tensor::<f32>::new(&allocator, [packed.pack.len()])?;
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, config: &EncoderConfig, shape: &StepShape) -> Result<(), SlmError> {
        let key = (shape.length, shape.backward);
        if !self.sessions.contains_key(&key) {
            let step = DeviceStep::open(self, config, shape)?;
            self.sessions.insert(key, step);
        }
        Ok(())
    }

    /// The weights as they stand.
    ///
    /// # Errors
    /// [`SlmError::Runtime`].
    pub(super) fn snapshot(&mut self) -> Result<Parameters, SlmError> {
        let mut parameters = Parameters::default();
        for (packed, mover) in self.packs.iter().zip(&mut self.mover) {
            let values = fetch(mover, &packed.front[0])?;
            let mut at = 0;
            for (name, shape) in &packed.pack.parts {
                let size = shape.iter().product::<usize>();
                let array = Array {
                    shape: shape.clone(),
                    data: values[at..at + size].to_vec(),
                };
                parameters.insert(name.clone(), array);
                at += size;
            }
        }
        Ok(parameters)
    }

    /// Values and moments, to be restored later.
    ///
    /// # Errors
    /// [`SlmError::Runtime`].
    pub(super) fn state(&mut self) -> Result<Parameters, SlmError> {
        let mut state = Parameters::default();
        for (index, (packed, mover)) in self.packs.iter().zip(&mut self.mover).enumerate() {
            if packed.kind == Kind::Frozen {
                continue;
            }
            for (part, tensor) in PARTS.iter().zip(&packed.front) {
                let data = fetch(mover, tensor)?;
                let shape = vec![data.len()];
                state.insert(format!("pack:{index}:{part}"), Array { shape, data });
            }
        }
        Ok(state)
    }

    /// Goes back to what [`Self::state`] gave.
    ///
    /// # Errors
    /// [`SlmError::WeightMissing`] if a part is absent.
    pub(super) fn restore(&mut self, state: &Parameters) -> Result<(), SlmError> {
        for (index, packed) in self.packs.iter_mut().enumerate() {
            if packed.kind == Kind::Frozen {
                continue;
            }
            for (part, tensor) in PARTS.iter().zip(&mut packed.front) {
                let array = state.get(&format!("pack:{index}:{part}"))?;
                tensor.extract_tensor_mut().1.copy_from_slice(&array.data);
            }
        }
        Ok(())
    }
}

impl Packed {
    /// Does the front set still lie in the processor's memory, though a card computes?
    fn first_step(&self, device: Device) -> bool {
        self.kind != Kind::Frozen
            && device != Device::Cpu
            && self.front[0].memory_info().is_cpu_accessible()
    }
}

fn allocator(session: &Session, device: Device) -> ort::Result<Allocator> {
    match device {
        Device::Cpu => Ok(Allocator::default()),
        Device::Cuda(card) => {
            let (kind, memory) = (AllocatorType::Device, MemoryType::Default);
            let info = MemoryInfo::new(AllocationDevice::CUDA, card, kind, memory)?;
            Allocator::new(session, info)
        }
    }
}

fn fetch(mover: &mut Session, tensor: &Tensor<f32>) -> Result<Vec<f32>, SlmError> {
    let mut copy = || -> ort::Result<Vec<f32>> {
        let mut binding = mover.create_binding()?;
        let size = tensor.shape()[0] as usize;
        let mut out = Tensor::<f32>::new(&Allocator::default(), [size])?;
        binding.bind_input("in", tensor)?;
        binding.bind_output("out", &mut out)?;
        mover.run_binding(&binding)?;
        Ok(out.extract_tensor().1.to_vec())
    };
    copy().map_err(SlmError::runtime("fetch the weights from the device"))
}
