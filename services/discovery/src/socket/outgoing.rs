//! What goes out to a client: a buffer with a limit in bytes, which is the body of the answer to its upgrade. A client that lets it fill is closed.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use actix_http::ws::{OpCode, Parser};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::sync::Notify;

use super::Close;

/// How much is given to the connection at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Where frames for a client go; clones are the same one.
#[derive(Clone)]
pub struct Outgoing(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    limit: usize,
    /// Told when the socket is closed.
    closed: Notify,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Why nothing more is taken.
    close: Option<Close>,
    /// Whether the body ends when it is empty.
    is_over: bool,
    waker: Option<Waker>,
}

/// The body of the answer to an upgrade; it ends the socket when it is dropped.
pub struct Body(Outgoing);

impl Outgoing {
    /// A buffer of `limit` bytes, and the body that empties it.
    pub fn new(limit: usize) -> (Self, Body) {
        let outgoing = Self(Arc::new(Inner { state: Mutex::default(), limit, closed: Notify::new() }));
        (outgoing.clone(), Body(outgoing))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A text frame.
    pub fn text(&self, text: &str) {
        self.frame(OpCode::Text, text.as_bytes());
    }

    /// A ping.
    pub fn ping(&self, payload: &[u8]) {
        self.frame(OpCode::Ping, payload);
    }

    /// The answer to one.
    pub fn pong(&self, payload: &[u8]) {
        self.frame(OpCode::Pong, payload);
    }

    fn frame(&self, code: OpCode, payload: &[u8]) {
        let mut bytes = BytesMut::with_capacity(payload.len() + 10);
        Parser::write_message(&mut bytes, payload, code, true, false);
        let mut state = self.lock();
        if state.close.is_some() {
            return;
        }
        if state.bytes + bytes.len() > self.0.limit {
            // What it did not read by now it will not read in time.
            state.frames.clear();
            state.bytes = 0;
            drop(state);
            return self.close(Close::TooSlow);
        }
        state.bytes += bytes.len();
        state.frames.push_back(bytes.freeze());
        wake(&mut state);
    }

    /// Closes the socket, once; nothing is taken after it.
    pub fn close(&self, close: Close) {
        let (code, reason, _) = close.told();
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        let mut bytes = BytesMut::with_capacity(payload.len() + 10);
        Parser::write_message(&mut bytes, &payload, OpCode::Close, true, false);
        let mut state = self.lock();
        if state.close.is_some() {
            return;
        }
        state.close = Some(close);
        state.bytes += bytes.len();
        state.frames.push_back(bytes.freeze());
        wake(&mut state);
        drop(state);
        self.0.closed.notify_waiters();
    }

    /// Ends the body once it is empty.
    pub fn finish(&self) {
        self.close(Close::Fault);
        let mut state = self.lock();
        state.is_over = true;
        wake(&mut state);
    }

    /// Why it is closed, if it is.
    pub fn why_closed(&self) -> Option<Close> {
        self.lock().close
    }

    /// Returns when it is closed.
    pub async fn closed(&self) {
        loop {
            let mut closed = std::pin::pin!(self.0.closed.notified());
            closed.as_mut().enable();
            if self.why_closed().is_some() {
                return;
            }
            closed.await;
        }
    }
}

fn wake(state: &mut State) {
    if let Some(waker) = state.waker.take() {
        waker.wake();
    }
}

impl Stream for Body {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut state = self.0.lock();
        let Some(first) = state.frames.pop_front() else {
            if state.is_over {
                return Poll::Ready(None);
            }
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.bytes = state.bytes.saturating_sub(first.len());
        if state.frames.is_empty() || first.len() >= CHUNK_BYTES {
            return Poll::Ready(Some(Ok(first)));
        }
        let mut chunk = BytesMut::from(first.as_ref());
        while let Some(next) = state.frames.front()
            && chunk.len() + next.len() <= CHUNK_BYTES
        {
            chunk.extend_from_slice(next);
            state.bytes = state.bytes.saturating_sub(next.len());
            state.frames.pop_front();
        }
        if state.frames.is_empty() {
            // A burst is over, and an idle socket is to be small.
            state.frames = VecDeque::new();
        }
        Poll::Ready(Some(Ok(chunk.freeze())))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // The connection is gone; who reads from it hears of that.
        self.0.finish();
        let mut state = self.0.lock();
        state.frames = VecDeque::new();
        state.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    fn drain(body: &mut Body) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(Some(Ok(chunk))) = body.next().now_or_never() {
            all.extend_from_slice(&chunk);
        }
        all
    }

    #[test]
    fn frames_come_out_in_order_and_end_with_the_close() {
        let (outgoing, mut body) = Outgoing::new(1024);
        outgoing.text("a");
        outgoing.text("b");
        outgoing.close(Close::Asked);
        outgoing.text("c");
        assert_eq!(drain(&mut body), [0x81, 1, b'a', 0x81, 1, b'b', 0x88, 2, 0x03, 0xe8]);
        assert!(body.next().now_or_never().is_none());
        outgoing.finish();
        assert!(matches!(body.next().now_or_never(), Some(None)));
    }

    #[test]
    fn a_client_that_does_not_read_is_closed_and_its_frames_are_let_go() {
        let (outgoing, mut body) = Outgoing::new(64);
        (0..7).for_each(|_| outgoing.text("12345678"));
        assert_eq!(outgoing.why_closed(), Some(Close::TooSlow));
        assert_eq!(drain(&mut body).first(), Some(&0x88));
    }
}
