//! The pure kernels a guest may import, run natively by the host.
//!
//! They are part of the trusted base. Each is a function of its arguments and
//! of handles that live and die with the instance; they keep no other state and
//! reach no clock, file or randomness, so they change nothing in the promise.
//! Before any number is computed, sizes are checked in u64 and fuel is charged:
//!
//! ```text
//! fuel = 100 + flops / 16 + bytes / 4
//! ```
//! which makes a kernel a little dearer, per unit of time, than the same work
//! in WebAssembly instructions at one fuel each, so that a fuel limit bounds
//! time. [`FLOPS_MAX`] bounds a single kernel, which nothing can interrupt.
//!
//! Start with `link`; the arithmetic is in [`math`].

pub mod math;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType, WasmList};
use wasmtime::{Result, StoreContextMut};

pub use math::KernelError;
use math::{Product, add, gather, gathered_len, matmul, range, range_mut, scatter_add};

use crate::host::{Host, charge};

/// The interface a guest may import, by name and version.
pub const INTERFACE: &str = "noisegate:client/kernels@0.1.0";

/// The interface of plain types; it holds no functions.
pub const TYPES_INTERFACE: &str = "noisegate:client/types@0.1.0";

/// Every item of [`INTERFACE`].
pub const ITEMS: [&str; 12] = [
    "tensor",
    "accum",
    "[constructor]tensor",
    "[method]tensor.len",
    "[method]tensor.read",
    "[method]accum.len",
    "[method]accum.add",
    "gemm",
    "gemm-w",
    "gemm-acc",
    "gather",
    "scatter-add",
];

/// Floating-point operations of the largest single kernel: about a second.
pub const FLOPS_MAX: u64 = 1 << 36;

/// Marks handles of the WIT resource `tensor`.
pub struct Tensor;

/// Marks handles of the WIT resource `accum`.
pub struct Accum;

type Caller<'a> = StoreContextMut<'a, Host>;

/// A list in the instance's memory: the bits of its numbers.
type Lent = WasmList<u32>;

/// Fuel for `flops` operations on `numbers` floats moved.
pub fn fuel(flops: u64, numbers: u64) -> u64 {
    numbers.saturating_add(flops / 16).saturating_add(100)
}

/// Offers the kernels to a component; beside them only frozen WASI is ever offered (`wasi.rs`).
///
/// # Errors
/// Only if an item is defined twice, which cannot happen here.
pub(crate) fn link(linker: &mut Linker<Host>) -> Result<()> {
    linker.instance(TYPES_INTERFACE)?;
    let mut kernels = linker.instance(INTERFACE)?;
    link_handles(&mut kernels)?;
    link_products(&mut kernels)?;
    link_rows(&mut kernels)
}

fn link_handles(kernels: &mut LinkerInstance<'_, Host>) -> Result<()> {
    kernels.resource(
        "tensor",
        ResourceType::host::<Tensor>(),
        |mut store, handle| {
            store.data_mut().drop_tensor(handle);
            Ok(())
        },
    )?;
    // No guest can own an accumulator: there is no constructor.
    kernels.resource("accum", ResourceType::host::<Accum>(), |_, _| Ok(()))?;
    kernels.func_wrap(
        "[constructor]tensor",
        |mut store: Caller<'_>, (values,): (Vec<f32>,)| {
            charge(&mut store, fuel(0, values.len() as u64))?;
            let handle = store.data_mut().insert_tensor(values)?;
            Ok((Resource::<Tensor>::new_own(handle),))
        },
    )?;
    kernels.func_wrap(
        "[method]tensor.len",
        |mut store: Caller<'_>, (tensor,): (Resource<Tensor>,)| {
            charge(&mut store, fuel(0, 0))?;
            Ok((store.data().tensor(tensor.rep())?.len() as u64,))
        },
    )?;
    kernels.func_wrap(
        "[method]tensor.read",
        |mut store: Caller<'_>, (tensor, offset, len): (Resource<Tensor>, u64, u32)| {
            charge(&mut store, fuel(0, u64::from(len)))?;
            let host = store.data();
            let values = range(host.tensor(tensor.rep())?, offset, u64::from(len))?;
            host.reserve(u64::from(len))?;
            Ok((values.to_vec(),))
        },
    )?;
    kernels.func_wrap(
        "[method]accum.len",
        |mut store: Caller<'_>, (_accum,): (Resource<Accum>,)| {
            charge(&mut store, fuel(0, 0))?;
            Ok((store.data().accum_len()?,))
        },
    )?;
    kernels.func_wrap(
        "[method]accum.add",
        |mut store: Caller<'_>, (_accum, offset, values): (Resource<Accum>, u64, Vec<f32>)| {
            let len = values.len() as u64;
            charge(&mut store, fuel(len, len))?;
            with_accum(&mut store, |_, accum| {
                add(range_mut(accum, offset, len)?, &values)
            })
        },
    )
}

fn link_products(kernels: &mut LinkerInstance<'_, Host>) -> Result<()> {
    kernels.func_wrap(
        "gemm",
        |mut store: Caller<'_>, (a, b, product): (Lent, Lent, Product)| {
            charge_product(&mut store, product)?;
            let mut c = room_for(store.data(), product)?;
            let [a, b] = [&a, &b].map(|list| numbers(list, &store));
            matmul(product, a, b, &mut c, false)?;
            Ok((c,))
        },
    )?;

    type GemmW = (Lent, Resource<Tensor>, u64, Product);
    kernels.func_wrap(
        "gemm-w",
        |mut store: Caller<'_>, (a, w, offset, product): GemmW| {
            charge_product(&mut store, product)?;
            let host = store.data();
            let w = range(host.tensor(w.rep())?, offset, product.b().numbers()?)?;
            let mut c = room_for(host, product)?;
            matmul(product, numbers(&a, &store), w, &mut c, false)?;
            Ok((c,))
        },
    )?;

    type GemmAcc = (Resource<Accum>, u64, Lent, Lent, Product);
    kernels.func_wrap(
        "gemm-acc",
        |mut store: Caller<'_>, (_into, offset, a, b, product): GemmAcc| {
            charge_product(&mut store, product)?;
            let len = product.c().numbers()?;
            with_accum(&mut store, |store, accum| {
                let [a, b] = [&a, &b].map(|list| numbers(list, store));
                matmul(product, a, b, range_mut(accum, offset, len)?, true)
            })
        },
    )
}

/// The numbers of a list, where they lie in the instance's memory.
fn numbers<'a>(list: &Lent, store: &'a Caller<'_>) -> &'a [f32] {
    bytemuck::cast_slice(list.as_le_slice(store))
}

/// Lets `act` change the contribution while it reads the instance's memory.
///
/// The instance has it back however `act` ends, so that a failed unit's can be made zero.
fn with_accum(
    store: &mut Caller<'_>,
    act: impl FnOnce(&Caller<'_>, &mut [f32]) -> Result<(), KernelError>,
) -> Result<()> {
    let mut accum = store.data_mut().take_accum().ok_or(KernelError::Handle)?;
    let done = catch_unwind(AssertUnwindSafe(|| act(store, accum.numbers_mut())));
    store.data_mut().return_accum(accum);
    match done {
        Ok(done) => Ok(done?),
        Err(panic) => resume_unwind(panic),
    }
}

/// Zeros for the result of a product, if the instance may have them.
fn room_for(host: &Host, product: Product) -> Result<Vec<f32>, KernelError> {
    let len = product.c().numbers()?;
    host.reserve(len)?;
    Ok(vec![0.0; len as usize])
}

fn link_rows(kernels: &mut LinkerInstance<'_, Host>) -> Result<()> {
    type Gather = (Resource<Tensor>, u64, u32, Lent);
    kernels.func_wrap(
        "gather",
        |mut store: Caller<'_>, (w, offset, width, rows): Gather| {
            let len = gathered_len(width, rows.len())?;
            charge(&mut store, fuel(0, len.saturating_add(rows.len() as u64)))?;
            let host = store.data();
            host.reserve(len)?;
            let rows = rows.as_le_slice(&store);
            Ok((gather(host.tensor(w.rep())?, offset, width, rows)?,))
        },
    )?;

    type ScatterAdd = (Resource<Accum>, u64, u32, Lent, Lent);
    kernels.func_wrap(
        "scatter-add",
        |mut store: Caller<'_>, (_into, offset, width, rows, values): ScatterAdd| {
            let len = gathered_len(width, rows.len())?;
            charge(&mut store, fuel(len, len.saturating_add(rows.len() as u64)))?;
            with_accum(&mut store, |store, accum| {
                let rows = rows.as_le_slice(store);
                scatter_add(accum, offset, width, rows, numbers(&values, store))
            })
        },
    )
}

fn charge_product(store: &mut Caller<'_>, product: Product) -> Result<()> {
    let lengths = [product.a(), product.b(), product.c()].map(|matrix| matrix.numbers());
    let mut numbers = 0_u64;
    for len in lengths {
        numbers = numbers.saturating_add(len?);
    }
    let flops = product.flops();
    charge(store, fuel(flops, numbers))?;
    if flops > FLOPS_MAX {
        return Err(KernelError::TooLarge.into());
    }
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::Arc;

    use wasmtime::{AsContextMut, Engine, Store};

    use super::*;
    use crate::board::Contribution;
    use crate::limits::Limits;

    #[test]
    fn the_contribution_is_there_however_a_kernel_ends() {
        let board = memfd::MemfdOptions::default().create("board").unwrap();
        board.as_file().set_len(16).unwrap();
        let mut contribution = Contribution::map(board.as_file(), 16).unwrap();
        contribution.begin(0, 4).unwrap();
        let limits = Limits::default().private;
        let host = Host::new(&limits, Arc::default(), Some(contribution));
        let mut store = Store::new(&Engine::default(), host);

        let failed = with_accum(&mut store.as_context_mut(), |_, accum| {
            accum[0] = 1.0;
            Err(KernelError::TooLarge)
        });
        assert!(failed.is_err());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            with_accum(&mut store.as_context_mut(), |_, accum| {
                accum[1] = 2.0;
                panic!("a bug of a kernel")
            })
        }));
        assert!(panicked.is_err());
        let contribution = store.data_mut().take_accum().unwrap();
        assert_eq!(contribution.numbers(), [1.0, 2.0, 0.0, 0.0]);
    }
}
