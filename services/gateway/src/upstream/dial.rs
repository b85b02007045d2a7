//! A connection to an upstream that tells the truth: awc takes an end of the stream for the end of a chunked body, and
//! throws an answer away that comes before the whole request was sent. Pooling and HTTP are awc's.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use actix_web::{
    dev::Service,
    http::Uri,
    rt::net::{ActixStream, Ready},
};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    endpoint::Endpoint,
    link::{self, Link, Tls},
};

/// How much of an early answer is kept; a problem document fits many times.
const EARLY_BYTES: usize = 16 * 1024;

/// Opens such connections to the replicas that it was shown; their names are resolved elsewhere.
#[derive(Clone)]
pub struct Dial {
    shown: Rc<RefCell<HashMap<String, Weak<Endpoint>>>>,
    tls: Option<Tls>,
    limit: Duration,
}

impl Dial {
    /// Opens them within `limit`.
    pub fn new(tls: Option<Tls>, limit: Duration) -> Self {
        Self { shown: Rc::default(), tls, limit }
    }

    /// Makes a replica known by its host.
    pub fn show(&self, endpoint: &Arc<Endpoint>) {
        let mut shown = self.shown.borrow_mut();
        let host = endpoint.host();
        if !shown.contains_key(&host) {
            // Those that are gone would else be kept for ever.
            shown.retain(|_, endpoint| endpoint.strong_count() > 0);
            shown.insert(host, Arc::downgrade(endpoint));
        }
    }
}

impl Service<ConnectInfo<Uri>> for Dial {
    type Response = Connection<Uri, Socket>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, to: ConnectInfo<Uri>) -> Self::Future {
        let endpoint = self.shown.borrow().get(to.hostname()).and_then(Weak::upgrade);
        let (tls, limit, uri) = (self.tls.clone(), self.limit, to.request().clone());
        Box::pin(async move {
            let endpoint = endpoint.ok_or(ConnectError::NoRecords)?;
            let link = link::connect(&endpoint, tls.as_ref(), limit)
                .await
                .map_err(|error| ConnectError::Io(io::Error::other(error)))?;
            Ok(Connection::new(
                uri,
                Socket { stream: link, early: Bytes::new(), broken: None, answered: false },
            ))
        })
    }
}

/// One connection.
#[derive(Debug)]
pub struct Socket {
    stream: Link,
    /// What came while the request was still being sent.
    early: Bytes,
    /// How writing failed, for ever.
    broken: Option<io::ErrorKind>,
    /// It failed after an answer: the rest of the request goes nowhere, and the answer is read.
    answered: bool,
}

impl Socket {
    /// Reads what came early; false as long as nothing did, and no end either.
    fn listen(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.early.is_empty() {
            return true;
        }
        let mut space = [0; EARLY_BYTES];
        let mut buffer = ReadBuf::new(&mut space);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => self.early = Bytes::copy_from_slice(buffer.filled()),
            // Met again by whoever reads or writes next.
            Poll::Ready(Err(_)) => {}
        }
        true
    }
}

fn gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset | ConnectionAborted)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.early.is_empty() {
            let length = this.early.len().min(buffer.remaining());
            buffer.put_slice(&this.early.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            // Every answer tells its length, so that an end is always a break.
            Poll::Ready(Ok(())) if buffer.filled().len() == before => {
                Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            polled => polled,
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.broken.is_none() {
            this.listen(cx);
            match Pin::new(&mut this.stream).poll_write(cx, bytes) {
                Poll::Ready(Err(error)) if gone(&error) => this.broken = Some(error.kind()),
                polled => return polled,
            }
        }
        // What came before the break may lie unread: tokio learns of it later than of the failed write.
        if !this.listen(cx) {
            return Poll::Pending;
        }
        Poll::Ready(match this.broken {
            Some(kind) if !this.answered && this.early.is_empty() => Err(kind.into()),
            _ => {
                this.answered = true;
                Ok(bytes.len())
            }
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl ActixStream for Socket {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.stream.tcp().poll_read_ready(cx).map_ok(|()| Ready::READABLE)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.stream.tcp().poll_write_ready(cx).map_ok(|()| Ready::WRITABLE)
    }
}
