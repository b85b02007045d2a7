//! Hands over the messages that wait for the peer of a socket. They are leased to it, sent, and removed once the client's side has answered the
//! ping that was sent behind them: WebSockets keep their order, so that what stands before a ping was read when its pong comes.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::json;
use tokio::{sync::Notify, time::timeout};
use tracing::warn;

use super::{Close, Socket};
use crate::{metrics, store::StoreFault};

/// What the client says that it has received.
#[derive(Default)]
pub struct Receipt {
    asked: Mutex<Asked>,
    given: Notify,
    /// Whether the client that has joined waits to be told what it has missed, be it nothing.
    greets: AtomicBool,
}

#[derive(Default)]
struct Asked {
    number: u64,
    is_given: bool,
}

impl Receipt {
    /// The payload of the ping behind what was sent last. Later pings say it too: a client may answer the last one only (RFC 6455, 5.5.3).
    pub fn payload(&self) -> [u8; 8] {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).number.to_be_bytes()
    }

    fn ask(&self) -> [u8; 8] {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.number += 1;
        asked.is_given = false;
        asked.number.to_be_bytes()
    }

    /// A pong came.
    pub fn given(&self, payload: &[u8]) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if payload == asked.number.to_be_bytes() {
            asked.is_given = true;
            drop(asked);
            self.given.notify_waiters();
        }
    }

    async fn is_given(&self) {
        loop {
            let mut given = std::pin::pin!(self.given.notified());
            given.as_mut().enable();
            if self.asked.lock().unwrap_or_else(PoisonError::into_inner).is_given {
                return;
            }
            given.await;
        }
    }

    /// The client has joined.
    pub fn joined(&self) {
        self.greets.store(true, Ordering::Release);
    }
}

/// Hands messages over whenever some may wait, until `over`; then lets go of those that were not received. What is asked of the store is never cut
/// off: a lease that is written after its socket let go would hide its messages until it ends.
pub async fn hand_over(socket: &Arc<Socket>, over: impl Future<Output = ()>) {
    let mut over = std::pin::pin!(over);
    'attending: loop {
        tokio::select! {
            () = &mut over => break,
            () = socket.wake.notified() => {}
        }
        while socket.is_joined() {
            // On the heap while it lasts: ten thousand idle sockets would have room for it each, 4 KB.
            match Box::pin(batch(socket, over.as_mut())).await {
                Ok(Batch::Received) => {}
                Ok(Batch::NoneWait) => break,
                Ok(Batch::Over) => break 'attending,
                Err(error) => {
                    warn!(%error, "messages that wait could not be handed over; they are tried again");
                    break;
                }
            }
        }
    }
    Box::pin(let_go(socket)).await;
}

/// How handing some over ended.
enum Batch {
    /// The client has them; there may be more.
    Received,
    /// There is none, or the client took too long.
    NoneWait,
    /// The socket ends.
    Over,
}

async fn batch(socket: &Arc<Socket>, over: Pin<&mut impl Future<Output = ()>>) -> Result<Batch, StoreFault> {
    let store = &socket.shared.store;
    let waiting = store.lease_messages(&socket.name, socket.lease).await?;
    if waiting.is_empty() {
        if socket.receipt.greets.swap(false, Ordering::AcqRel) {
            socket.push("pending_messages", &json!({"messages": []}));
        }
        return Ok(Batch::NoneWait);
    }
    socket.receipt.greets.store(false, Ordering::Release);
    let ids: Vec<_> = waiting.iter().map(|message| message.id).collect();
    // A frame each: a client need not take more than the largest message at once.
    for message in &waiting {
        socket.push("pending_messages", &json!({"messages": [message]}));
    }
    socket.outgoing.ping(&socket.receipt.ask());
    tokio::select! {
        () = over => return Ok(Batch::Over),
        received = timeout(socket.shared.limits.receipt, socket.receipt.is_given()) => if received.is_err() {
            // They stay, and are handed over when the peer comes again.
            socket.outgoing.close(Close::TooSlow);
            return Ok(Batch::NoneWait);
        },
    }
    store.received(socket.lease, ids).await?;
    metrics::messages("delivered", waiting.len());
    Ok(Batch::Received)
}

/// Lets go of the messages that the client has not received; whoever of the same peer is there is told of them.
async fn let_go(socket: &Arc<Socket>) {
    match socket.shared.store.release(socket.lease).await {
        Ok(0) => {}
        Ok(_) => socket.shared.wake(socket.name.clone()),
        Err(error) => warn!(%error, "messages that were not received wait until their lease is over"),
    }
}
