//! The quarantine actor: while a handler's quarantine lane holds something, a process of its own reads it, one message at a time, so that what
//! kills a process kills that one. What the child does lives in `consumer`.

use std::{io::Read, process::Stdio, sync::Arc, time::Duration};

use lapin::{Channel, options::QueueDeclareOptions, types::FieldTable};
use tokio::{
    process::{Child, Command},
    sync::oneshot,
};
use tracing::{info, warn};

use super::{Bus, BusError, connection::close, topology};
use crate::supervise::{Pulse, Shutdown};

/// How often the lanes are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Makes the command that reads the quarantine lane of a handler. Its standard input is closed when it has to end.
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

/// Watches the quarantine lanes of this process's handlers.
pub struct Quarantine {
    /// The broker.
    pub bus: Bus,
    /// The handlers' names.
    pub handlers: Vec<&'static str>,
    /// What is run for one of them.
    pub command: ChildCommand,
    /// What it shows of its work.
    pub pulse: Pulse,
    /// When to end.
    pub shutdown: Shutdown,
}

/// Why the lanes are not watched.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// The broker failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// No process can be had.
    #[error("the process for the quarantine lane of {handler} cannot be run")]
    Process {
        /// Whose lane.
        handler: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// It died on what it read, or could not read at all.
    #[error("the process for the quarantine lane of {handler} ended with {status}")]
    Died {
        /// Whose lane.
        handler: &'static str,
        /// How.
        status: std::process::ExitStatus,
    },
}

impl Quarantine {
    /// Watches until shutdown.
    ///
    /// # Errors
    /// When the broker goes away, or a child dies: the supervisor goes on after a pause.
    pub async fn run(mut self) -> Result<(), QuarantineError> {
        let connection = self.bus.connect("quarantine").await?;
        let channel = connection.create_channel().await.map_err(BusError::Amqp)?;
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = self.shutdown.requested() => {
                    close(&connection).await;
                    return Ok(());
                }
            }
            for handler in self.handlers.clone() {
                if self.shutdown.is_requested() {
                    break;
                }
                if self.waiting(&channel, handler).await? > 0 {
                    self.serve(handler).await?;
                }
            }
        }
    }

    async fn waiting(&self, channel: &Channel, handler: &str) -> Result<u32, BusError> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let queue = topology::quarantine(handler);
        let declared = channel.queue_declare(queue.as_str().into(), passive, FieldTable::default());
        Ok(self.bus.within(declared).await?.message_count())
    }

    /// Lets one process read the lane until it is empty. Its input stays open meanwhile, which [`Child::wait`] would close.
    async fn serve(&mut self, handler: &'static str) -> Result<(), QuarantineError> {
        let fault = |source| QuarantineError::Process { handler, source };
        warn!(handler, "the quarantine lane holds messages: a process of its own reads them");
        let mut child =
            (self.command)(handler).stdin(Stdio::piped()).kill_on_drop(true).spawn().map_err(fault)?;
        let input = child.stdin.take();
        let held = self.pulse.take();
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
            info!(handler, "the quarantine lane is empty");
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
