//! The narrow bridge between candle tensors and plain slices, CPU only.

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Shape, Storage, Tensor};

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
