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

use std::collections::BTreeMap;

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::Tensor;

use super::adamw;
use super::loss;
use super::options::TrainOptions;
use super::step::{Inputs, StepGraph, StepShape, step_graph};
use super::weights::is_frozen;
use crate::error::SlmError;
use crate::graph::{self, Dim, Dtype, Graph, Op, Pack, SessionOptions, TensorId};
use crate::model::Model;
use crate::model::config::EncoderConfig;
use crate::model::encoder::{ATTENTION_MASK, INPUT_IDS, Which};
use crate::model::heads;
use crate::params::{Array, Parameters};
use crate::random::Stream;
use crate::runtime::{Device, Runtime};

/// Inputs with the numbers of a step: see [`adamw::Step::scalars`].
const SCALARS: [&str; 3] = ["step:size", "step:root", "step:decay"];

/// The parts of a trained pack's state.
const PARTS: [&str; 3] = ["p", "m", "v"];

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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Decays,
    Stays,
    Frozen,
}

/// What came out of one batch.
pub(super) struct Outcome {
    pub loss: f32,
    /// Norm of all gradients before clipping; zero in validation.
    pub norm: f32,
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
        let mut sorted: [Vec<(&str, &Array)>; 3] = Default::default();
        for (name, array) in model.weights.iter() {
            let kind = if is_frozen(name, model, options) {
                2
            } else {
                usize::from(array.shape.len() < 2)
            };
            sorted[kind].push((name, array));
        }
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
        for (arrays, kind) in sorted.iter().zip([Kind::Decays, Kind::Stays, Kind::Frozen]) {
            if !arrays.is_empty() {
                weights.add_pack(arrays, kind)?;
            }
        }
        Ok(weights)
    }

    fn add_pack(&mut self, arrays: &[(&str, &Array)], kind: Kind) -> Result<(), SlmError> {
        let parts = arrays.iter();
        let pack = Pack {
            name: format!("pack:{}:p", self.packs.len()),
            parts: parts
                .map(|(n, a)| ((*n).to_owned(), a.shape.clone()))
                .collect(),
        };
        let size = pack.len();
        let mut graph = Graph::new();
        let all = graph.input("in", Dtype::F32, &[Dim::Size(size)]);
        graph.output("out", all);
        let onnx = graph::lower(&graph, graph::Weights::Fed)?;
        let mover = graph::open(&self.runtime, &onnx, self.options)?;
        let build = || -> ort::Result<Packed> {
            let mut values = Tensor::<f32>::new(&Allocator::default(), [size])?;
            let mut at = 0;
            for (_, array) in arrays {
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

    fn is_trained(&self, name: &str) -> bool {
        let mut trained = self.packs.iter().filter(|p| p.kind != Kind::Frozen);
        trained.any(|p| p.pack.parts.iter().any(|(n, _)| n == name))
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

/// A session for one length.
struct DeviceStep {
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
    logits: Option<Tensor<f32>>,
    /// Names of the pack inputs this graph reads.
    reads: Vec<String>,
    /// What is not trained was bound, which copies it to the device.
    frozen_bound: bool,
}

impl DeviceStep {
    fn open(
        weights: &DeviceWeights,
        config: &EncoderConfig,
        shape: &StepShape<'_>,
    ) -> Result<Self, SlmError> {
        let mut built = step_graph(config, shape, |name| weights.is_trained(name))?;
        if shape.backward {
            append_optimizer(&mut built, weights)?;
        }
        let packs: Vec<Pack> = weights.packs.iter().map(|p| p.pack.clone()).collect();
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
    fn run(
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

/// Replaces the graph's gradient outputs by AdamW over whole packs.
///
/// Source: Loshchilov, Hutter, "Decoupled Weight Decay Regularization", 2019, Algorithm 2.
fn append_optimizer(built: &mut StepGraph, weights: &DeviceWeights) -> Result<(), SlmError> {
    let mut gradients = gradients_by_name(built)?;
    let graph = &mut built.graph;
    let scalars = SCALARS.map(|name| graph.input(name, Dtype::F32, &[Dim::Size(1)]));
    let mut trained = Vec::new();
    let mut total: Option<TensorId> = None;
    for (index, packed) in weights.packs.iter().enumerate() {
        if packed.kind == Kind::Frozen {
            continue;
        }
        let mut parts = Vec::with_capacity(packed.pack.parts.len());
        for (name, shape) in &packed.pack.parts {
            parts.push(match gradients.remove(name) {
                Some(id) => id,
                None => {
                    // A weight that the loss does not depend on.
                    let zero = graph.constant(&vec![1; shape.len()], vec![0.0])?;
                    let shape: Vec<Dim> = shape.iter().map(|&n| Dim::Size(n)).collect();
                    graph.expand(zero, &shape)?
                }
            });
        }
        let flat = graph.concat_flat(&parts)?;
        let square = graph.mul(flat, flat)?;
        let sum = graph.reduce_sum(square, &[0], false)?;
        total = Some(match total {
            None => sum,
            Some(so_far) => graph.add(so_far, sum)?,
        });
        trained.push((index, packed, flat));
    }
    let Some(total) = total else { return Ok(()) };
    let norm = graph.unary(Op::Sqrt, total);
    graph.output("norm", norm);
    let limit = graph.constant(&[], vec![weights.clip_norm])?;
    let longest = graph.max(norm, limit)?;
    let clip = graph.div(limit, longest)?;
    for (index, packed, flat) in trained {
        let decays = packed.kind == Kind::Decays;
        append_adamw(graph, index, packed.pack.len(), flat, clip, scalars, decays)?;
    }
    Ok(())
}

/// Takes the gradients out of the outputs; those of table rows become those of whole tables.
fn gradients_by_name(built: &mut StepGraph) -> Result<BTreeMap<String, TensorId>, SlmError> {
    let graph = &mut built.graph;
    let outputs = std::mem::take(&mut graph.outputs);
    let mut gradients = BTreeMap::new();
    for (name, id) in outputs {
        if let Some(name) = name.strip_prefix("grad:") {
            gradients.insert(name.to_owned(), id);
        } else if let Some(table) = name.strip_prefix("rows:") {
            let used = built.tables.iter().find(|used| used.table == table);
            let used = used.expect("every output of rows has its table");
            let rows = graph
                .parameters()
                .find(|&id| graph.tensor(id).name == table)
                .map_or(0, |id| match graph.shape(id)[0] {
                    Dim::Size(rows) => rows,
                    _ => 0,
                });
            let whole = match used.which {
                Which::Ids => {
                    let ids = graph
                        .inputs()
                        .find(|&id| graph.tensor(id).name == INPUT_IDS)
                        .expect("every encoder reads token ids");
                    graph.scatter_add(ids, id, rows)?
                }
                Which::From(start) => put_in_place(graph, id, start, rows)?,
            };
            gradients.insert(table.to_owned(), whole);
        } else {
            graph.outputs.push((name, id));
        }
    }
    Ok(gradients)
}

/// The rows of `values` from row `start` on of a zero table, flat. `Pad`'s newest version has no CUDA
/// kernel.
fn put_in_place(
    graph: &mut Graph,
    values: TensorId,
    start: usize,
    rows: usize,
) -> Result<TensorId, SlmError> {
    let &[Dim::Size(count), Dim::Size(width)] = graph.shape(values) else {
        return graph.pad_rows(values, start, rows);
    };
    let mut parts = Vec::with_capacity(3);
    for (size, part) in [
        (start * width, None),
        (count * width, Some(values)),
        ((rows - start - count) * width, None),
    ] {
        match part {
            Some(part) => parts.push(part),
            None if size == 0 => {}
            None => {
                let zero = graph.constant(&[1], vec![0.0])?;
                parts.push(graph.expand(zero, &[Dim::Size(size)])?);
            }
        }
    }
    graph.concat_flat(&parts)
}

fn append_adamw(
    graph: &mut Graph,
    index: usize,
    size: usize,
    gradient: TensorId,
    clip: TensorId,
    [rate, root, decay]: [TensorId; 3],
    decays: bool,
) -> Result<(), SlmError> {
    let vector = [Dim::Size(size)];
    let [p, m, v] = PARTS.map(|part| {
        let name = format!("pack:{index}:{part}");
        graph.input(&name, Dtype::F32, &vector)
    });
    let g = graph.mul(gradient, clip)?;
    let (old, new) = (
        graph.scale(m, adamw::BETA_1)?,
        graph.scale(g, 1.0 - adamw::BETA_1)?,
    );
    let m = graph.add(old, new)?;
    let square = graph.mul(g, g)?;
    let (old, new) = (
        graph.scale(v, adamw::BETA_2)?,
        graph.scale(square, 1.0 - adamw::BETA_2)?,
    );
    let v = graph.add(old, new)?;
    let deviation = graph.unary(Op::Sqrt, v);
    let deviation = graph.mul(deviation, root)?;
    let deviation = graph.shift(deviation, adamw::EPSILON)?;
    let step = graph.div(m, deviation)?;
    let step = graph.mul(step, rate)?;
    let kept = if decays { graph.mul(p, decay)? } else { p };
    let p = graph.sub(kept, step)?;
    for (part, id) in PARTS.iter().zip([p, m, v]) {
        graph.output(&format!("new:pack:{index}:{part}"), id);
    }
    Ok(())
}
