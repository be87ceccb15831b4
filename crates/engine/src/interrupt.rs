//! Ctrl-C: asks what runs to stop, and is asked again.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::EngineError;
use crate::events::Observer;

/// Does `work`, and sets `cancel` at the first Ctrl-C; the observer hears of every further one.
///
/// # Errors
/// [`EngineError::Runtime`] if signals cannot be waited for.
pub fn interruptible<T: Send>(
    cancel: &AtomicBool,
    observer: &dyn Observer,
    work: impl FnOnce() -> T + Send,
) -> Result<T, EngineError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(EngineError::Runtime)?;
    let (done, mut ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::scope(|scope| {
        let working = scope.spawn(move || {
            let result = work();
            // Dropped in a panic too, which ends the wait.
            drop(done);
            result
        });
        runtime.block_on(async {
            let stop = stop_signal();
            tokio::pin!(stop);
            loop {
                tokio::select! {
                    _ = &mut ended => return,
                    () = &mut stop => {
                        stop.set(stop_signal());
                        if cancel.swap(true, Ordering::Relaxed) {
                            observer.asked_again_to_stop();
                        }
                    }
                }
            }
        });
        let result = working.join();
        Ok(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Waits for Ctrl-C or, on Unix, for the signal that a service manager sends.
pub(crate) async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // Without a handler the default applies: the process ends at once.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
