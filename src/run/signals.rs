//! SIGINT and SIGTERM: the first ends the run in order, the second at once.

use super::Stop;
use crate::base::fatal::{Exit, Fatal};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Starts the thread that waits for signals for the rest of the process's life.
pub fn watch(stop: Arc<Stop>) -> Result<(), Fatal> {
    let failed = |error| Fatal::host(format!("cannot handle signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    // Unhandled it would end the process; handled, the write that meets a file size limit fails with EFBIG.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map_err(failed)?;
    let wait = move || {
        for (nth, signal) in signals.forever().enumerate() {
            if nth > 0 {
                std::process::exit(Exit::Failed as i32);
            }
            stop.by_user(if signal == SIGINT { "SIGINT" } else { "SIGTERM" });
        }
    };
    let thread = std::thread::Builder::new().name("signals".into()).spawn(wait);
    thread.map(drop).map_err(|error| Fatal::host(format!("cannot start a thread: {error}")))
}
