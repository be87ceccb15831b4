//! AdamW as nodes of the graph, over whole packs.
//!
//! Source: Loshchilov, Hutter, "Decoupled Weight Decay Regularization", 2019, Algorithm 2.

use std::collections::{BTreeMap, HashSet};

use super::Kind;
use crate::error::SlmError;
use crate::graph::{Dim, Dtype, Graph, Op, Pack, TensorId};
use crate::model::config::EncoderConfig;
use crate::model::encoder::{INPUT_IDS, Which};
use crate::train::adamw;
use crate::train::step::{StepGraph, StepShape, step_graph};

/// Inputs with the numbers of a step: see [`adamw::Step::scalars`].
pub(super) const SCALARS: [&str; 3] = ["step:size", "step:root", "step:decay"];

/// The parts of a trained pack's state.
pub(super) const PARTS: [&str; 3] = ["p", "m", "v"];

/// The graph of a step; if it has gradients, AdamW over whole packs takes their place.
///
/// # Errors
/// [`SlmError::Shape`], [`SlmError::Derivative`].
pub(in crate::train) fn packed_graph(
    config: &EncoderConfig,
    shape: &StepShape<'_>,
    packs: &[(Pack, Kind)],
    clip_norm: f32,
) -> Result<StepGraph, SlmError> {
    let trained = packs.iter().filter(|(_, kind)| *kind != Kind::Frozen);
    let trained: HashSet<&str> = trained
        .flat_map(|(pack, _)| pack.parts.iter().map(|(name, _)| name.as_str()))
        .collect();
    let mut built = step_graph(config, shape, |name| trained.contains(name))?;
    if shape.backward {
        append_optimizer(&mut built, packs, clip_norm)?;
    }
    Ok(built)
}

fn append_optimizer(
    built: &mut StepGraph,
    packs: &[(Pack, Kind)],
    clip_norm: f32,
) -> Result<(), SlmError> {
    let mut gradients = gradients_by_name(built)?;
    let graph = &mut built.graph;
    let scalars = SCALARS.map(|name| graph.input(name, Dtype::F32, &[Dim::Size(1)]));
    let mut trained = Vec::new();
    let mut total: Option<TensorId> = None;
    for (index, (pack, kind)) in packs.iter().enumerate() {
        if *kind == Kind::Frozen {
            continue;
        }
        let mut parts = Vec::with_capacity(pack.parts.len());
        for (name, shape) in &pack.parts {
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
        trained.push((index, pack, *kind, flat));
    }
    let Some(total) = total else { return Ok(()) };
    let norm = graph.unary(Op::Sqrt, total);
    graph.output("norm", norm);
    let limit = graph.constant(&[], vec![clip_norm])?;
    let longest = graph.max(norm, limit)?;
    let clip = graph.div(limit, longest)?;
    for (index, pack, kind, flat) in trained {
        let decays = kind == Kind::Decays;
        append_adamw(graph, index, pack.len(), flat, clip, scalars, decays)?;
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
