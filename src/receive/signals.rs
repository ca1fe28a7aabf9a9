//! SIGINT and SIGTERM: the first ends the receiver in order, the second at once.

use super::worker::Shared;
use crate::base::fatal::{Exit, Fatal};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;

/// Starts the thread that waits for signals for the rest of the process's life.
pub fn watch(shared: Arc<Shared>) -> Result<(), Fatal> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|error| Fatal::host(format!("cannot handle signals: {error}")))?;
    let wait = move || {
        for (nth, _) in signals.forever().enumerate() {
            if nth > 0 {
                std::process::exit(Exit::Failed as i32);
            }
            shared.stop();
        }
    };
    let thread = std::thread::Builder::new().name("signals".into()).spawn(wait);
    thread.map(drop).map_err(|error| Fatal::host(format!("cannot start a thread: {error}")))
}
