//! The thread of the actors: an actix system of its own on the main runtime. Actors are thin, so that one thread serves them all.

use std::{io, sync::mpsc, thread::JoinHandle};

use actix_rt::{ArbiterHandle, System};
use tokio::runtime::Runtime;

/// The thread and how to stop it; it stops when this is dropped.
pub(super) struct ActorThread {
    system: System,
    thread: Option<JoinHandle<()>>,
}

impl ActorThread {
    pub fn start(main: &'static Runtime) -> io::Result<Self> {
        let (told, system) = mpsc::channel();
        let thread = std::thread::Builder::new().name("actors".to_owned()).spawn(move || {
            let runner = System::with_tokio_rt(|| main);
            if told.send(System::current()).is_ok() {
                // Its result is an exit code that nobody sets.
                let _code = runner.run().is_ok();
            }
        })?;
        let system = system.recv().map_err(io::Error::other)?;
        Ok(Self { system, thread: Some(thread) })
    }

    pub fn arbiter(&self) -> ArbiterHandle {
        self.system.arbiter().clone()
    }

    /// Asks the thread to end, and gives it to be joined.
    pub fn stop(&mut self) -> Option<JoinHandle<()>> {
        self.system.stop();
        self.thread.take()
    }
}

impl Drop for ActorThread {
    fn drop(&mut self) {
        self.system.stop();
    }
}
