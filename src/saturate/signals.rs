//! SIGINT and SIGTERM are counted; each goes on to the run that is under way.

use crate::base::fatal::Fatal;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Starts the thread that waits for signals for the rest of the process's life.
pub fn watch(interrupts: Arc<AtomicUsize>) -> Result<(), Fatal> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|error| Fatal::host(format!("cannot handle signals: {error}")))?;
    let count = move || {
        for _ in signals.forever() {
            interrupts.fetch_add(1, Ordering::Relaxed);
        }
    };
    let thread = std::thread::Builder::new().name("signals".into()).spawn(count);
    thread.map(drop).map_err(|error| Fatal::host(format!("cannot start a thread: {error}")))
}
