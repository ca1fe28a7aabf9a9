//! SIGINT and SIGTERM, on a thread of their own for the rest of the process's life.

use crate::base::fatal::{Exit, Fatal};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The first signal ends the process in order by `stop`, which hears its name; the second ends it at once.
///
/// # Errors
/// As [`watch`].
pub fn end_in_order(stop: impl Fn(&'static str) + Send + 'static) -> Result<(), Fatal> {
    watch(move |signal, before| {
        if before > 0 {
            std::process::exit(Exit::Failed as i32);
        }
        stop(signal);
    })
}

/// `act` hears the name of each signal and how many came before it.
///
/// # Errors
/// Signals cannot be handled, or the thread cannot be started.
pub fn watch(mut act: impl FnMut(&'static str, usize) + Send + 'static) -> Result<(), Fatal> {
    let failed = |error| Fatal::host(format!("cannot handle signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    // Unhandled it would end the process; handled, the write that meets a file size limit fails with EFBIG.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map_err(failed)?;
    let wait = move || {
        for (before, signal) in signals.forever().enumerate() {
            act(if signal == SIGINT { "SIGINT" } else { "SIGTERM" }, before);
        }
    };
    let thread = std::thread::Builder::new().name("signals".into()).spawn(wait);
    thread.map(drop).map_err(|error| Fatal::host(format!("cannot start a thread: {error}")))
}
