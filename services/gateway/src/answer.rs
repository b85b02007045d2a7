//! The upstream's body on its way down: passed on chunk by chunk, and cut off rather than ended when it is not whole.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use awc::ClientResponse;
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep};

use tokio::sync::OwnedSemaphorePermit;

use crate::{body::ClientBody, listen::seat::Busy, upstream::Outstanding};

/// Why an answer was cut off: its head is gone to the client already, so that only the connection's end can tell.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The upstream was silent for too long.
    #[error("the upstream paused for too long within its answer")]
    Stalled,
    /// The upstream broke off.
    #[error("the upstream broke off within its answer")]
    Broken,
}

/// An upstream's body.
pub struct Answer {
    response: ClientResponse,
    size: BodySize,
    left_bytes: Option<u64>,
    pause: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
    _outstanding: Outstanding,
}

impl Answer {
    /// The body of `response`: of `bytes` when they are known, with pauses of at most `pause`; its replica has it at work until it ends.
    pub fn new(
        response: ClientResponse,
        bytes: Option<u64>,
        pause: Duration,
        outstanding: Outstanding,
    ) -> Self {
        Self {
            response,
            size: bytes.map_or(BodySize::Stream, BodySize::Sized),
            left_bytes: bytes,
            pause,
            timer: Box::pin(sleep(pause)),
            waiting: false,
            _outstanding: outstanding,
        }
    }
}

impl MessageBody for Answer {
    type Error = Cut;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let this = self.get_mut();
        loop {
            let Poll::Ready(item) = Pin::new(&mut this.response).poll_next(cx) else {
                if !this.waiting {
                    this.waiting = true;
                    this.timer.as_mut().reset(Instant::now() + this.pause);
                }
                ready!(this.timer.as_mut().poll(cx));
                return Poll::Ready(Some(Err(Cut::Stalled)));
            };
            this.waiting = false;
            return Poll::Ready(match item {
                // An empty chunk would end a chunked body.
                Some(Ok(chunk)) if chunk.is_empty() => continue,
                Some(Ok(chunk)) => {
                    let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
                    match this.left_bytes.map(|left| left.checked_sub(length)) {
                        Some(None) => Some(Err(Cut::Broken)),
                        left => {
                            this.left_bytes = left.flatten();
                            Some(Ok(chunk))
                        }
                    }
                }
                Some(Err(_)) => Some(Err(Cut::Broken)),
                None if this.left_bytes.is_some_and(|left| left > 0) => Some(Err(Cut::Broken)),
                None => None,
            });
        }
    }
}

/// The body of an answer to HEAD: its size is told, nothing is sent.
pub struct Untold(pub BodySize);

impl MessageBody for Untold {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(None)
    }
}

/// Any body, and what must live for as long as it is sent.
pub struct BodyWithGuards {
    body: BoxBody,
    _request: Option<ClientBody>,
    busy: Option<(Busy, Option<OwnedSemaphorePermit>)>,
}

impl BodyWithGuards {
    /// Keeps the request's body, or the marks that the connection and a place are in use, until `body` is sent.
    pub fn new(
        body: BoxBody,
        request: Option<ClientBody>,
        busy: Option<(Busy, Option<OwnedSemaphorePermit>)>,
    ) -> Self {
        Self { body, _request: request, busy }
    }
}

impl MessageBody for BodyWithGuards {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_next(cx);
        if let (Poll::Ready(Some(Ok(chunk))), Some((busy, _))) = (&polled, &this.busy) {
            busy.look_at(chunk);
        }
        polled
    }
}
