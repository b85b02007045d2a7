//! The quarantine actor: while a handler's quarantine queue holds something, a process of its own reads it, one message at a time, so that what
//! kills a process kills that one. What the child does lives in `consumer`.

use std::{io::Read, process::Stdio, sync::Arc, time::Duration};

use lapin::Connection;
use orrery_observability::metrics;
use orrery_schemas::topology;
use orrery_supervise::{Actor, ActorError, Life, Mailbox, Progress, Shutdown, Supervisor};
use tokio::{
    process::{Child, Command},
    sync::oneshot,
};
use tracing::{info, warn};

use super::{Bus, BusError, connection::close, standing};

/// How often the queues are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Makes the command that reads the quarantine queue of a handler. Its standard input is closed when it has to end.
pub type ChildCommand = Arc<dyn Fn(&str) -> Command + Send + Sync>;

/// For the child: returns when whoever began it asks it to end, or has died.
pub async fn input_closed() {
    let (closed, wait) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _closed = closed;
        // An error is an end as well.
        let _read = std::io::stdin().read_to_end(&mut Vec::new()).is_ok();
    });
    let _dropped = wait.await.is_err();
}

/// Watches the quarantine queues of this process's handlers.
#[derive(Clone)]
pub struct Quarantine {
    bus: Bus,
    handlers: Vec<&'static str>,
    command: ChildCommand,
    progress: Progress,
    shutdown: Shutdown,
}

/// Why the queues are not watched.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// The broker failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// No process can be had.
    #[error("the process for the quarantine queue of {handler} cannot be run")]
    Process {
        /// Whose queue.
        handler: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// It died on what it read, or could not read at all.
    #[error("the process for the quarantine queue of {handler} ended with {status}")]
    Died {
        /// Whose queue.
        handler: &'static str,
        /// How.
        status: std::process::ExitStatus,
    },
}

impl Actor for Quarantine {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let quarantine = Self { progress: life.progress(), shutdown: life.shutdown(), ..self.clone() };
        life.run(quarantine.run());
        Ok(())
    }
}

impl Quarantine {
    /// Starts what watches the quarantine queues of these handlers and runs `command` for them.
    pub fn start(supervisor: &Supervisor, bus: Bus, handlers: Vec<&'static str>, command: ChildCommand) {
        let (progress, shutdown) = (Progress::default(), supervisor.shutdown_signal());
        let quarantine = Self { bus, handlers, command, progress, shutdown };
        // How long its process may take for a message is that process's own matter.
        let stall_limit = Duration::MAX;
        supervisor
            .start_actor_within("quarantine", Mailbox::own_work(1), stall_limit, move || quarantine.clone());
    }

    /// Watches until shutdown. When a child dies, the next life goes on after a pause.
    async fn run(mut self) -> Result<(), QuarantineError> {
        let connection = self.bus.connect("quarantine").await?;
        let watched = self.watch(&connection).await;
        close(&connection).await;
        watched
    }

    async fn watch(&mut self, connection: &Connection) -> Result<(), QuarantineError> {
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = self.shutdown.requested() => return Ok(()),
            }
            for handler in self.handlers.clone() {
                if self.shutdown.is_requested() {
                    break;
                }
                let queue = topology::quarantine(handler);
                match standing::waiting(&self.bus, connection, &queue).await? {
                    // Health tells of it; the other queues are watched meanwhile.
                    None => self.bus.standing().is_missing(&queue),
                    Some(0) => {}
                    Some(messages) => {
                        metrics::quarantined(handler, u64::from(messages));
                        self.serve(handler).await?;
                    }
                }
            }
        }
    }

    /// Lets one process read the queue until it is empty. Its input stays open meanwhile, which [`Child::wait`] would close.
    async fn serve(&mut self, handler: &'static str) -> Result<(), QuarantineError> {
        let fault = |source| QuarantineError::Process { handler, source };
        warn!(handler, "the quarantine queue holds messages: a process of its own reads them");
        let mut child =
            (self.command)(handler).stdin(Stdio::piped()).kill_on_drop(true).spawn().map_err(fault)?;
        let input = child.stdin.take();
        let held = self.progress.begin();
        let status = tokio::select! {
            status = child.wait() => status,
            () = self.shutdown.requested() => {
                drop(input);
                self.end(&mut child).await
            }
        };
        let status = status.map_err(fault)?;
        held.done();
        if self.shutdown.is_requested() {
            return Ok(());
        }
        if status.success() {
            info!(handler, "the quarantine queue is empty");
            return Ok(());
        }
        Err(QuarantineError::Died { handler, status })
    }

    /// Waits for a child whose input was closed, and kills it when nearly all of the time is over: that counts as a run of its message.
    async fn end(&self, child: &mut Child) -> std::io::Result<std::process::ExitStatus> {
        match tokio::time::timeout(self.shutdown.left().mul_f64(0.9), child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                child.kill().await?;
                child.wait().await
            }
        }
    }
}
