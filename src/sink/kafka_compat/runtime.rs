//! The runtime that rskafka needs. It runs on the thread that calls it, when it is called.

use std::io;
use std::ops::Deref;
use tokio::runtime::{Builder, Runtime};

/// Its end waits for nobody: a name lookup takes as long as the resolver likes.
pub struct CoreRuntime(Option<Runtime>);

impl CoreRuntime {
    pub fn start() -> io::Result<Self> {
        // A thread of its own resolves names, if brokers have any.
        Ok(Self(Some(Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?)))
    }
}

impl Deref for CoreRuntime {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for CoreRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn its_end_does_not_wait_for_a_name() {
        let runtime = CoreRuntime::start().unwrap();
        let (answer, asked) = channel::<()>();
        let (begin, begun) = channel();
        runtime.spawn_blocking(move || {
            begin.send(()).unwrap();
            let _dropped = asked.recv();
        });
        begun.recv().unwrap();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            drop(runtime);
            tell.send(()).unwrap();
        });
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(()));
        drop(answer);
    }
}
