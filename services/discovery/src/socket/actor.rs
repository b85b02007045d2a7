//! The actor of a socket: its mailbox takes the frames of its client, one at a time; beside them it waits for what ends it and hands messages over.

use std::{convert::Infallible, sync::Arc, time::Duration};

use orrery_supervise::{Actor, ActorError, ActorRef, Handle, Life, Mailbox, Message};
use tokio::time::sleep;

use super::{Close, FAREWELL, Socket, delivery, protocol};

/// A text frame of the client.
pub struct Frame(pub String);

impl Message for Frame {
    type Result = ();
}

/// The actor.
pub struct SocketActor {
    socket: Arc<Socket>,
}

impl Actor for SocketActor {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        life.run(attend(Arc::clone(&self.socket)));
        Ok(())
    }
}

impl Handle<Frame> for SocketActor {
    fn handle(&mut self, Frame(text): Frame) -> impl Future<Output = ()> + 'static {
        protocol::handle(Arc::clone(&self.socket), text)
    }
}

impl Drop for SocketActor {
    fn drop(&mut self) {
        // A life that ends badly takes its connection with it.
        self.socket.outgoing.close(Close::Fault);
    }
}

/// Starts the actor of a socket. It holds the socket as long as it lives.
pub fn start(socket: &Arc<Socket>) -> ActorRef<SocketActor> {
    let mailbox = Mailbox { capacity: socket.shared.limits.frames_capacity, concurrency: 1 };
    let held = Arc::clone(socket);
    socket
        .shared
        .supervisor
        .start_transient("discovery.socket", mailbox, move || SocketActor { socket: Arc::clone(&held) })
}

/// Attends to a socket until its connection is gone.
async fn attend(socket: Arc<Socket>) -> Result<(), Infallible> {
    let until_expiry = (socket.expires_at - socket.shared.clock.now()).to_std().unwrap_or_default();
    let mut stopping = socket.shared.stopping.clone();
    let ends = async {
        tokio::select! {
            () = sleep(until_expiry) => socket.outgoing.close(Close::Expired),
            () = stopping.requested() => {
                // Not all at once: they come back to the replicas that are left.
                sleep(Duration::from_secs(1).mul_f64(socket.shared.random.fraction())).await;
                socket.outgoing.close(Close::Restart);
            }
            () = socket.outgoing.closed() => {}
        }
        // The reader waits for the client's answer, and cuts the connection then.
        sleep(FAREWELL * 2).await;
    };
    let over = async {
        tokio::select! {
            () = socket.gone() => {}
            () = ends => {}
        }
        socket.outgoing.finish();
    };
    delivery::hand_over(&socket, over).await;
    Ok(())
}
