//! One method per operator: checks the shapes, then appends the node.
//!
//! Every method fails with [`SlmError::Shape`], which names the operator and both shapes.

use super::{Dim, Dtype, Graph, Op, Shape, TensorId, shape_error};
use crate::error::SlmError;

type Built = Result<TensorId, SlmError>;

impl Graph {
    /// `x[.., in] w[out, in]^T + b[out]`, the layout of PyTorch's `Linear`.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if the inner sizes differ or `w`, `b` have the wrong rank.
    pub fn linear(&mut self, x: TensorId, w: TensorId, b: Option<TensorId>) -> Built {
        let (xs, ws) = (self.shape(x), self.shape(w));
        if ws.len() != 2 || xs.len() < 2 || xs.last() != ws.last() {
            return Err(shape_error("linear", xs, ws));
        }
        let mut shape = xs.to_vec();
        *shape.last_mut().expect("the rank was checked") = ws[0];
        if let Some(b) = b
            && self.shape(b) != &self.shape(w)[..1]
        {
            return Err(shape_error("linear bias", self.shape(w), self.shape(b)));
        }
        let inputs: Vec<TensorId> = [x, w].into_iter().chain(b).collect();
        Ok(self.push(Op::Linear, &inputs, Dtype::F32, vec![shape]))
    }

    /// Matrix product of the last two axes, each side transposed on demand.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if batch axes differ, or the inner sizes do.
    pub fn matmul(&mut self, a: TensorId, b: TensorId, left: bool, right: bool) -> Built {
        let (sa, sb) = (self.shape(a), self.shape(b));
        let rank = sa.len();
        let wrong = || shape_error("matmul", sa, sb);
        if rank < 2 || sb.len() != rank || sa[..rank - 2] != sb[..rank - 2] {
            return Err(wrong());
        }
        let (m, ka) = flip(sa[rank - 2], sa[rank - 1], left);
        let (kb, n) = flip(sb[rank - 2], sb[rank - 1], right);
        if ka != kb {
            return Err(wrong());
        }
        let mut shape = sa[..rank - 2].to_vec();
        shape.extend([m, n]);
        Ok(self.push(Op::MatMul { left, right }, &[a, b], Dtype::F32, vec![shape]))
    }

    /// `a + b` with broadcasting.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if the shapes do not broadcast.
    pub fn add(&mut self, a: TensorId, b: TensorId) -> Built {
        self.elementwise("add", Op::Add, a, b)
    }

    /// `a - b` with broadcasting.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if the shapes do not broadcast.
    pub fn sub(&mut self, a: TensorId, b: TensorId) -> Built {
        self.elementwise("sub", Op::Sub, a, b)
    }

    /// `a * b` with broadcasting.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if the shapes do not broadcast.
    pub fn mul(&mut self, a: TensorId, b: TensorId) -> Built {
        self.elementwise("mul", Op::Mul, a, b)
    }

    /// `a / b` with broadcasting.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if the shapes do not broadcast.
    pub fn div(&mut self, a: TensorId, b: TensorId) -> Built {
        self.elementwise("div", Op::Div, a, b)
    }

    /// The larger of `a` and `b` with broadcasting.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if the shapes do not broadcast.
    pub fn max(&mut self, a: TensorId, b: TensorId) -> Built {
        self.elementwise("max", Op::Max, a, b)
    }

    /// `x * factor`.
    ///
    /// # Errors
    /// Never for a graph of this kind; the `Result` keeps builders chainable.
    pub fn scale(&mut self, x: TensorId, factor: f32) -> Built {
        let factor = self.constant(&[], vec![factor])?;
        self.mul(x, factor)
    }

    /// `x + term`.
    ///
    /// # Errors
    /// Never for a graph of this kind; the `Result` keeps builders chainable.
    pub fn shift(&mut self, x: TensorId, term: f32) -> Built {
        let term = self.constant(&[], vec![term])?;
        self.add(x, term)
    }

    fn elementwise(&mut self, name: &'static str, op: Op, a: TensorId, b: TensorId) -> Built {
        let (sa, sb) = (self.shape(a), self.shape(b));
        let shape = broadcast(sa, sb).ok_or_else(|| shape_error(name, sa, sb))?;
        Ok(self.push(op, &[a, b], Dtype::F32, vec![shape]))
    }

    /// A unary operator that keeps the shape: one of `Neg`, `Exp`, `Sqrt`, `Erf`, `Tanh`,
    /// `Sigmoid`, `Relu`, `Step`, `Gelu`, `Softmax`, `LogSoftmax`.
    pub fn unary(&mut self, op: Op, x: TensorId) -> TensorId {
        debug_assert!(matches!(
            op,
            Op::Neg
                | Op::Exp
                | Op::Sqrt
                | Op::Erf
                | Op::Tanh
                | Op::Sigmoid
                | Op::Relu
                | Op::Step
                | Op::Gelu
                | Op::Softmax
                | Op::LogSoftmax
        ));
        let shape = self.shape(x).to_vec();
        self.push(op, &[x], Dtype::F32, vec![shape])
    }

    /// Layer normalisation over the last axis.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if `scale` or `bias` is not as long as the last axis.
    ///
    /// # Source
    /// Ba, Kiros, Hinton, "Layer Normalization", 2016, eq. 4.
    pub fn layer_norm(
        &mut self,
        x: TensorId,
        scale: TensorId,
        bias: TensorId,
        epsilon: f32,
    ) -> Built {
        let shape = self.shape(x).to_vec();
        for vector in [scale, bias] {
            if shape.is_empty() || self.shape(vector) != &shape[shape.len() - 1..] {
                return Err(shape_error("layer_norm", &shape, self.shape(vector)));
            }
        }
        let mut statistic = shape.clone();
        *statistic.last_mut().expect("the rank was checked") = Dim::Size(1);
        let shapes = vec![shape, statistic.clone(), statistic];
        let op = Op::LayerNorm { epsilon };
        Ok(self.push(op, &[x, scale, bias], Dtype::F32, shapes))
    }

    /// Rows of `table[n, d]` by id: shape of `ids` followed by `d`.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if the table is not a matrix.
    pub fn gather(&mut self, table: TensorId, ids: TensorId) -> Built {
        let (st, si) = (self.shape(table), self.shape(ids));
        if st.len() != 2 || self.tensor(ids).dtype != Dtype::I64 {
            return Err(shape_error("gather", st, si));
        }
        let mut shape = si.to_vec();
        shape.push(st[1]);
        Ok(self.push(Op::Gather, &[table, ids], Dtype::F32, vec![shape]))
    }

    /// A zero `[rows, d]` table to which `values[.., d]` are added at `ids[..]`.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if `values` does not match `ids`.
    pub fn scatter_add(&mut self, ids: TensorId, values: TensorId, rows: usize) -> Built {
        let (si, sv) = (self.shape(ids), self.shape(values));
        if sv.len() != si.len() + 1 || sv[..si.len()] != *si {
            return Err(shape_error("scatter_add", si, sv));
        }
        let shape = vec![Dim::Size(rows), sv[si.len()]];
        Ok(self.push(Op::ScatterAdd, &[ids, values], Dtype::F32, vec![shape]))
    }

    /// Rows `start..` of `table[n, d]`, as many as axis `axis` of `like` has.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if the table is not a matrix or has too few rows.
    pub fn rows(&mut self, table: TensorId, like: TensorId, start: usize, axis: usize) -> Built {
        let (st, sl) = (self.shape(table), self.shape(like));
        let enough = match (st.first(), sl.get(axis)) {
            (Some(Dim::Size(has)), Some(Dim::Size(wants))) => start + wants <= *has,
            (Some(_), Some(_)) => true,
            _ => false,
        };
        if st.len() != 2 || !enough {
            return Err(shape_error("rows", st, sl));
        }
        let shape = vec![sl[axis], st[1]];
        let op = Op::Rows { start, axis };
        Ok(self.push(op, &[table, like], Dtype::F32, vec![shape]))
    }

    /// A zero `[rows, d]` table with `values[n, d]` at rows `start..`.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if the rows do not fit.
    pub fn pad_rows(&mut self, values: TensorId, start: usize, rows: usize) -> Built {
        let sv = self.shape(values);
        let shape = match sv {
            [Dim::Size(n), width] if start + n <= rows => vec![Dim::Size(rows), *width],
            _ => return Err(shape_error("pad_rows", sv, &[Dim::Size(rows)])),
        };
        Ok(self.push(Op::PadRows { start }, &[values], Dtype::F32, vec![shape]))
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if the number of elements differs.
    pub fn reshape(&mut self, x: TensorId, shape: &[Dim]) -> Built {
        let from = self.shape(x);
        if volume(from) != volume(shape) {
            return Err(shape_error("reshape", from, shape));
        }
        if from == shape {
            return Ok(x);
        }
        let dtype = self.tensor(x).dtype;
        Ok(self.push(Op::Reshape, &[x], dtype, vec![shape.to_vec()]))
    }

    /// Axes in the order `order`.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if `order` is not a permutation of the axes.
    pub fn transpose(&mut self, x: TensorId, order: &[usize]) -> Built {
        let from = self.shape(x);
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if sorted != (0..from.len()).collect::<Vec<_>>() {
            let order: Shape = order.iter().map(|&axis| Dim::Size(axis)).collect();
            return Err(shape_error("transpose", from, &order));
        }
        let shape = order.iter().map(|&axis| from[axis]).collect();
        let op = Op::Transpose(order.to_vec());
        Ok(self.push(op, &[x], Dtype::F32, vec![shape]))
    }

    /// Sum over `axes`, kept with size 1 or dropped.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if an axis does not exist.
    pub fn reduce_sum(&mut self, x: TensorId, axes: &[usize], keep: bool) -> Built {
        let shape = self.reduced("reduce_sum", x, axes, keep)?;
        let axes = axes.to_vec();
        Ok(self.push(Op::ReduceSum { axes, keep }, &[x], Dtype::F32, vec![shape]))
    }

    /// Mean over `axes`, kept with size 1 or dropped.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if an axis does not exist.
    pub fn reduce_mean(&mut self, x: TensorId, axes: &[usize], keep: bool) -> Built {
        let shape = self.reduced("reduce_mean", x, axes, keep)?;
        let axes = axes.to_vec();
        Ok(self.push(Op::ReduceMean { axes, keep }, &[x], Dtype::F32, vec![shape]))
    }

    fn reduced(
        &self,
        name: &'static str,
        x: TensorId,
        axes: &[usize],
        keep: bool,
    ) -> Result<Shape, SlmError> {
        let from = self.shape(x);
        if axes.iter().any(|&axis| axis >= from.len()) {
            let axes: Shape = axes.iter().map(|&axis| Dim::Size(axis)).collect();
            return Err(shape_error(name, from, &axes));
        }
        let kept = from.iter().enumerate().filter_map(|(axis, &size)| {
            match (axes.contains(&axis), keep) {
                (false, _) => Some(size),
                (true, true) => Some(Dim::Size(1)),
                (true, false) => None,
            }
        });
        Ok(kept.collect())
    }

    /// Size-1 axes repeated up to `shape`, of the same rank.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if an axis neither fits nor has size 1.
    pub fn expand(&mut self, x: TensorId, shape: &[Dim]) -> Built {
        let from = self.shape(x);
        if from.len() != shape.len() || broadcast(from, shape).as_deref() != Some(shape) {
            return Err(shape_error("expand", from, shape));
        }
        if from == shape {
            return Ok(x);
        }
        Ok(self.push(Op::Expand, &[x], Dtype::F32, vec![shape.to_vec()]))
    }

    /// The gradient of `Gelu` at `x`, or of `Softmax` whose result was `of`.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if the shapes differ.
    pub(super) fn elementwise_gradient(&mut self, op: Op, dy: TensorId, of: TensorId) -> Built {
        let shape = self.shape(dy).to_vec();
        if shape != self.shape(of) {
            return Err(shape_error("gradient", &shape, self.shape(of)));
        }
        Ok(self.push(op, &[dy, of], Dtype::F32, vec![shape]))
    }

    /// The gradients of `LayerNorm` at `x`, scale and bias; `statistics` are its mean and inverse
    /// deviation.
    pub(super) fn layer_norm_gradient(
        &mut self,
        dy: TensorId,
        x: TensorId,
        scale: TensorId,
        statistics: [TensorId; 2],
    ) -> [TensorId; 3] {
        let (full, vector) = (self.shape(x).to_vec(), self.shape(scale).to_vec());
        let inputs = [dy, x, scale, statistics[0], statistics[1]];
        let shapes = vec![full, vector.clone(), vector];
        let first = self.push(Op::LayerNormGrad, &inputs, Dtype::F32, shapes);
        [0, 1, 2].map(|i| TensorId(first.0 + i))
    }

    /// Tensors flattened and put one after the other.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if one has a symbolic axis.
    pub fn concat_flat(&mut self, parts: &[TensorId]) -> Built {
        let mut sizes = Vec::with_capacity(parts.len());
        for &part in parts {
            let (size, batch, length) = volume(self.shape(part));
            if batch + length > 0 {
                return Err(shape_error("concat", self.shape(part), &[]));
            }
            sizes.push(size);
        }
        let width = grain(sizes.iter().copied());
        let mut tall = Vec::with_capacity(parts.len());
        for (&part, size) in parts.iter().zip(&sizes) {
            let shape = [Dim::Size(size / width), Dim::Size(width)];
            tall.push(self.reshape(part, &shape)?);
        }
        let total: usize = sizes.iter().sum();
        let shape = vec![Dim::Size(total / width), Dim::Size(width)];
        let all = self.push(Op::Concat, &tall, Dtype::F32, vec![shape]);
        self.reshape(all, &[Dim::Size(total)])
    }

    /// i64 to f32.
    pub fn to_float(&mut self, x: TensorId) -> TensorId {
        let shape = self.shape(x).to_vec();
        self.push(Op::ToFloat, &[x], Dtype::F32, vec![shape])
    }
}

/// The largest width that all sizes are a multiple of.
///
/// On a card `Concat` and `Split` make a list on the processor as long as the axis they work along,
/// at every run: along a hundred thousand rows it is nothing, along twenty million numbers a third
/// of a second.
pub(super) fn grain(sizes: impl Iterator<Item = usize>) -> usize {
    let divisor = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    sizes.fold(0, divisor).max(1)
}

fn flip(a: Dim, b: Dim, swap: bool) -> (Dim, Dim) {
    if swap { (b, a) } else { (a, b) }
}

/// The shape two operands broadcast to, right-aligned.
pub(super) fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Shape> {
    let rank = a.len().max(b.len());
    let at = |shape: &[Dim], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(i) => shape[i],
        None => Dim::Size(1),
    };
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (x, y) if x == y => Some(x),
            (Dim::Size(1), y) => Some(y),
            (x, Dim::Size(1)) => Some(x),
            _ => None,
        })
        .collect()
}

/// Fixed elements, and how often each symbolic axis occurs.
fn volume(shape: &[Dim]) -> (usize, usize, usize) {
    shape.iter().fold((1, 0, 0), |(n, b, l), dim| match dim {
        Dim::Size(size) => (n * size, b, l),
        Dim::Batch => (n, b + 1, l),
        Dim::Length => (n, b, l + 1),
    })
}
