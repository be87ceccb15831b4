//! The loss of all heads, as a graph and as the numbers fed to it.
//!
//! Every head's part is written with operators whose derivatives are tested anyway:
//!
//! - single-label: `- sum(targets * log_softmax(logits + allowed))`. `allowed` is 0 at the outputs
//!   of the row's own head and very low elsewhere, so the softmax runs over that head alone.
//! - multi-label: `[log s(z), log s(-z)]` is the log-softmax of `[z, 0]`, which never overflows;
//!   the loss is its sum against `[w y, w (1 - y)]`, with `s` the logistic function.
//! - number: `sum(w (z - y)^2)`, of numbers scaled to mean 0 and deviation 1.
//!
//! Parts that no head needs are left out of the graph. A row adds nothing to the parts of other
//! heads: its targets and weights are zero there.

use crate::error::SlmError;
use crate::graph::{Dim, Dtype, Graph, Op, TensorId};
use crate::model::heads::{Head, Task, outputs, ranges};

use super::rows::Row;
use super::targets::Known;

/// Score of an output that is not of the row's head; its softmax weight becomes exactly zero.
const OTHER_HEAD: f32 = -1e9;

/// A part of what is fed, all `[batch, outputs, ..]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Targets,
    Allowed,
    Pairs,
    Numbers,
    NumberWeights,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Targets => "targets",
            Self::Allowed => "allowed",
            Self::Pairs => "pairs",
            Self::Numbers => "numbers",
            Self::NumberWeights => "number_weights",
        }
    }

    /// Values an output takes.
    fn depth(self) -> usize {
        if self == Self::Pairs { 2 } else { 1 }
    }
}

/// What these heads need, in a fixed order.
fn parts(heads: &[Head]) -> Vec<Part> {
    let any = |task| heads.iter().any(|head| head.task == task);
    let mut parts = Vec::new();
    if any(Task::SingleLabel) {
        parts.push(Part::Targets);
        if heads.len() > 1 {
            parts.push(Part::Allowed);
        }
    }
    if any(Task::MultiLabel) {
        parts.push(Part::Pairs);
    }
    if any(Task::Number) {
        parts.extend([Part::Numbers, Part::NumberWeights]);
    }
    parts
}

/// Names and shapes of what is fed beside ids and mask.
#[must_use]
pub fn inputs(heads: &[Head], batch: usize) -> Vec<(&'static str, Vec<usize>)> {
    let width = outputs(heads);
    let shape = |part: Part| match part.depth() {
        1 => vec![batch, width],
        depth => vec![batch, width, depth],
    };
    let all = parts(heads).into_iter();
    all.map(|part| (part.name(), shape(part))).collect()
}

/// The scalar loss of `logits` `[batch, outputs]`: a sum over rows.
///
/// # Errors
/// [`SlmError::Shape`] if `logits` has another width than the heads.
pub fn build(
    graph: &mut Graph,
    logits: TensorId,
    batch: usize,
    heads: &[Head],
) -> Result<TensorId, SlmError> {
    let declared: Vec<(Part, TensorId)> = parts(heads)
        .into_iter()
        .zip(inputs(heads, batch))
        .map(|(part, (name, shape))| {
            let shape: Vec<Dim> = shape.into_iter().map(Dim::Size).collect();
            (part, graph.input(name, Dtype::F32, &shape))
        })
        .collect();
    let fed = |wanted: Part| {
        let mut all = declared.iter();
        all.find(|(part, _)| *part == wanted).map(|(_, id)| *id)
    };
    let mut sums = Vec::new();
    if let Some(targets) = fed(Part::Targets) {
        let own = match fed(Part::Allowed) {
            Some(allowed) => graph.add(logits, allowed)?,
            None => logits,
        };
        let logs = graph.unary(Op::LogSoftmax, own);
        let weighted = graph.mul(targets, logs)?;
        let sum = graph.reduce_sum(weighted, &[0, 1], false)?;
        sums.push(graph.unary(Op::Neg, sum));
    }
    if let Some(pairs) = fed(Part::Pairs) {
        let mut shape = graph.shape(logits).to_vec();
        shape.push(Dim::Size(1));
        let column = graph.reshape(logits, &shape)?;
        let beside_zero = graph.constant(&[2], vec![1.0, 0.0])?;
        let both = graph.mul(column, beside_zero)?;
        let logs = graph.unary(Op::LogSoftmax, both);
        let weighted = graph.mul(pairs, logs)?;
        let sum = graph.reduce_sum(weighted, &[0, 1, 2], false)?;
        sums.push(graph.unary(Op::Neg, sum));
    }
    if let (Some(numbers), Some(weights)) = (fed(Part::Numbers), fed(Part::NumberWeights)) {
        let distance = graph.sub(logits, numbers)?;
        let square = graph.mul(distance, distance)?;
        let weighted = graph.mul(weights, square)?;
        sums.push(graph.reduce_sum(weighted, &[0, 1], false)?);
    }
    let mut sums = sums.into_iter();
    let first = sums.next().ok_or_else(|| SlmError::Labels {
        problem: "belongs to no head".to_owned(),
    })?;
    sums.try_fold(first, |total, sum| graph.add(total, sum))
}

/// How targets become numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighing<'w> {
    /// A row's targets sum to this times its weight.
    pub scale: f32,
    /// Share of a target spread over all labels of its head.
    pub smoothing: f32,
    /// Factor of each output's share in the loss; of a multi-label head, of its yes.
    pub factors: &'w [f32],
}

/// What is fed for `rows`, in the order of [`inputs`]; missing rows up to `size` weigh nothing.
pub(super) fn fill<'r>(
    heads: &[Head],
    rows: impl Iterator<Item = &'r Row> + Clone,
    size: usize,
    weighing: Weighing<'_>,
) -> Vec<Vec<f32>> {
    let (width, ranges) = (outputs(heads), ranges(heads));
    let part = |part: Part| {
        let depth = part.depth();
        let mut values = vec![0.0; size * width * depth];
        for (row, values) in rows.clone().zip(values.chunks_exact_mut(width * depth)) {
            let own = ranges[row.head].clone();
            let filling = Filling {
                row,
                weight: row.weight * weighing.scale,
                weighing,
                start: own.start,
            };
            match part {
                Part::Allowed => {
                    values.fill(OTHER_HEAD);
                    values[own].fill(0.0);
                }
                Part::Targets => filling.targets(&mut values[own]),
                Part::Pairs => filling.pairs(&mut values[2 * own.start..2 * own.end]),
                Part::Numbers => filling.numbers(&mut values[own]),
                Part::NumberWeights if matches!(row.known, Known::Numbers(_)) => {
                    let factors = &weighing.factors[own.clone()];
                    let shares = values[own].iter_mut().zip(factors);
                    shares.for_each(|(value, factor)| *value = filling.weight * factor);
                }
                Part::NumberWeights => {}
            }
        }
        values
    };
    parts(heads).into_iter().map(part).collect()
}

struct Filling<'f> {
    row: &'f Row,
    weight: f32,
    weighing: Weighing<'f>,
    /// First output of the row's head.
    start: usize,
}

impl Filling<'_> {
    fn targets(&self, own: &mut [f32]) {
        let shares = match &self.row.known {
            Known::Label(output) => &[(*output, 1.0)],
            Known::Shares(shares) => shares.as_slice(),
            _ => return,
        };
        let (smoothing, count) = (self.weighing.smoothing, own.len() as f32);
        for (output, share) in shares {
            let weight = self.weight * self.weighing.factors[*output] * share;
            own.iter_mut()
                .for_each(|it| *it += weight * smoothing / count);
            own[output - self.start] += weight * (1.0 - smoothing);
        }
    }

    fn pairs(&self, own: &mut [f32]) {
        let Known::Labels(outputs) = &self.row.known else {
            return;
        };
        let smoothing = self.weighing.smoothing;
        let (pairs, _) = own.as_chunks_mut::<2>();
        for (index, [yes, no]) in pairs.iter_mut().enumerate() {
            let output = self.start + index;
            let is = f32::from(u8::from(outputs.contains(&output)));
            let wanted = is * (1.0 - smoothing) + smoothing / 2.0;
            *yes = self.weight * wanted * self.weighing.factors[output];
            *no = self.weight * (1.0 - wanted);
        }
    }

    fn numbers(&self, own: &mut [f32]) {
        if let Known::Numbers(numbers) = &self.row.known {
            let pairs = own.iter_mut().zip(numbers);
            pairs.for_each(|(own, number)| *own = *number as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(head: usize, known: Known, weight: f32) -> Row {
        Row {
            ids: vec![2, 7, 3],
            head,
            known,
            unit: None,
            weight,
            synthetic: false,
        }
    }

    fn heads() -> Vec<Head> {
        let head = |name: &str, task, labels: &[&str]| Head {
            name: name.to_owned(),
            ..Head::only(task, labels.iter().copied())
        };
        vec![
            head("a", Task::SingleLabel, &["x", "y"]),
            head("b", Task::MultiLabel, &["p", "q"]),
            head("c", Task::Number, &["n"]),
        ]
    }

    #[test]
    fn each_row_weighs_in_the_part_of_its_own_head_only() {
        let rows = [
            row(0, Known::Label(1), 0.5),
            row(1, Known::Labels(vec![3]), 1.0),
            row(2, Known::Numbers(vec![7.0]), 2.0),
        ];
        let weighing = Weighing {
            scale: 1.0,
            smoothing: 0.0,
            factors: &[1.0, 1.0, 1.0, 3.0, 1.0],
        };
        let filled = fill(&heads(), rows.iter(), 4, weighing);
        let [targets, allowed, pairs, numbers, weights] = filled.as_slice() else {
            panic!("{filled:?}");
        };
        assert_eq!(targets[..5], [0.0, 0.5, 0.0, 0.0, 0.0]);
        assert!(targets[5..].iter().all(|v| *v == 0.0));
        assert_eq!(allowed[..5], [0.0, 0.0, OTHER_HEAD, OTHER_HEAD, OTHER_HEAD]);
        assert_eq!(
            pairs[10..20],
            [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 3.0, 0.0, 0.0, 0.0]
        );
        assert_eq!(numbers[10..15], [0.0, 0.0, 0.0, 0.0, 7.0]);
        assert_eq!(weights[10..15], [0.0, 0.0, 0.0, 0.0, 2.0]);
        for part in &filled {
            let quiet = &part[part.len() / 4 * 3..];
            assert!(quiet.iter().all(|v| *v == 0.0), "a missing row weighs");
        }
    }

    /// As the same row would with each of its labels, in their shares.
    #[test]
    fn shares_of_labels_weigh_as_so_many_rows_would() {
        let weighing = Weighing {
            scale: 1.0,
            smoothing: 0.1,
            factors: &[1.0, 3.0],
        };
        let heads = &heads()[..1];
        let of = |known| fill(heads, [row(0, known, 0.5)].iter(), 1, weighing).remove(0);
        let (first, second) = (of(Known::Label(0)), of(Known::Label(1)));
        let shared = of(Known::Shares(vec![(1, 0.25), (0, 0.75)]));
        for output in 0..2 {
            let wanted = 0.75 * first[output] + 0.25 * second[output];
            assert!((shared[output] - wanted).abs() < 1e-7, "{shared:?}");
        }
    }

    #[test]
    fn smoothed_targets_of_a_row_sum_to_its_weight() {
        let rows = [row(0, Known::Label(0), 0.5)];
        let weighing = Weighing {
            scale: 0.5,
            smoothing: 0.1,
            factors: &[1.0; 2],
        };
        let filled = fill(&heads()[..1], rows.iter(), 1, weighing);
        assert_eq!(filled.len(), 1, "one head needs no mask");
        let sum: f32 = filled[0].iter().sum();
        assert!((sum - 0.25).abs() < 1e-6);
        assert!(filled[0][0] > filled[0][1] && filled[0][1] > 0.0);
    }
}
