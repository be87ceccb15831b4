//! The kernels as ONNX Runtime operators: names, shapes, threads.

use ort::operator::{
    BoxedKernel, ComputeContext, KernelContext, Operator, OperatorDomain, OperatorInput,
    OperatorOutput, ShapeInferenceContext,
};
use ort::value::TensorElementType;

use super::gradients::{self, Norm};
use super::product::{Packed, Side, Size, product};
use super::tasks::{in_parts, shared, take};

/// The domain of our operators.
pub(crate) const DOMAIN: &str = "noisegate";

/// Numbers a task of an elementwise kernel handles.
const TASK_NUMBERS: usize = 1 << 14;

/// Blocks of rows with sums of their own in `LayerNormGrad`: fixed, so that sums do not depend on
/// the number of threads.
const NORM_BLOCKS: usize = 16;

/// All operators, for one session.
///
/// # Errors
/// Those of ONNX Runtime.
pub(crate) fn domain() -> ort::Result<OperatorDomain> {
    OperatorDomain::new(DOMAIN)?
        .add(GeluGrad)?
        .add(SoftmaxGrad)?
        .add(LayerNormGrad)?
        .add(Product { bias: false })?
        .add(Product { bias: true })
}

fn floats(count: usize) -> Vec<OperatorInput> {
    let one = || OperatorInput::required(TensorElementType::Float32);
    (0..count).map(|_| one()).collect()
}

fn float_outputs(count: usize) -> Vec<OperatorOutput> {
    let one = || OperatorOutput::required(TensorElementType::Float32);
    (0..count).map(|_| one()).collect()
}

/// `(dy, x) -> dx`.
struct GeluGrad;

impl Operator for GeluGrad {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        "GeluGrad"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        floats(2)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        float_outputs(1)
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        context.set_output(0, &context.inputs()[1])
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<BoxedKernel<'attr>> {
        Ok(Box::new(|context: &ComputeContext| {
            let (dy, x) = (input(context, 0)?, input(context, 1)?);
            let (dy, (shape, x)) = (dy.try_extract_tensor::<f32>()?.1, x.try_extract_tensor()?);
            let mut dx = output(context, 0, shape)?;
            let dx = dx.try_extract_tensor_mut::<f32>()?.1;
            in_parts(dx, TASK_NUMBERS, context, &|task, dx| {
                let range = task * TASK_NUMBERS..task * TASK_NUMBERS + dx.len();
                gradients::gelu(dx, &dy[range.clone()], &x[range]);
            })
        }))
    }
}

/// `(dy, y) -> dx`, over the last axis.
struct SoftmaxGrad;

impl Operator for SoftmaxGrad {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        "SoftmaxGrad"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        floats(2)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        float_outputs(1)
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        context.set_output(0, &context.inputs()[1])
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<BoxedKernel<'attr>> {
        Ok(Box::new(|context: &ComputeContext| {
            let (dy, y) = (input(context, 0)?, input(context, 1)?);
            let (dy, (shape, y)) = (dy.try_extract_tensor::<f32>()?.1, y.try_extract_tensor()?);
            let width = last(shape);
            let size = (TASK_NUMBERS / width).max(1) * width;
            let mut dx = output(context, 0, shape)?;
            let dx = dx.try_extract_tensor_mut::<f32>()?.1;
            in_parts(dx, size, context, &|task, dx| {
                let range = task * size..task * size + dx.len();
                gradients::softmax(dx, &dy[range.clone()], &y[range], width);
            })
        }))
    }
}

/// `(dy, x, scale, mean, inverse deviation) -> (dx, dscale, dbias)`, over the last axis.
struct LayerNormGrad;

impl Operator for LayerNormGrad {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        "LayerNormGrad"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        floats(5)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        float_outputs(3)
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        let inputs = context.inputs();
        for (index, like) in [1, 2, 2].into_iter().enumerate() {
            context.set_output(index, &inputs[like])?;
        }
        Ok(())
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<BoxedKernel<'attr>> {
        let mut sums = Vec::new();
        Ok(Box::new(move |context: &ComputeContext| {
            let inputs: Vec<_> = (0..5)
                .map(|i| input(context, i))
                .collect::<ort::Result<_>>()?;
            let mut data = Vec::with_capacity(5);
            for value in &inputs {
                data.push(value.try_extract_tensor::<f32>()?);
            }
            let shape = data[1].0;
            let [dy, x, scale, mean, inverse] = [0, 1, 2, 3, 4].map(|i| data[i].1);
            let width = scale.len();
            let rows = mean.len();
            let block = rows.div_ceil(NORM_BLOCKS).max(1);
            sums.clear();
            sums.resize(rows.div_ceil(block) * 2 * width, 0.0f32);
            let mut dx = output(context, 0, shape)?;
            {
                let dx = dx.try_extract_tensor_mut::<f32>()?.1;
                let sums = shared(&mut sums, 2 * width);
                in_parts(dx, block * width, context, &|task, dx| {
                    let mut sums = take(&sums[task]);
                    let first = task * block;
                    let here = dx.len() / width;
                    let numbers = first * width..(first + here) * width;
                    let norm = Norm {
                        dy: &dy[numbers.clone()],
                        x: &x[numbers],
                        scale,
                        mean: &mean[first..first + here],
                        inverse: &inverse[first..first + here],
                    };
                    gradients::layer_norm(dx, &mut sums, &norm);
                })?;
            }
            for index in [1, 2] {
                let mut out = output(context, index, data[2].0)?;
                let out = out.try_extract_tensor_mut::<f32>()?.1;
                out.fill(0.0);
                for block in sums.chunks_exact(2 * width) {
                    let part = &block[(index - 1) * width..][..width];
                    out.iter_mut().zip(part).for_each(|(o, p)| *o += p);
                }
            }
            Ok(())
        }))
    }
}

/// `(A, B[, bias]) -> C`: `transA`, `transB` say which side is turned. Without `transA`, A may have
/// any rank; its last axis is multiplied.
struct Product {
    bias: bool,
}

impl Operator for Product {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        if self.bias { "ProductBias" } else { "Product" }
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        floats(if self.bias { 3 } else { 2 })
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        float_outputs(1)
    }

    fn create_kernel<'attr>(
        &self,
        kernel: &KernelContext<'attr>,
    ) -> ort::Result<BoxedKernel<'attr>> {
        let turned = |name: &str| kernel.get::<i64>(name).unwrap_or(0) == 1;
        let (left, right) = (turned("transA"), turned("transB"));
        let with_bias = self.bias;
        let mut packed = Packed::default();
        Ok(Box::new(move |context: &ComputeContext| {
            let (a, b) = (input(context, 0)?, input(context, 1)?);
            let (a_shape, a) = a.try_extract_tensor::<f32>()?;
            let (b_shape, b) = b.try_extract_tensor::<f32>()?;
            let bias = match with_bias {
                true => Some(input(context, 2)?),
                false => None,
            };
            let bias = match &bias {
                Some(bias) => Some(bias.try_extract_tensor::<f32>()?.1),
                None => None,
            };
            let (a_width, b_width) = (last(a_shape), last(b_shape));
            let (a_rows, b_rows) = (a.len() / a_width, b.len() / b_width);
            let (m, k) = if left {
                (a_width, a_rows)
            } else {
                (a_rows, a_width)
            };
            let (k_b, n) = if right {
                (b_width, b_rows)
            } else {
                (b_rows, b_width)
            };
            if k != k_b {
                return Err(ort::Error::new(format!(
                    "a product of {k} by {k_b} numbers"
                )));
            }
            let mut shape: Vec<i64> = match left {
                true => vec![m as i64],
                false => a_shape[..a_shape.len() - 1].to_vec(),
            };
            shape.push(n as i64);
            let mut c = output(context, 0, &shape)?;
            let c = c.try_extract_tensor_mut::<f32>()?.1;
            let sides = (
                Side {
                    data: a,
                    stride: a_width,
                    along: !left,
                },
                Side {
                    data: b,
                    stride: b_width,
                    along: right,
                },
            );
            product(c, Size { m, n, k }, sides, bias, &mut packed, context)
        }))
    }
}

fn input(context: &ComputeContext, index: usize) -> ort::Result<ort::value::ValueRef<'_>> {
    let value = context.input(index)?;
    value.ok_or_else(|| ort::Error::new(format!("input {index} of an operator is missing")))
}

fn output<'c>(
    context: &'c ComputeContext,
    index: usize,
    shape: &[i64],
) -> ort::Result<ort::value::ValueRefMut<'c>> {
    let value = context.output(index, shape.to_vec())?;
    value.ok_or_else(|| ort::Error::new(format!("output {index} of an operator is missing")))
}

/// The size of the last axis.
fn last(shape: &[i64]) -> usize {
    shape.last().map_or(1, |n| *n as usize).max(1)
}
