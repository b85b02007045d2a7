//! The bytes of one connection, with TLS or without, and the patience with a client that neither asks nor reads. What the HTTP parser would
//! refuse with an empty answer is refused with a problem document here.

use std::{
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::{Instant, Sleep, sleep_until},
};
use tokio_rustls::server::TlsStream;

use super::{farewell::Farewell, last_words, seat::Seat};

/// What carries the bytes.
pub enum Carrier {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over one of them.
    Tls(Box<TlsStream<Self>>),
}

/// How long a client is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Without a request at work.
    pub idle: Duration,
    /// For taking in an answer, without any progress.
    pub write: Duration,
}

/// One connection.
pub struct Wire {
    carrier: Carrier,
    seat: Rc<Seat>,
    patience: Patience,
    idle: Option<Pin<Box<Sleep>>>,
    stalled: Option<Pin<Box<Sleep>>>,
    /// What is written beside what we are given: in place of the parser's empty answer, or between two frames.
    last: BytesMut,
    speech: Speech,
}

/// What the bytes are.
pub enum Speech {
    /// HTTP/1.
    Text,
    /// HTTP/2.
    Frames(Farewell),
}

impl Wire {
    /// A connection.
    pub fn new(carrier: Carrier, seat: Rc<Seat>, patience: Patience, speech: Speech) -> Self {
        Self { carrier, seat, patience, idle: None, stalled: None, last: BytesMut::new(), speech }
    }

    /// What requests know of the connection.
    pub fn seat(&self) -> &Rc<Seat> {
        &self.seat
    }

    /// Ends a connection that is idle for too long, by an error.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.seat.requests() > 0 {
            // Looked at again when the next read waits; one that waits now is woken by the request's end.
            self.idle = None;
            return Poll::Pending;
        }
        let mut until = self.seat.idle_since() + self.patience.idle;
        // What was told to end does so once its last answer is written.
        if let Speech::Frames(farewell) = &self.speech
            && self.stalled.is_none()
            && let Some(ends) = farewell.ends(self.seat.idle_since())
        {
            until = until.min(ends);
        }
        let timer = self.idle.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Ends a connection whose client takes nothing in for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let until = Instant::now() + self.patience.write;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    fn poll_carrier_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.carrier).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                self.stalled = None;
                Poll::Ready(written)
            }
            Poll::Pending => self.poll_stalled(cx).map(Err),
        }
    }

    /// Tells the client of the process's end, when that is near.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) {
        if let Speech::Frames(farewell) = &mut self.speech
            && let Some(notice) = farewell.poll_notice(cx)
        {
            self.last.extend_from_slice(notice);
        }
    }

    /// Writes what lies in `last`.
    fn poll_last(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.last.is_empty() {
            let bytes = self.last.clone();
            let written = ready!(self.poll_carrier_write(cx, &bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            drop(self.last.split_to(written.min(self.last.len())));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (filled, room) = (buffer.filled().len(), buffer.remaining());
        match Pin::new(&mut this.carrier).poll_read(cx, buffer) {
            Poll::Pending => {
                this.poll_farewell(cx);
                if let Poll::Ready(Err(error)) = this.poll_last(cx) {
                    return Poll::Ready(Err(error));
                }
                this.poll_idle(cx)
            }
            Poll::Ready(read) => {
                if read.is_err() || (room > 0 && buffer.filled().len() == filled) {
                    this.seat.leave();
                }
                Poll::Ready(read)
            }
        }
    }
}

/// Over HTTP/2 requests are served on after their connection has ended.
impl Drop for Wire {
    fn drop(&mut self) {
        self.seat.leave();
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll_farewell(cx);
        ready!(this.poll_last(cx))?;
        if matches!(this.speech, Speech::Text)
            && this.seat.requests() == 0
            && !this.seat.may_mislead()
            && let Some(begin) = last_words::begin(bytes)
        {
            if begin == 0 {
                let document = last_words::document(bytes);
                this.last.extend_from_slice(document.as_deref().unwrap_or(bytes));
                return Poll::Ready(Ok(bytes.len()));
            }
            // What comes before it first; the rest is offered again.
            return this.poll_carrier_write(cx, bytes.get(..begin).unwrap_or(bytes));
        }
        let written = ready!(this.poll_carrier_write(cx, bytes))?;
        if let Speech::Frames(farewell) = &mut this.speech {
            farewell.wrote(bytes.get(..written).unwrap_or_default());
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_last(cx))?;
        Pin::new(&mut this.carrier).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_last(cx))?;
        ready!(Pin::new(&mut this.carrier).poll_flush(cx))?;
        Pin::new(&mut this.carrier).poll_shutdown(cx)
    }
}

impl AsyncRead for Carrier {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
