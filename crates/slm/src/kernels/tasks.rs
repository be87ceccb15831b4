//! Work cut into tasks that run at once, each with a part of the result as its own.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ort::operator::ComputeContext;

/// Runs `task(i)` for each `i` below `count`, in any order, perhaps at once.
pub(super) trait Tasks {
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) -> ort::Result<()>;
}

/// The threads of the session.
impl Tasks for ComputeContext {
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) -> ort::Result<()> {
        struct Shared<'t>(&'t (dyn Fn(usize) + Sync));
        let shared = Shared(task);
        self.par_for(count, 0, |index| (shared.0)(index))
    }
}

/// Runs `task(i, part i)` for each part of `data` of `size` numbers.
///
/// # Errors
/// Those of `tasks`.
pub(super) fn in_parts<T: Send>(
    data: &mut [T],
    size: usize,
    tasks: &dyn Tasks,
    task: &(dyn Fn(usize, &mut [T]) + Sync),
) -> ort::Result<()> {
    let parts = shared(data, size);
    tasks.run(parts.len(), &|index| task(index, &mut take(&parts[index])))
}

/// Parts of `data` that tasks may take, each its own.
pub(super) fn shared<T>(data: &mut [T], size: usize) -> Vec<Mutex<&mut [T]>> {
    data.chunks_mut(size.max(1)).map(Mutex::new).collect()
}

/// The part of a task; nobody else asks for it.
pub(super) fn take<'p, 'd, T>(part: &'p Mutex<&'d mut [T]>) -> MutexGuard<'p, &'d mut [T]> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
