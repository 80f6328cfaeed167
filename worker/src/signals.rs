//! Signals: SIGTERM and Ctrl-C ask for an orderly end; a second one gets a quick end, which is safe too.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// As shells report a process that a signal has ended.
const INTERRUPTED: i32 = 130;

/// Calls `told` at the first signal, from a thread of its own.
pub fn on_terminate(told: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut terminate, mut interrupt) = {
        let _context = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        )
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!(
                "stopping: commits and checkpoints what there is (a second signal stops at once)"
            );
            told();
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        std::process::exit(INTERRUPTED);
    })?;
    Ok(())
}
