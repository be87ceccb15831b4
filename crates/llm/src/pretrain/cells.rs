//! The narrow bridge between candle tensors and plain slices, CPU only.

use std::sync::OnceLock;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Shape, Storage, Tensor};
use gemm::Parallelism;

use crate::host::matmul::{Matrix, matmul};

/// Makes a CPU tensor that owns `values`.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}

/// Reads a contiguous f32 CPU tensor without copying it.
pub(super) fn read<R>(tensor: &Tensor, use_it: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(values)) = &*storage else {
        candle_core::bail!("the fused training step works on f32 CPU tensors only");
    };
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("the fused training step needs contiguous tensors");
    };
    Ok(use_it(&values[start..end]))
}

struct Change<F>(F);

impl<F: Fn(&mut [f32])> InplaceOp1 for Change<F> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(values) = storage else {
            candle_core::bail!("the fused training step works on f32 CPU tensors only");
        };
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("the fused training step needs contiguous tensors");
        };
        (self.0)(&mut values[start..end]);
        Ok(())
    }
}

/// Changes a contiguous f32 CPU tensor in place; every tensor sharing its storage changes too.
pub(super) fn change(tensor: &Tensor, how: impl Fn(&mut [f32])) -> Result<()> {
    tensor.inplace_op1(&Change(how))
}

/// The product of two f32 CPU matrices of any strides.
///
/// candle's own asks `/proc/cpuinfo` for the number of cores at each product, which takes as long
/// as a product of attention does, or longer on a machine of many cores.
pub(super) fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let out = vec![0f32; a.dim(0)? * b.dim(1)?];
    onto(out, false, a, b)
}

/// `c + a * b`.
pub(super) fn plus_product(c: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    onto(read(c, <[f32]>::to_vec)?, true, a, b)
}

fn onto(mut out: Vec<f32>, add: bool, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let ((m, k), (inner, n)) = (a.dims2()?, b.dims2()?);
    if k != inner || out.len() != m * n {
        candle_core::bail!(
            "no product of [{m}, {k}] and [{inner}, {n}] with {} numbers",
            out.len()
        );
    }
    matrix(a, |a| {
        matrix(b, |b| {
            matmul(a, b, (&mut out, n), (m, k, n), add, threads())
        })
    })??;
    tensor(out, (m, n))
}

fn matrix<R>(tensor: &Tensor, use_it: impl FnOnce(Matrix<'_>) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(values)) = &*storage else {
        candle_core::bail!("the fused training step works on f32 CPU tensors only");
    };
    let [row, column] = *layout.stride() else {
        candle_core::bail!("the fused training step multiplies matrices only");
    };
    let data = &values[layout.start_offset()..];
    Ok(use_it(Matrix { data, row, column }))
}

fn threads() -> Parallelism {
    static THREADS: OnceLock<usize> = OnceLock::new();
    let count = || std::thread::available_parallelism().map_or(1, usize::from);
    match *THREADS.get_or_init(count) {
        1 => Parallelism::None,
        many => Parallelism::Rayon(many),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_candles_whatever_the_strides() {
        let values =
            |count: usize| -> Vec<f32> { (0..count).map(|i| (i * 37 % 23) as f32).collect() };
        let a = tensor(values(42), (6, 7)).unwrap();
        let b = tensor(values(63), (7, 9)).unwrap();
        let turned = b.t().unwrap().contiguous().unwrap();
        for (a, b) in [
            (a.clone(), b.clone()),
            (a.clone(), turned.t().unwrap()),
            (a.narrow(0, 2, 3).unwrap(), b.narrow(1, 4, 5).unwrap()),
            (b.t().unwrap(), a.t().unwrap()),
            (a.narrow(1, 1, 1).unwrap(), b.narrow(0, 6, 1).unwrap()),
        ] {
            let expected = a
                .contiguous()
                .unwrap()
                .matmul(&b.contiguous().unwrap())
                .unwrap();
            let found = product(&a, &b).unwrap();
            assert_eq!(
                found.to_vec2::<f32>().unwrap(),
                expected.to_vec2::<f32>().unwrap()
            );
        }
        let sum = plus_product(&product(&a, &b).unwrap(), &a, &b).unwrap();
        let twice = (product(&a, &b).unwrap() * 2.0).unwrap();
        assert_eq!(
            sum.to_vec2::<f32>().unwrap(),
            twice.to_vec2::<f32>().unwrap()
        );
        assert!(product(&a, &a).is_err());
        assert!(plus_product(&a, &a, &b).is_err());
    }
}
