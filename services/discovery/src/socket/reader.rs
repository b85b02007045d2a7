//! Reads a connection and gives its frames to the actor of its socket, one after the other: a client that is faster than its actor waits in TCP.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    rt::time::{sleep, timeout},
    web::Payload,
};
use futures_util::StreamExt;
use orrery_supervise::ActorRef;

use super::{
    Close, FAREWELL, Socket,
    actor::{Frame, SocketActor},
    frames::{Frames, Message},
};

/// How long a frame may take to be handled.
const LIMIT: Duration = Duration::from_secs(20);
/// How much of a client that is closed is still read, so that it reads our reason.
const REST_BYTES: usize = 4 * 1024 * 1024;

/// Reads until the connection ends or the socket is closed, and takes leave.
pub async fn read(socket: Arc<Socket>, actor: ActorRef<SocketActor>, mut payload: Payload) {
    let close = frames(&socket, &actor, &mut payload).await;
    if let Some(close) = close {
        socket.outgoing.close(close);
        // A connection that is closed with unread bytes is reset, and the client would never read why.
        let rest = async {
            let mut bytes = 0;
            while let Some(Ok(chunk)) = payload.next().await {
                bytes += chunk.len();
                if bytes > REST_BYTES {
                    return;
                }
            }
        };
        if close != Close::Asked {
            // It is cut, whether it has answered or not.
            let _cut = timeout(FAREWELL, rest).await.is_err();
        }
    }
    socket.outgoing.finish();
    socket.hang_up();
}

/// Why the socket is to be closed; none when the connection is gone.
async fn frames(socket: &Arc<Socket>, actor: &ActorRef<SocketActor>, payload: &mut Payload) -> Option<Close> {
    let limits = &socket.shared.limits;
    let mut frames = Frames::new(limits.frame);
    let (mut heard, mut pinged) = (Instant::now(), Instant::now());
    loop {
        let idle = limits.idle.saturating_sub(heard.elapsed());
        let ping = limits.ping.saturating_sub(pinged.elapsed());
        tokio::select! {
            chunk = payload.next() => {
                let Some(Ok(chunk)) = chunk else { return None };
                frames.extend(&chunk);
                heard = Instant::now();
            }
            () = socket.outgoing.closed() => return socket.outgoing.why_closed(),
            () = sleep(idle.min(ping)) => {
                if heard.elapsed() >= limits.idle {
                    return Some(Close::Idle);
                }
                pinged = Instant::now();
                socket.outgoing.ping(&socket.receipt.payload());
                continue;
            }
        }
        loop {
            match frames.next() {
                Ok(Some(Message::Text(text))) => {
                    let Ok(text) = String::from_utf8(text.to_vec()) else { return Some(Close::Invalid) };
                    tokio::select! {
                        sent = actor.send(Frame(text), LIMIT) => if sent.is_err() { return Some(Close::Fault) },
                        () = socket.outgoing.closed() => return socket.outgoing.why_closed(),
                    }
                }
                Ok(Some(Message::Ping(payload))) => socket.outgoing.pong(&payload),
                Ok(Some(Message::Pong(payload))) => socket.receipt.given(&payload),
                Ok(Some(Message::Close)) => return Some(Close::Asked),
                Ok(None) => break,
                Err(close) => return Some(close),
            }
        }
        frames.rest();
    }
}
