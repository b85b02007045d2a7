//! The client's body on its way up: counted, paced and never gathered. The upstream's on its way down lives in `answer`.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::{
    HttpMessage, HttpRequest,
    dev::Payload,
    http::{Method, Version, header},
};
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep};

/// How much is awaited before an upstream is troubled; a whole form fits. No less than awc gathers before it sends a
/// head (8 KiB): it would else keep the head of a slow client's request back, and the upstream's patience would end.
const AWAITED_BYTES: u64 = 8 * 1024;

/// How a client frames its body (RFC 9112, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body, and no word of one.
    None,
    /// So many bytes.
    Sized(u64),
    /// Until the last chunk.
    Chunked,
}

/// Why a body ended early; it is the client's fault each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The client paused for too long.
    #[error("the body came too slowly")]
    Slow,
    /// More came than the route takes.
    #[error("the body is too large")]
    Large,
    /// The client went away, or its framing is broken.
    #[error("the body is broken")]
    Broken,
}

/// A body that several tries can share, as long as none has begun to read it.
///
/// Whoever keeps a clone keeps the connection from being used for another request before this body ended: actix would
/// else read the rest of an unwanted chunked body for as long as a client cares to send it.
#[derive(Clone)]
pub struct ClientBody(Rc<Inner>);

struct Inner {
    payload: RefCell<Payload>,
    awaited: RefCell<VecDeque<Bytes>>,
    ended: Cell<bool>,
    timer: RefCell<Pin<Box<Sleep>>>,
    most_bytes: u64,
    framing: Framing,
    pause: Duration,
    deadline: Instant,
    seen_bytes: Cell<u64>,
    started: Cell<bool>,
    waiting: Cell<bool>,
    since: Cell<Instant>,
    fault: Cell<Option<Fault>>,
}

impl Framing {
    /// How this request's body is framed; `None` when its head contradicts itself.
    pub fn of(request: &HttpRequest) -> Option<Self> {
        if request.chunked().ok()? {
            return Some(Self::Chunked);
        }
        match request.headers().get(header::CONTENT_LENGTH) {
            // HTTP/2 ends a body by a flag, and needs to say nothing of it before.
            None if request.version() == Version::HTTP_2
                && !matches!(
                    *request.method(),
                    Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE
                ) =>
            {
                Some(Self::Chunked)
            }
            None => Some(Self::None),
            Some(length) => length.to_str().ok()?.trim().parse().ok().map(Self::Sized),
        }
    }

    /// How many bytes were announced, if any were.
    const fn bytes(self) -> Option<u64> {
        match self {
            Self::Sized(bytes) => Some(bytes),
            Self::None | Self::Chunked => None,
        }
    }
}

impl ClientBody {
    /// A body of at most `most_bytes`, with pauses of at most `pause`, which is there after `whole`: a trickle without a
    /// pause would else hold its connection for ever.
    pub fn new(
        payload: Payload,
        framing: Framing,
        most_bytes: u64,
        pause: Duration,
        whole: Duration,
    ) -> Self {
        Self(Rc::new(Inner {
            payload: RefCell::new(payload),
            awaited: RefCell::default(),
            ended: Cell::new(false),
            timer: RefCell::new(Box::pin(sleep(pause))),
            most_bytes,
            framing,
            pause,
            deadline: Instant::now() + whole,
            seen_bytes: Cell::new(0),
            started: Cell::new(false),
            waiting: Cell::new(false),
            since: Cell::new(Instant::now()),
            fault: Cell::new(None),
        }))
    }

    /// Waits for the whole body, or for enough of it to begin with. Slow clients wait here, at no upstream's cost.
    ///
    /// # Errors
    /// When the body fails; `fault` says the same.
    pub async fn begin(&self) -> Result<(), Fault> {
        while self.0.seen_bytes.get() < AWAITED_BYTES {
            match poll_fn(|cx| self.poll_client(cx)).await {
                Some(chunk) => self.0.awaited.borrow_mut().push_back(chunk?),
                None => break,
            }
        }
        Ok(())
    }

    /// Whether anyone began to read it; from then on no other upstream can be tried.
    pub fn started(&self) -> bool {
        self.0.started.get()
    }

    /// Why it ended early.
    pub fn fault(&self) -> Option<Fault> {
        self.0.fault.get()
    }

    /// Whether the client has nothing more to send.
    pub fn is_whole(&self) -> bool {
        let inner = &*self.0;
        let is_whole = match inner.framing {
            Framing::None => true,
            Framing::Sized(bytes) => inner.ended.get() || inner.seen_bytes.get() == bytes,
            Framing::Chunked => inner.ended.get(),
        };
        inner.fault.get().is_none() && is_whole
    }

    /// Since when it is the upstream's turn; none while the client is awaited.
    pub fn upstreams_turn(&self) -> Option<Instant> {
        (!self.0.waiting.get()).then(|| self.0.since.get())
    }

    fn fail(&self, fault: Fault) -> Poll<Option<Result<Bytes, Fault>>> {
        self.0.fault.set(Some(fault));
        Poll::Ready(Some(Err(fault)))
    }

    fn poll_client(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        let inner = &*self.0;
        if let Some(fault) = inner.fault.get() {
            return Poll::Ready(Some(Err(fault)));
        }
        if inner.ended.get() {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut *inner.payload.borrow_mut()).poll_next(cx);
        let Poll::Ready(item) = polled else {
            let mut timer = inner.timer.borrow_mut();
            if !inner.waiting.replace(true) {
                timer.as_mut().reset((Instant::now() + inner.pause).min(inner.deadline));
            }
            ready!(timer.as_mut().poll(cx));
            return self.fail(Fault::Slow);
        };
        inner.waiting.set(false);
        inner.since.set(Instant::now());
        match item {
            None if inner.framing.bytes().is_some_and(|bytes| inner.seen_bytes.get() != bytes) => {
                self.fail(Fault::Broken)
            }
            None => {
                inner.ended.set(true);
                Poll::Ready(None)
            }
            Some(Err(_)) => self.fail(Fault::Broken),
            Some(Ok(_)) if Instant::now() >= inner.deadline => self.fail(Fault::Slow),
            Some(Ok(chunk)) => {
                let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
                let seen = inner.seen_bytes.get().saturating_add(length);
                inner.seen_bytes.set(seen);
                if inner.framing.bytes().is_some_and(|bytes| seen > bytes) {
                    self.fail(Fault::Broken)
                } else if seen > inner.most_bytes {
                    self.fail(Fault::Large)
                } else {
                    Poll::Ready(Some(Ok(chunk)))
                }
            }
        }
    }
}

impl Stream for ClientBody {
    type Item = Result<Bytes, Fault>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.started.set(true);
        let awaited = self.0.awaited.borrow_mut().pop_front();
        match awaited {
            Some(chunk) => {
                self.0.since.set(Instant::now());
                Poll::Ready(Some(Ok(chunk)))
            }
            None => self.poll_client(cx),
        }
    }
}
